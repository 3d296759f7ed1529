"""A project of version 0.1.0 is upgraded: messages, pki.yaml, templates; nothing is issued again without a reason."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from pki import __version__
from pki.common import state_format
from pki.common.errors import PkiError
from pki.config import editing, loader
from pki.monitor.report.run import Run
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import PROJECT, Home

ARCHIVE = PROJECT / "tests/upgrade/project-0.1.0.tar.xz"
LACKING = ["prometheus/doit-pki.rules.yml", "tls/upstream-ca.pem"]
RENAMED = """\
pki.yaml:12: authorities.root.crl.rungs: unknown key: it is called presigned now
pki.yaml:12: authorities.root.handover: unknown key: it is called overlap now
pki.yaml:17: profiles.server.spread: unknown key: it is called renew_spread now
"""


@pytest.fixture
def old(tmp_path: Path) -> Home:
    """A project as version 0.1.0 left it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old", filter="tar")
    return Home(tmp_path / "old")


@pytest.fixture
def invoke(old: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(old.path), pki_now=old.moment(2))

    return call


def rename(home: Home) -> None:
    """Do what the messages ask for."""
    for word, new in (("rungs", "presigned"), ("handover", "overlap"), ("spread", "renew_spread")):
        home.edit(f"{word}:", f"{new}:")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def settled(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files that commands which only read must not change: all except caches, and the head that they saw."""
    seen = ("build/", "ca/ledger.db-", "ca/.cache", "ca/.ledger-head.json")
    return {name: data for name, data in files.items() if not name.startswith(seen)}


def test_a_project_of_0_1_0_is_upgraded(old: Home, invoke: Invoke) -> None:
    before = contents(old.path)
    said = invoke("plan")
    assert (said.status, said.error) == (3, RENAMED)
    assert contents(old.path) == before  # nothing is done before pki.yaml is right
    rename(old)
    renamed = old.read("pki.yaml").decode()
    for arguments in (["status"], ["health", "--offline"], ["explain", "media"], ["timeline"]):
        assert "ledger" not in invoke(*arguments).error
        assert settled(contents(old.path)) == settled(before) | {"pki.yaml": renamed.encode()}
    said = invoke("plan")
    assert f"the last run was by a version before 0.2.0, this is {__version__}" in said.out
    assert "its receipt is" not in said.out  # older records are read, not called damaged
    assert "its manifest is" not in said.out
    assert f"the project lacks 2 templates ({', '.join(LACKING)})" in " ".join(said.out.split())
    assert settled(contents(old.path)) == settled(before) | {"pki.yaml": renamed.encode()}
    report = old.doit(days=2)
    assert report.status == 0, report.failed
    text = old.read("pki.yaml").decode()
    assert text.startswith(renamed)  # every line and comment stays
    assert loader.load(old.path / "pki.yaml").templates.without == tuple(LACKING)  # type: ignore[union-attr]
    assert {name for name in report.made if name.startswith(("cert:", "crl:", "authority:"))} == {"cert:client-admin"}
    assert report.made["cert:client-admin"].startswith("lacked admin.client.lab.internal; its CN changed")
    hosts = {name: data for name, data in before.items() if name.startswith("build/hosts/")}
    changed = {
        name
        for name, data in contents(old.path / "build/hosts").items()
        if not name.startswith(".") and hosts.get(f"build/hosts/{name}") != data
    }
    assert changed == {"monitoring/var/www/pki/index.html"}  # the trust page: no template
    assert old.doit(days=2).made == {}
    state = state_format.read(old.path / "ca")
    assert state
    assert (state.format, state.keeps_templates) == (state_format.FORMAT, True)
    old.write("pki.yaml", renamed)  # as a checkout of git does that does not have the new lines
    assert old.doit(days=2).made == {}
    assert old.read("pki.yaml").decode() == text


def test_copies_of_0_1_0_are_recognised_and_replaced_by_a_command(old: Home, invoke: Invoke) -> None:
    rename(old)
    assert old.doit(days=2).status == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in invoke("templates.list").out.splitlines() if line}
    assert rows["caddy/Caddyfile"] == "project changed unknown"
    assert rows["tls/tls.pem"] == f"project unchanged copy {__version__}"
    assert rows["haproxy/haproxy.cfg"] == "project unchanged copy; the program has a newer version 0.1.0"
    assert rows["tls/upstream-ca.pem"] == "without not used"
    assert "unchanged copies of an earlier version; the program has newer ones" in invoke("plan").out
    assert invoke("templates.remove-copies").status == 0
    assert old.doit(days=2).made == {}
    assert invoke("templates.remove-copies", "--outdated").status == 0
    left = sorted(path.name for path in (old.path / "templates").rglob("*") if path.is_file())
    assert left == [".versions.json", "Caddyfile"]  # the former keeps the folder in git
    report = old.doit(days=2)
    assert report.status == 0, report.failed
    assert {"release:monitoring", "release:forge"} <= set(report.made)
    assert "release:media" not in report.made
    assert "unchanged copies" not in invoke("plan").out


def test_a_pki_yaml_that_cannot_be_edited_stops_the_run_with_the_lines_to_write(
    old: Home, invoke: Invoke, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_edit: editing.Edit) -> None:
        raise PkiError("pki.yaml: cannot be written: Read-only file system", "remount it")

    rename(old)
    monkeypatch.setattr(editing, "write", refuse)
    before = contents(old.path / "ca"), contents(old.path / "build/hosts")
    lines = "".join(f"    - {name}\n" for name in LACKING)
    hint = f"→ write this into pki.yaml yourself, then type the same command again:\ntemplates:\n  without:\n{lines}"
    for fault in ("cannot be written: Read-only file system", "has a layout that this program cannot edit"):
        assert Run(old.path, old.moment(2)).main([]) == 3
        said = capsys.readouterr().err
        assert fault in said
        assert hint in said
        assert (contents(old.path / "ca"), contents(old.path / "build/hosts")) == before
        monkeypatch.undo()
        old.write("pki.yaml", f"{old.read('pki.yaml').decode()}...\n")  # ends the document: nothing can be added
    old.write(
        "pki.yaml", old.read("pki.yaml").decode().removesuffix("...\n").removesuffix("...\n") + hint.partition(":\n")[2]
    )
    assert old.doit(days=2).status == 0
    assert invoke("plan").status == 0
