"""The ledger on SQLite: never replaced, never believed when it is older than what was seen, upgraded whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sql
from cryptography import x509
from sqlalchemy.engine import Engine

from pki.common import sealed_records
from pki.common.errors import LedgerError
from pki.ledger import database, last_seen
from pki.ledger.database import Database
from pki.ledger.ledger import SqlLedger
from pki.ledger.types import Issued
from pki.x509 import crl_signing
from pki.x509.revocation import CrlEntry
from tests.support import old_ledgers
from tests.support.ledger_behaviour import LedgerBehaviour, Site
from tests.support.projects import START, SYNCHRONOUS, Home


@dataclass(frozen=True)
class Sqlite:
    """`ca/ledger.db`, as an administrator handles it."""

    folder: Path

    def snapshot(self) -> object:
        target = self.folder.parent / "snapshot.db"
        self._copy(self.folder / "ledger.db", target)
        return target

    def put_back(self, snapshot: object) -> None:
        self.empty()
        (self.folder / "ledger.db").touch(0o600)  # one that others can read is critical
        shutil.copyfile(str(snapshot), self.folder / "ledger.db")

    def empty(self) -> None:
        for path in self.folder.glob("ledger.db*"):
            path.unlink()

    def query(self, statement: str) -> list[list[str]]:
        with closing(sqlite3.connect(self.folder / "ledger.db")) as db, db:
            return [[str(value) for value in row] for row in db.execute(statement)]

    def _copy(self, source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)


class TestOnSqlite(LedgerBehaviour):
    @pytest.fixture
    def site(self, home: Home, capsys: pytest.CaptureFixture[str]) -> Site:
        return Site(home, Sqlite(home.path / "ca"), capsys)


# -- ledgers of earlier schemas ---------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 2])
def old(request: pytest.FixtureRequest, home: Home) -> Home:
    """The example with a ledger of schema 1 or 2."""
    old_ledgers.lay(home.path, request.param)
    return home


@pytest.fixture
def second(home: Home) -> Home:
    """The example with a ledger of schema 2."""
    old_ledgers.lay(home.path, 2)
    return home


def hashes(home: Home) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        return list(db.execute("select seq, hash from events order by seq"))


def content(home: Home) -> list[str]:
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        return list(db.iterdump())


def ledger(home: Home) -> SqlLedger:
    return SqlLedger("sqlite", home.path / "ca")


def test_an_older_ledger_keeps_every_row_and_hash_and_gets_an_identity(old: Home) -> None:
    before = hashes(old)
    assert old.doit(days=1).made == {}
    assert hashes(old) == before
    project = old.project()
    assert project.ledger.verify() == []
    assert {event.actor for event in project.ledger.events()} == {""}
    project.ledger.close()
    [[schema, identity]] = Sqlite(old.path / "ca").query("select schema, project from head")
    assert (schema, identity) == ("3", old.read("ca/project-id").decode().split()[0])


def test_an_older_ledger_goes_on_with_rows_of_today(old: Home) -> None:
    assert old.doit(days=8).status == 0
    project = old.project(8)
    assert project.ledger.verify() == []
    project.ledger.close()
    rows = Sqlite(old.path / "ca").query(
        "select pem = '', sha256 is null from crls where issuer = 'client-1' order by seq"
    )
    assert rows == [["0", "1"], ["1", "0"]]


@contextmanager
def interrupted(step: int, act: Callable[[], None]) -> Iterator[None]:
    """Act before the statement of this number; the end of a transaction counts as one."""
    came = [0]

    def before(*_: object) -> None:
        came[0] += 1
        if came[0] == step:
            act()

    names = ("before_cursor_execute", "commit")
    for name in names:
        sql.event.listen(Engine, name, before)
    try:
        yield
    finally:
        for name in names:
            sql.event.remove(Engine, name, before)


class StoppedError(Exception):
    """What stands for the end of a process."""


def stop() -> None:
    raise StoppedError


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_upgrade_that_fails_at_any_step_leaves_the_ledger_as_it_was(old: Home) -> None:
    before, step = content(old), 0
    while content(old) == before:
        step += 1
        with interrupted(step, stop), suppress(StoppedError):
            ledger(old).events()
    assert step > 12
    assert ledger(old).verify() == []
    assert old.doit(days=1).made == {}


def test_an_upgrade_that_is_killed_at_any_step_leaves_the_ledger_whole(old: Home) -> None:
    before, step = content(old), 0
    while content(old) == before:
        step += 1
        child = os.fork()
        if child == 0:
            with interrupted(step, kill):
                ledger(old).events()
            os._exit(0)
        os.waitpid(child, 0)
    assert step > 12
    assert ledger(old).verify() == []
    [[identity]] = Sqlite(old.path / "ca").query("select project from head")
    assert identity == old.read("ca/project-id").decode().split()[0]


def test_hosts_that_files_pinned_are_pinned_by_the_upgraded_ledger(second: Home) -> None:
    second.write("build/history/media/held/manifest.json", json.dumps({"format": 1, "release": "abc"}))
    second.write("build/history/media/held/since", "2026-11-20T06:00:00Z\n")
    second.write("build/history/forge/held/manifest.json", "{")
    pins = second.project().host_decisions.pins or {}
    assert {host: (pin.release, f"{pin.since:%Y-%m-%d}") for host, pin in pins.items()} == {
        "media": ("abc", "2026-11-20")
    }
    assert ledger(second).verify() == []
    shutil.rmtree(second.path / "build")
    assert set(second.project().host_decisions.pins or {}) == {"media"}


def test_a_ledger_of_before_with_another_projects_authorities_is_not_taken_over(second: Home) -> None:
    Sqlite(second.path / "ca").query("update certificates set serial = '77' || seq")
    before = content(second)
    with pytest.raises(LedgerError, match="CAs of another project"):
        ledger(second).events()
    assert content(second) == before
    assert not (second.path / "ca/project-id").exists()


def test_a_ledger_that_a_crl_was_recorded_in_before_knows_it_again(second: Home) -> None:
    found = ledger(second)
    assert found.has_recorded("client-1", second.read("build/crl/client-1.crl"))
    assert not found.has_recorded("server-1", second.read("build/crl/client-1.crl"))


def test_a_new_project_notes_how_far_its_ledger_is(home: Home) -> None:
    noted = last_seen.observed_head(home.project().store.ca, ".ledger-head.json")
    assert noted is not None
    assert [[str(noted.seq), noted.hash]] == Sqlite(home.path / "ca").query("select seq, hash from head")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"events": "x", "head": 1}', '{"ledger": 3}', "\x00\xff"])
def test_a_note_that_cannot_be_read_counts_as_missing(home: Home, text: str) -> None:
    for name in (".ledger-head.json", ".last-backup.json"):
        home.write(f"ca/{name}", text)
    assert home.doit(days=0.1).status == 0
    assert home.project(0.1).ledger_view.fault is None


@pytest.mark.parametrize("name", [".ledger-head.json", "project-id"])
def test_a_note_with_any_bit_flipped_counts_as_missing_or_says_the_same(home: Home, name: str) -> None:
    path, store = home.path / "ca" / name, home.project().store
    data = path.read_bytes()
    sound = (last_seen.observed_head(store.ca, ".ledger-head.json"), last_seen.project_id(store.ca))
    for bit in range(len(data) * 8):
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        found = (last_seen.observed_head(store.ca, ".ledger-head.json"), last_seen.project_id(store.ca))
        assert all(one in {there, None, ""} for one, there in zip(found, sound, strict=True)), bit
    path.write_bytes(data)
    assert (last_seen.observed_head(store.ca, ".ledger-head.json"), last_seen.project_id(store.ca)) == sound


def test_a_sandbox_that_was_deleted_starts_again_without_a_message(home: Home) -> None:
    """Also where build/ stayed, with what the cache remembers of the ledger before."""
    for name in ("ca", "offline"):
        shutil.rmtree(home.path / name)
    before = home.path / "build/crl/client-1.crl"
    assert before.exists()
    assert home.doit(days=1).status == 0
    assert home.project(1).ledger_view.fault is None
    assert home.doit(days=1.1).made == {}


def test_a_backup_notes_the_head_and_a_damaged_note_counts_as_missing(home: Home) -> None:
    head = last_seen.observed_head(home.project().store.ca, ".ledger-head.json")
    assert head is not None
    record = {"at": "x", "file": "y", "ledger": {"events": head.seq, "head": head.hash}, "revocations": 0}
    note = sealed_records.encode_sealed(record)
    for text, seq in (
        (note, head.seq),
        (sealed_records.encode_sealed({**record, "ledger": None}), 0),
        (note.replace(b'"revocations": 0', b'"revocations": 1'), 0),
        (note.replace(b"x", b"z", 1), 0),
        (note[:-2], 0),
    ):
        assert text == note or seq == 0
        (home.path / "ca/.last-backup.json").write_bytes(text)
        found = last_seen.observed_head(home.project().store.ca, ".last-backup.json")
        assert (found.seq if found else 0) == seq


def replaced(issued: Issued, serial: int) -> Issued:
    return replace(issued, serial=serial)


def listing(home: Home, entries: int) -> x509.CertificateRevocationList:
    """A CRL with the serial numbers from 1 on."""
    found = [CrlEntry(serial, START, "superseded") for serial in range(1, entries + 1)]
    number = int(START.timestamp()) + 99 + entries
    return crl_signing.sign_crl(
        home.project().signing_keys.issuer("client"), number, START, START + timedelta(days=21), found
    )


def test_many_revocations_one_by_one_leave_a_small_ledger(home: Home) -> None:
    """Each CRL lists all that came before; its row tells only of the new one."""
    project = home.project()
    issued = project.ledger.certificates(artifact="cert:client-admin")[0]
    path = home.path / "ca/ledger.db"
    sizes = []
    for number in range(1, 41):
        entry = replaced(issued, number)
        project.ledger.record_revocation(entry, reason="superseded", at=START)
        crl = listing(home, number)
        project.ledger.record_crl(crl, issuer="client-1", reason="more", at=START)
        if number in {20, 40}:
            project.ledger.close()
            sizes.append(path.stat().st_size)
    assert project.ledger.verify() == []
    project.ledger.close()
    rows = Sqlite(home.path / "ca").query("select length(added) + length(removed) + length(pem) from crls order by seq")
    assert {row[0] for row in rows[-40:]} <= {"1", "2", "3"}
    assert sizes[1] - sizes[0] < 60_000


def test_event_is_on_disk_when_it_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests spare the disk. Level 2 is FULL, which flushes the log at each commit."""
    monkeypatch.setattr(database, "SYNCHRONOUS", SYNCHRONOUS)
    with Database("sqlite", tmp_path / "ca", lambda: None).reading() as db:
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize("has_log", [False, True], ids=["settled", "with a log"])
def test_a_ledger_that_cannot_be_written_is_read_and_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_log: bool
) -> None:
    """As on a read-only file system; what is only in SQLite's log is read too, and no file is made or changed."""
    writer = SqlLedger("sqlite", tmp_path / "ca")
    writer.record_decision("cert:media", "withheld", "why", START)
    reader = sqlite3.connect(tmp_path / "ca/ledger.db")
    reader.execute("select * from sqlite_schema").fetchone()  # whoever reads keeps the log from being folded in
    if not has_log:
        reader.close()
        writer.close()
    files = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir() if path.suffix != ".db-shm"}
    assert bool(files.get("ledger.db-wal")) == has_log
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    closed = SqlLedger("sqlite", tmp_path / "ca")
    assert [one.decision for one in closed.decisions()] == ["withheld"]
    assert closed.verify() == []
    with pytest.raises(LedgerError, match=r"ledger\.db: cannot be opened"):
        closed.record_decision("cert:media", "released", "why", START)
    closed.close()
    assert {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir() if path.suffix != ".db-shm"} == files
    reader.close()
