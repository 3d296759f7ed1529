"""Drift: what differs from what was deployed, told once, known to every command, and repaired by the next run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pki.common.reasons import Why
from pki.deploy import drift
from pki.deploy.host_output import FileStatus
from pki.deploy.protocol import FileState, ManifestRow
from pki.deploy.release import File
from pki.monitor import probes
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report
from tests.support.commands import Invoke
from tests.support.invoked import invoke
from tests.support.projects import START, Home
from tests.support.remote_hosts import remote

__all__ = ["invoke", "remote"]


@pytest.fixture(autouse=True)
def _no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe_services", lambda *_: ())


def hosts(home: Home, *, thorough: bool = True) -> dict[str, Finding]:
    run = LastRun.load(home.project().store)
    return {one.subject: one for one in health_report.run_checks(home.project(), home.plan(), run, thorough=thorough)}


def seen(file: File, state: str, sha256: str = "") -> FileState:
    return FileState(ManifestRow(1, file), FileStatus(state), sha256 or file.sha256)


def test_what_was_not_deployed_yet_is_no_drift(remote: Home) -> None:
    """A new CRL, a new mode, a new file: what is on the host is what was deployed there."""
    receipt = remote.plan().deliveries["media"].records.receipt
    assert receipt
    [crl, *_] = [one for one in receipt.files if one["path"].endswith("media.pem")]
    old = File(crl["path"], crl["mode"], crl["owner"], crl["sha256"], "", "", "", "")
    new = replace(old, sha256="1" * 64)
    assert drift.drift_reasons([seen(new, "edited", old.sha256), seen(old, "same"), seen(old, "owed")], receipt) == ()
    assert (
        drift.drift_reasons([seen(replace(old, mode="0600"), "mode"), seen(old, "set"), seen(old, "extra")], receipt)
        == ()
    )
    assert drift.drift_reasons([seen(replace(old, path="/etc/new"), "absent", "")], receipt) == ()
    assert drift.drift_reasons([seen(new, "edited", "2" * 64)], receipt) == (Why.EDITED(file=old.path),)
    others = [seen(old, "mode"), seen(old, "owner"), seen(old, "special"), seen(old, "absent")]
    assert [one.code for one in drift.drift_reasons(others, receipt)] == [
        Why.FILE_OTHER_MODE,
        Why.FILE_OWNER,
        Why.FILE_SPECIAL,
        Why.DELETED,
    ]
    assert drift.drift_reasons(others, None) == (), "nobody knows what was deployed"


def test_what_a_look_found_makes_the_next_run_deliver_and_is_told_until_then(remote: Home, invoke: Invoke) -> None:
    delivery = remote.plan().deliveries["media"]
    assert delivery.stale(remote.project().cache, START) == []
    found = Why.FILE_OTHER_MODE(file="/etc/doit-pki/media.pem", expected="0600")
    delivery.records.record_drift([found])
    assert remote.plan().deliveries["media"].stale(remote.project().cache, START) == [found]
    check = hosts(remote)["drift:media"]
    assert (check.level, check.message) == (Level.WARNING, f"was changed: {found}")
    plan = invoke(remote, "plan")
    assert (plan.status, str(found) in plan.out) == (2, True)
    contact = delivery.records.contact
    contact.succeeded(START).save(remote.project().store.contact("media"))
    assert "drift:media" not in hosts(remote)


def test_a_revocation_and_a_new_crl_are_no_change_by_somebody_else(home: Home, invoke: Invoke) -> None:
    assert invoke(home, "revoke", "admin", "--reason", "superseded", "--yes").status == 2
    assert not [name for name in hosts(home) if name.startswith("drift:")]
    home.doit(days=8)
    assert not [name for name in hosts(home) if name.startswith("drift:")]


def test_a_folder_that_others_can_write_is_drift_and_is_closed(home: Home, invoke: Invoke) -> None:
    folder: Path = home.path / "build/hosts/media/etc/caddy"
    folder.chmod(0o777)
    said = invoke(home, "deploy.drift", "--host", "media")
    assert (said.status, "/etc/caddy can be written by others: it has mode 0777" in said.out) == (2, True)
    report = home.doit()
    assert report.made == {"deploy:media": "/etc/caddy could be written by others: it had mode 0777"}
    assert folder.stat().st_mode & 0o777 == 0o755
    found = hosts(home)["drift:media"]
    assert (found.level, found.is_over) == (Level.NOTICE, True)
    assert home.doit().made == {}
    assert "drift:media" not in hosts(home)


@pytest.mark.parametrize("place", ["ca/server/server-1", "build/certs", "build/certs/media", "build"])
def test_health_finds_a_folder_of_secrets_that_others_can_write(home: Home, place: str) -> None:
    (home.path / place).chmod(0o777)
    found = hosts(home)[place]
    assert (found.level, found.message) == (
        Level.CRITICAL,
        "lets others replace files in it: its mode is 0777",
    )
    assert str(found.remedy) == f"chmod go-w {place}"
