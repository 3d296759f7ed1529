"""`restore` after every kind of loss: what is in its way is moved aside, nothing is deleted, no revocation is undone."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sql

from pki.backup import place_files
from pki.backup.archive_format import Archive, BackupFile
from pki.backup.restore import Restore
from pki.common.errors import PkiError
from pki.common.state_format import SHOWN
from pki.ledger.ledger import SqlLedger
from pki.ledger.tables import metadata
from pki.monitor.report.run import Run
from tests.support import judges
from tests.support.ceremonies import RealHome, real_home
from tests.support.commands import Invoke, Said, said_by
from tests.support.locked import takes_the_lock
from tests.support.projects import START, Home

WORDS = "trumpet velvet cactus orbit mango thistle"
pytestmark = pytest.mark.usefixtures("backup")
ASIDE = "ca.before-restore-20261124T060000Z"


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed in `tmp_path`."""

    def call(*arguments: str, home: Path, days: float = 1) -> Said:
        moment = {"pki_now": START + timedelta(days=days), "pki_called_from": str(tmp_path)}
        return said_by(capsys, *arguments, pki_home=str(home), **moment)

    return call


@pytest.fixture
def backup(real: RealHome, tmp_path: Path, invoke: Invoke) -> Path:
    (tmp_path / "words").write_text(WORDS + "\n")
    assert invoke("backup", "b.age", "--passphrase-file", "words", home=real.path, days=0).status == 0
    return tmp_path / "b.age"


def restore(invoke: Invoke, home: Path, *more: str, days: float = 1) -> Said:
    said = invoke("restore", "b.age", "--passphrase-file", "words", *more, home=home, days=days)
    assert said.status == 0, said
    return said


def lose(home: Home, *paths: str) -> None:
    for path in paths:
        if (home.path / path).is_dir():
            shutil.rmtree(home.path / path)
        else:
            (home.path / path).unlink(missing_ok=True)


def everything(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not name.endswith((".lock", "-shm", "-wal", ".alerts.json"))
    }


def decisions(home: Home, days: float = 1) -> list[tuple[str, str]]:
    return [(one.artifact, one.decision) for one in home.project(days).ledger.decisions()]


# -- after every loss -------------------------------------------------------------------------------------------------

PARTS = ("ca", "secrets.yaml", "ca/ledger.db", "build")
LOSSES = [some for count in range(1, 5) for some in itertools.combinations(PARTS, count)]


@pytest.mark.parametrize("lost", LOSSES, ids="+".join)
def test_after_every_loss_nothing_new_is_made_restore_is_named_and_then_nothing_is_due(
    real: RealHome, invoke: Invoke, capsys: pytest.CaptureFixture[str], lost: tuple[str, ...]
) -> None:
    """Of `build/` alone nothing is lost: the next run makes it again."""
    keys = {name: data for name, data in everything(real.path / "ca").items() if "key.pem" in name}
    roots = real.read("pki.yaml")
    lose(real, *lost)
    if lost != ("build",):
        capsys.readouterr()
        (real.path / "build/report/status.json").unlink(missing_ok=True)
        assert status_of_run(real) != 0
        report = real.path / "build/report/status.json"
        made = [one["name"] for one in json.loads(report.read_text())["changed"]] if report.exists() else []
        told = capsys.readouterr()
        assert "./run invoke restore FILE" in told.out + told.err
        signed = ("deploy:", "cert:", "crl:server", "crl:client", "authority:", "ceremony:")
        assert not [name for name in made if name.startswith(signed)]
        after = {name: data for name, data in everything(real.path / "ca").items() if "key.pem" in name}
        assert after.items() <= keys.items()
        assert (real.path / "secrets.yaml").exists() == ("secrets.yaml" not in lost)
        restore(invoke, real.path)
    assert {name: data for name, data in everything(real.path / "ca").items() if "key.pem" in name} == keys
    assert real.read("pki.yaml") == roots
    report = real.doit(days=1)
    assert report.status == 0, report.failed
    assert not report.made or "build" in lost, report.made
    assert real.doit(days=1).made == {}
    if lost != ("build",):
        assert ("project", "restored") in decisions(real)
        checks = json.loads(invoke("health", "--json", home=real.path).out)["checks"]
        assert [one["level"] for one in checks if one["subject"] == "backup"] == ["ok"]


def status_of_run(home: Home) -> int:
    return Run(home.path, home.moment(1)).main([])


def test_a_clone_of_the_users_git_becomes_the_project_again(real: RealHome, tmp_path: Path, invoke: Invoke) -> None:
    clone = Home(tmp_path / "clone")
    clone.path.mkdir()
    shutil.copy(real.path / "pki.yaml", clone.path)
    shutil.copytree(real.path / "templates", clone.path / "templates")
    lose(real, "ca", "build", "secrets.yaml", "pki.yaml", "templates")
    restore(invoke, clone.path)
    report = clone.doit(days=1)
    assert report.status == 0, report.failed
    assert clone.doit(days=1).made == {}
    assert not list(clone.path.glob("ca.before-restore-*"))


# -- what is in the way -----------------------------------------------------------------------------------------------


def test_what_is_in_the_way_is_moved_aside_named_and_kept_out_of_git(real: RealHome, invoke: Invoke) -> None:
    real.write("secrets.yaml", "server-1: something-else\n")
    lose(real, "ca/root")
    before = everything(real.path / "ca")
    said = restore(invoke, real.path)
    assert f"moved to {real.path}/{ASIDE}: ca, secrets.yaml\n" in said.out
    assert f"from the hosts: PKI_HOME={real.path} ./run invoke ledger.recover --all\n" in said.out
    assert everything(real.path / ASIDE / "ca") == before
    assert (real.path / ASIDE / "secrets.yaml").read_text() == "server-1: something-else\n"
    assert (real.path / ASIDE / ".gitignore").read_text().splitlines()[-1] == "*"
    assert (real.path / ASIDE).stat().st_mode & 0o077 == 0
    assert real.doit(days=1).made == {}


@pytest.mark.parametrize(
    "obstacle",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        os.mkfifo,
        lambda path: path.write_text("- no mapping\n"),
        lambda path: path.write_bytes(b"\xff\xfe"),
    ],
    ids=["folder", "dangling link", "FIFO", "list", "not UTF-8"],
)
@pytest.mark.parametrize("name", ["secrets.yaml", "ca"])
def test_whatever_is_in_the_way_is_moved_aside(
    real: RealHome, invoke: Invoke, name: str, obstacle: Callable[[Path], object]
) -> None:
    lose(real, "ca", name)
    obstacle(real.path / name)
    kind = (real.path / name).lstat().st_mode
    restore(invoke, real.path)
    assert (real.path / ASIDE / name).lstat().st_mode == kind
    assert real.doit(days=1).made == {}


def test_a_secrets_file_that_holds_more_stays(real: RealHome, invoke: Invoke) -> None:
    lose(real, "ca")
    real.write("secrets.yaml", real.read("secrets.yaml").decode() + "smtp: password\n")
    restore(invoke, real.path)
    assert "smtp: password" in real.read("secrets.yaml").decode()
    assert not list(real.path.glob("ca.before-restore-*"))


def test_a_sandbox_that_was_set_after_the_loss_is_moved_aside(real: RealHome, invoke: Invoke) -> None:
    text = real.read("pki.yaml").decode()
    start, end = text.index("roots:"), text.index("# root-1\n") + len("# root-1\n")
    lose(real, "ca", "build", "secrets.yaml")
    real.write("pki.yaml", (text[:start] + text[end:]).replace("sandbox: false", "sandbox: true"))
    assert real.doit(days=1).status == 0
    said = restore(invoke, real.path)
    assert "pki.yaml" in said.out.partition("moved to")[2].splitlines()[0]
    assert real.read("pki.yaml").decode() == text
    report = real.doit(days=1)
    assert report.status == 0, report.failed
    assert not real.project(1).inventory.sandbox


def test_a_file_of_yaml_that_is_damaged_gives_way(real: RealHome, invoke: Invoke) -> None:
    lose(real, "ca")
    before = real.read("pki.yaml")
    (real.path / "pki.yaml").write_bytes(b"\x00\x00{[")
    restore(invoke, real.path)
    assert real.read("pki.yaml") == before
    assert (real.path / ASIDE / "pki.yaml").read_bytes() == b"\x00\x00{["


def test_a_project_of_which_nothing_is_lost_is_replaced_only_after_a_yes(real: RealHome, invoke: Invoke) -> None:
    before = everything(real.path)
    said = invoke("restore", "b.age", "--passphrase-file", "words", home=real.path)
    assert said.status == 1
    assert "nothing is missing from ca/" in said.out
    assert "./run invoke restore b.age --yes" in said.error
    assert everything(real.path) == before
    restore(invoke, real.path, "--yes")
    assert real.doit(days=1).made == {}


def test_a_backup_that_is_older_than_the_newest_root_is_said_to_be(real: RealHome, invoke: Invoke) -> None:
    real.edit("# root-1\n", f"# root-1\n  - {'ab' * 32}   # root-2\n")
    lose(real, "ca")
    said = restore(invoke, real.path)
    assert f"root-2 (SHA-256 {'ab' * 32}) is missing" in said.out
    assert "the backup is too old" in said.out
    assert status_of_run(real) == 3


# -- revocations ------------------------------------------------------------------------------------------------------


def revoked(home: Home, days: float) -> set[int]:
    return set(home.project(days).ledger.revoked_serials(expiring_after=START))


@pytest.mark.parametrize("lost", [("ca/root",), ("secrets.yaml", "build"), ("ca/server", "build", "ca/client")])
def test_revocations_of_the_ledger_that_was_there_are_recovered(
    real: RealHome, invoke: Invoke, lost: tuple[str, ...]
) -> None:
    assert invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=real.path, days=1).status in {0, 2}
    assert invoke("renew", "media", home=real.path, days=1).status == 0
    before = revoked(real, 1)
    serial = max(before)
    lose(real, *lost)
    said = restore(invoke, real.path, days=2)
    assert "recovered from the ledger that was there:" in said.out
    assert revoked(real, 2) == before
    assert real.project(2).ledger.verify() == []
    assert real.doit(days=2).status == 0
    crls = [judges.crls(real.read(f"build/crl/{name}.pem"))[0] for name in ("server-1", "client-1")]
    assert serial in {entry.serial_number for crl in crls for entry in crl}
    reasons = {one.reason for one in real.project(2).ledger.revoked_entries("client-1", expiring_after=START)}
    assert "keyCompromise" in reasons


def test_revocations_are_recovered_with_the_expiry_of_their_certificates_whatever_the_clock(
    real: RealHome, invoke: Invoke
) -> None:
    """The clock is years ahead during the restore: what has expired by it has not."""
    assert invoke("renew", "admin", home=real.path, days=1).status == 0
    assert invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=real.path, days=1).status in {0, 2}
    before = {one.serial: one for one in real.project(1).ledger.revocations("client-1")}
    lose(real, "secrets.yaml", "build")
    restore(invoke, real.path, days=3000)
    after = {one.serial: one for one in real.project(2).ledger.revocations("client-1")}
    assert after == before
    assert len(before) == 2


@pytest.mark.parametrize("how", [lambda data: data.replace(b"M", b"-", 1), lambda _: b""])
def test_a_backup_with_a_damaged_certificate_of_a_ca_is_restored_and_says_so(
    real: RealHome, invoke: Invoke, how: Callable[[bytes], bytes]
) -> None:
    path = real.path / "ca/client/client-1/cert.pem"
    before = path.read_bytes()
    path.write_bytes(how(before))
    invoke("backup", "damaged.age", "--passphrase-file", "words", home=real.path, days=0)
    path.write_bytes(before)
    assert invoke("revoke", "media", "--reason", "superseded", "--yes", home=real.path).status in {0, 2}
    serials = revoked(real, 1)
    said = invoke("restore", "damaged.age", "--passphrase-file", "words", "--yes", home=real.path)
    assert "this is a bug in doit-pki" not in said.error
    assert "ca/client/client-1/cert.pem: is damaged in this backup; no revocation is recovered from it" in said.out
    path.write_bytes(before)
    assert revoked(real, 1) == serials


def test_revocations_of_another_ca_of_the_same_name_are_not(real: RealHome, home: Home, invoke: Invoke) -> None:
    assert invoke("revoke", "admin", "--reason", "superseded", "--yes", home=home.path).status in {0, 2}
    lose(real, "ca")
    shutil.copytree(home.path / "ca", real.path / "ca")
    before = judges.crls(real.read("build/crl/client-1.pem"))[0]
    restore(invoke, real.path)
    assert revoked(real, 1) == {entry.serial_number for entry in before}


def spoilt(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE head SET seq = seq + 1")
        db.commit()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"not a database" * 100),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:9000]),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), os.mkfifo(path)),
        spoilt,
    ],
    ids=["garbage", "empty", "truncated", "folder", "FIFO", "head changed"],
)
def test_a_ledger_that_cannot_be_read_is_said_and_does_not_stop_the_restore(
    real: RealHome, invoke: Invoke, spoil: Callable[[Path], object]
) -> None:
    lose(real, "ca/ledger.db-wal", "ca/ledger.db-shm", "ca/root")
    spoil(real.path / "ca/ledger.db")
    said = restore(invoke, real.path)
    assert "ca/ledger.db: cannot be read" in said.out
    assert "no revocation is recovered from it" in said.out
    assert real.doit(days=1).made == {}


# -- killed -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As SIGKILL: nothing is put right on the way out."""


@pytest.mark.parametrize(("moment", "with_yaml"), [(1, True), (2, True), (1, False), (2, False), (3, False)])
def test_a_restore_that_was_killed_is_repeated_and_nothing_is_lost(
    real: RealHome, backup: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, moment: int, with_yaml: bool
) -> None:
    assert invoke("revoke", "admin", "--reason", "key-compromise", "--yes", home=real.path, days=1).status in {0, 2}
    before = revoked(real, 1)
    lose(real, "ca/root")
    real.write("secrets.yaml", "mine: precious\n")
    if not with_yaml:
        lose(real, "pki.yaml")
    old = everything(real.path / "ca")
    rename, left = place_files._rename, [moment]  # noqa: SLF001 - the step between two of which it is killed

    def killed(*given: object) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed
        rename(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(place_files, "_rename", killed)
        patch.setattr(place_files.Placement, "_undo", lambda *_: None)
        work = Restore.read(backup.read_bytes(), WORDS, "b.age", real.path, real.moment(1.5))
        try:
            work.carry_out()
        except Killed:
            pass
        else:
            pytest.fail("it had fewer steps")
    if (real.path / "pki.yaml").exists():
        assert status_of_run(real) == 3 or (real.path / "ca/root").exists()
    restore(invoke, real.path, days=2)
    assert revoked(real, 2) == before
    kept = [everything(path) for path in real.path.glob("ca.before-restore-*")]
    assert any({name.removeprefix("ca/"): data for name, data in one.items()}.items() >= old.items() for one in kept)
    assert any(one.get("secrets.yaml") == b"mine: precious\n" for one in kept)
    assert not (real.path / ".restore.new").exists()
    assert real.doit(days=2).status == 0


def test_ca_is_there_at_every_moment_of_a_restore_and_the_project_is_held_until_its_end(
    real: RealHome, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that begins or waits meanwhile would create another `ca/`, or work beside the next one."""
    real.write("secrets.yaml", "mine: precious\n")
    seen: list[tuple[bool, bool]] = []
    rename = place_files._rename  # noqa: SLF001 - the steps of a restore

    def look(*given: object) -> None:
        rename(*given)  # type: ignore[arg-type]
        seen.append(((real.path / "ca/root").exists(), takes_the_lock(real.path)))

    monkeypatch.setattr(place_files, "_rename", look)
    Restore.read(backup.read_bytes(), WORDS, "b.age", real.path, real.moment(1)).carry_out()
    assert len(seen) == 2
    assert set(seen) == {(True, False)}
    assert takes_the_lock(real.path)


def test_the_note_of_the_restored_backup_agrees_with_its_ledger(real: RealHome, invoke: Invoke) -> None:
    with closing_ledger(real) as ledger:
        events = ledger.events()
    lose(real, "ca")
    restore(invoke, real.path)
    note = json.loads(real.read("ca/.last-backup.json"))
    assert (note["file"], note["ledger"]["head"]) == ("b.age", events[-1].hash)


def closing_ledger(home: Home) -> closing[SqlLedger]:
    return closing(SqlLedger("sqlite", home.path / "ca"))


# -- a ledger in a database of its own --------------------------------------------------------------------------------

POSTGRES = os.environ.get("PKI_POSTGRES", "")  # the address of a database that a test may empty


@pytest.fixture
def external(tmp_path: Path, invoke: Invoke) -> RealHome:
    """A project whose ledger is in PostgreSQL, after its first run and a backup."""
    address = POSTGRES
    if not address:
        pytest.skip("PKI_POSTGRES names no database that a test may empty")
    engine = sql.create_engine(address)
    metadata.drop_all(engine)
    engine.dispose()
    found = real_home(tmp_path / "external")
    found.edit("ledger: sqlite ", f"ledger: {address} ")
    found.ceremony()
    assert found.doit().status == 0
    (tmp_path / "b.age").unlink()
    assert invoke("backup", "b.age", "--passphrase-file", "words", home=found.path, days=0).status == 0
    return found


@pytest.mark.parametrize("lost", [("ca",), ("secrets.yaml",), ("ca", "secrets.yaml", "build")], ids="+".join)
def test_with_a_ledger_elsewhere_nothing_is_recorded_before_the_restore_and_then_nothing_is_due(
    external: RealHome, tmp_path: Path, invoke: Invoke, capsys: pytest.CaptureFixture[str], lost: tuple[str, ...]
) -> None:
    project = external.project(1)
    before = project.ledger.events()
    project.ledger.close()
    lose(external, *lost)
    capsys.readouterr()
    assert status_of_run(external) != 0
    told = capsys.readouterr()
    assert "./run invoke restore FILE" in told.out + told.err
    with closing(SqlLedger(POSTGRES, tmp_path)) as ledger:
        assert ledger.events() == before
    restore(invoke, external.path)
    assert external.doit(days=1).status == 0
    assert external.doit(days=1).made == {}
    assert ("project", "restored") in decisions(external)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ('{"format": 3, "program": "7.1.0"}', "its ca/ was written by doit-pki 7.1.0 in format 3"),
        ("{", "ca/.format.json: is damaged"),
    ],
    ids=["newer", "damaged"],
)
def test_a_backup_of_an_unknown_format_is_refused_before_anything_is_written(
    real: RealHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str, fault: str
) -> None:
    archive = Archive(
        {"at": "2026-11-23T06:00:00Z", "organisation": "Example Lab", "ledger": None},
        {
            name: BackupFile(data, 0o600)
            for name, data in (("pki.yaml", real.read("pki.yaml")), (SHOWN, record.encode()))
        },
    )
    target = tmp_path / "new"
    monkeypatch.setattr("pki.backup.restore.age.decrypt", lambda *_: b"")
    monkeypatch.setattr("pki.backup.restore.unpack", lambda *_: archive)
    with pytest.raises(PkiError) as caught:
        Restore.read(b"", "", "backup.age", target, real.moment(1))
    assert caught.value.message.startswith(f"backup.age: {fault}")
    assert not target.exists()


def test_a_newer_project_is_not_replaced_by_an_older_program(real: RealHome, invoke: Invoke) -> None:
    (real.path / SHOWN).write_text('{"format": 3, "program": "7.1.0"}')
    before = everything(real.path)
    said = invoke("restore", "b.age", "--passphrase-file", "words", "--yes", home=real.path)
    fault = f"{real.path}/ca was written by doit-pki 7.1.0 in format 3"
    assert (said.status, said.error.partition(";")[0]) == (1, fault)
    assert everything(real.path) == before
    (real.path / SHOWN).write_text("{")  # it is moved aside with ca/
    restore(invoke, real.path, "--yes")
    assert real.doit(days=1).status == 0
