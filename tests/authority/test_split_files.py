"""The files that are split from the PEM bundle of a leaf: which damage is repaired without a new certificate."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pki.authority import leaf_files
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.project.layout import Store
from tests.support.projects import START, Home

DAY = timedelta(days=1)
LEAF = Leaf("media", "server", "media.lab", ("media.lab",), (), (), "ec-p256", True, DAY, DAY, None, "hosts.media")


@pytest.mark.parametrize(
    ("reasons", "are_split"),
    [
        ([Why.MISSING_FILE(file="chain.pem"), Why.NOT_FROM_PEM(file="cert.pem")], True),
        ([leaf_files.wrong_mode("key.pem", 0o644)], True),
        ([leaf_files.wrong_mode("tls.pem", 0o644)], False),
        ([Why.MISSING_FILE(file="chain.pem"), Why.DUE(left="3", life="90 days", starts="30")], False),
        ([Why.NOT_CREATED()], False),
    ],
)
def test_only_faults_of_split_files_leave_the_certificate_as_it_is(reasons: list[Reason], are_split: bool) -> None:
    """A bundle that others could read is no such fault: its key may be known, so the certificate is replaced."""
    assert leaf_files.are_of_split_files(reasons) is are_split


def test_a_mode_is_named_as_chmod_writes_it() -> None:
    assert dict(leaf_files.wrong_mode("key.pem", 0o644).data) == {"file": "key.pem", "mode": "0644", "expected": "0600"}
    assert dict(leaf_files.wrong_mode("key.pem", None).data)["mode"] == "0000"


def test_a_device_that_keeps_its_key_has_no_files_with_a_key(tmp_path: Any) -> None:
    def names(request: str | None) -> list[str]:
        leaf = Leaf(
            *("box", "server", "box.lab", ("box.lab",), (), (), "ec-p256", True, DAY, DAY), request, "hosts.box"
        )
        return [path.rpartition("/")[2] for path in leaf_files.file_names(Store(tmp_path), leaf)]

    assert names("box.csr") == ["fullchain.pem", "cert.pem", "chain.pem"]
    assert names(None) == ["tls.pem", "key.pem", "cert.pem", "chain.pem", "fullchain.pem"]


def test_a_replacement_that_is_stopped_says_since_when() -> None:
    revocations: Any = SimpleNamespace(replacement_stopped={ArtifactId("cert", "media"): START})
    (reason,) = leaf_files.stopped_reasons(revocations, ArtifactId("cert", "media"))
    assert (reason.code, dict(reason.data)) == (Why.REPLACEMENT_STOPPED, {"date": "2026-11-23"})
    assert leaf_files.stopped_reasons(revocations, ArtifactId("cert", "forge")) == []


def test_the_files_of_a_leaf_without_a_certificate_are_not_damaged(home: Home) -> None:
    """It is not created yet, which is another reason; but a stopped one whose bundle is gone can never be delivered."""
    project = home.project()
    path = project.store.bundle(LEAF)
    path.unlink()
    assert leaf_files.damaged_files(project.store, project.authorities, LEAF) == []
    stopped: Any = SimpleNamespace(replacement_stopped={LEAF.artifact: START})
    codes = [one.code for one in leaf_files.bundle_damage(project.store, project.authorities, stopped, LEAF)]
    assert codes == [Why.REPLACEMENT_STOPPED]
    path.write_bytes(b"damaged")
    (damage,) = leaf_files.damaged_files(project.store, project.authorities, LEAF)
    assert (damage.code, dict(damage.data)) == (Why.DAMAGED, {"file": "tls.pem"})
    project.close(run_succeeded=False)


@pytest.mark.parametrize("renamed", range(4))
def test_a_renewal_that_is_killed_between_its_files_leaves_none_beside_them(home: Home, renamed: int) -> None:
    """The chain of a renewed certificate is the same: the next run has no reason to write it again."""
    home.doit()
    child = os.fork()
    if child == 0:
        _die_after(renamed)
        home.doit("cert:media", days=61)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(home.path.glob("build/certs/media/.*.new"))
    home.doit(days=61)
    assert list(home.path.rglob(".*.new")) == []


def _die_after(renamed: int) -> None:
    """Kill this process when it has renamed so many files of a leaf and begins to rename another one."""
    replace, left = os.replace, [renamed]

    def die(source: Any, target: Any) -> None:
        if "certs/media" in str(target):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        replace(source, target)

    os.replace = die
