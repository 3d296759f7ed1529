"""The ledger on PostgreSQL: all that holds on SQLite, and what a database that others reach brings with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sql
from sqlalchemy.engine import Engine

from pki.ledger import last_seen
from pki.ledger.ledger import SqlLedger
from pki.ledger.types import FOREIGN, UNREADABLE
from pki.monitor.report.run import Run
from pki.project.machine_guard import VARIABLE
from pki.project.project import Project
from tests.integration import postgres
from tests.integration.postgres import Postgres
from tests.support import old_ledgers
from tests.support.commands import said_by
from tests.support.ledger_behaviour import LedgerBehaviour, Site
from tests.support.projects import START, Home, bare_home, two_hosts_agree


@dataclass(frozen=True)
class Database:
    """One database on a server, as an administrator handles it."""

    server: Postgres
    address: str

    def snapshot(self) -> object:
        return self.server.dump(self.address)

    def put_back(self, snapshot: object) -> None:
        self.server.load(self.address, str(snapshot))

    def empty(self) -> None:
        self.server.empty(self.address)

    def query(self, statement: str) -> list[list[str]]:
        return [line.split("|") for line in self.server.sql(self.address, statement).splitlines() if line]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres.running() as found:
        yield found


@dataclass(frozen=True)
class Built:
    """The example after its first run on PostgreSQL, and its ledger as a dump."""

    path: Path
    address: str
    dump: str


@pytest.fixture(scope="module")
def built(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Built:
    home, address = bare_home(tmp_path_factory.mktemp("built") / "home"), server.database()
    home.edit("ledger: sqlite", f'ledger: "{address}"')
    report = home.doit()
    assert report.status == 0, report.failed
    assert not (home.path / "ca/ledger.db").exists()
    return Built(home.path, address, server.dump(address))


@pytest.fixture
def site(server: Postgres, built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    address = server.database()
    server.load(address, built.dump)
    shutil.copytree(built.path, tmp_path / "home", symlinks=True)
    home = Home(tmp_path / "home")
    home.edit(built.address, address)
    return Site(home, Database(server, address), capsys)


class TestOnPostgresql(LedgerBehaviour):
    @pytest.fixture
    def site(self, server: Postgres, built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
        address = server.database()
        server.load(address, built.dump)
        shutil.copytree(built.path, tmp_path / "home", symlinks=True)
        home = Home(tmp_path / "home")
        home.edit(built.address, address)
        return Site(home, Database(server, address), capsys)


# -- a database that others reach -------------------------------------------------------------------------------------


def test_a_second_project_on_the_database_is_refused_before_it_writes_anything(
    site: Site, tmp_path: Path, server: Postgres
) -> None:
    assert isinstance(site.base, Database)
    other = bare_home(tmp_path / "other")
    other.edit("ledger: sqlite", f'ledger: "{site.base.address}"')
    before = site.base.snapshot()
    report = other.doit()
    assert report.status == 1
    assert "this folder has no ca/project-id" in report.failed["ledger"]
    assert "set ledger: in pki.yaml to a database of this project alone" in report.failed["ledger"]
    assert not list(other.path.glob("ca/*/*/cert.pem"))
    assert site.base.snapshot() == before
    assert site.home.doit(days=0.1).made == {}
    other.edit(site.base.address, server.database())
    assert other.doit().status == 0


def test_two_projects_that_shared_a_database_are_told_apart(site: Site, server: Postgres, built: Built) -> None:
    """One was moved onto the other's database: neither reads nor writes there."""
    own = server.database()
    server.load(own, built.dump)
    server.sql(own, "update head set project = '" + "1" * 32 + "'")
    site.home.edit(site.base.address, own)  # type: ignore[attr-defined]
    assert site.kind() == FOREIGN
    assert "belongs to project 111111111111" in site.invoke("ledger.list").error


def test_a_database_out_of_reach_stops_signing_and_not_what_needs_no_signature(site: Site) -> None:
    site.home.doit(days=0.1)
    site.home.edit("?host=", "?host=/nowhere")
    report = site.home.doit(days=0.2)
    assert (report.status, set(report.failed)) == (1, {"ledger"}), report.failed
    assert site.kind(0.2) == UNREADABLE
    assert site.check(0.2).level.name == "CRITICAL"
    site.forget("build/hosts/forge", "build/receipts/forge.json")
    assert "deploy:forge" in site.home.doit(days=0.3).made
    assert "crl:client-1" in site.home.doit(days=8).failed


def test_a_whole_machine_that_is_lost_but_for_the_database_founds_nothing_new(site: Site) -> None:
    """A fresh clone of pki.yaml: neither ca/ nor build/."""
    site.forget("ca", "build", "offline", "secrets.yaml")
    before = site.base.snapshot()
    report = site.home.doit(days=1)
    assert report.status == 1
    assert not list(site.home.path.glob("ca/*/*/cert.pem"))
    assert site.base.snapshot() == before


def test_a_backup_notes_how_far_the_database_is(site: Site) -> None:
    words = site.home.write("words", "correct horse battery staple lamp five\n")
    said = site.invoke("backup", str(site.home.path / "b.age"), "--passphrase-file", str(words))
    assert said.status == 0, said
    head = last_seen.observed_head(site.home.project().store.ca, ".last-backup.json")
    assert head is not None
    assert site.base.query("select seq, hash from head") == [[str(head.seq), head.hash]]


@pytest.mark.parametrize("schema", [1, 2])
def test_an_upgrade_that_fails_at_any_step_leaves_the_database_as_it_was(
    home: Home, server: Postgres, schema: int
) -> None:
    address = server.database()
    engine = sql.create_engine(address)
    with engine.begin() as db:
        for statement, values in old_ledgers.statements(home.path, schema):
            db.exec_driver_sql(statement.replace("?", "%s"), tuple(values) or None)
    engine.dispose()
    before, step = server.dump(address), 0
    while server.dump(address) == before:
        step += 1
        with interrupted(step):
            SqlLedger(address, home.path / "ca").events()
    assert step > 12
    found = SqlLedger(address, home.path / "ca")
    assert found.verify() == []
    found.record_decision("cert:media", "released", "", START)
    assert found.verify() == []
    found.close()


class StoppedError(Exception):
    """What stands for the end of a process."""


@contextmanager
def interrupted(step: int) -> Iterator[None]:
    came = 0

    def before(*_: object) -> None:
        nonlocal came
        came += 1
        if came == step:
            raise StoppedError

    for name in ("before_cursor_execute", "commit"):
        sql.event.listen(Engine, name, before)
    try:
        yield
    except StoppedError:
        pass
    finally:
        for name in ("before_cursor_execute", "commit"):
            sql.event.remove(Engine, name, before)


# -- what others record meanwhile -------------------------------------------------------------------------------------


def test_what_another_machine_records_while_we_look_is_not_taken_for_settled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued, close = site.newest("cert:client-admin"), Project.close

    def close_late(self: Project, *, run_succeeded: bool) -> None:
        other = site.home.project()
        other.ledger.record_revocation(issued, reason="keyCompromise", at=START)
        other.ledger.close()
        close(self, run_succeeded=run_succeeded)

    monkeypatch.setattr(Project, "close", close_late)
    site.home.doit(days=0.1)
    monkeypatch.undo()
    assert "cert:client-admin" in site.home.doit(days=0.2).made
    assert issued.serial in site.listed()


# -- one machine runs doit --------------------------------------------------------------------------------------------


def test_a_run_on_another_machine_stops_until_it_takes_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "first")
    server = site.base.server  # type: ignore[attr-defined]
    server.sql(site.base.address, "update lease set holder = ''")  # type: ignore[attr-defined]
    assert site.home.doit(days=0.1).status == 0
    monkeypatch.setenv(VARIABLE, "second")
    before = site.base.snapshot()
    assert Run(site.home.path, site.home.moment(8), two_hosts_agree).main([]) == 3
    for command in (("renew", "media"), ("revoke", "media", "--reason", "superseded", "--yes")):
        refused = site.invoke(*command)
        assert (refused.status, "./run doit --take-over" in refused.error) == (1, True), refused
    for command in ("plan", "status", "health"):
        assert "runs doit since" in site.invoke(command).out, command
    assert site.invoke("ledger.list").status == 0, "others may read"
    assert site.base.snapshot() == before
    assert site.home.doit("--take-over", days=8).status == 0
    (decision,) = [entry for entry in site.home.project().ledger.decisions() if entry.decision == "taken-over"]
    assert decision.artifact == "project"
    assert site.home.doit(days=9).status == 0
    monkeypatch.setenv(VARIABLE, "first")
    assert Run(site.home.path, site.home.moment(10), two_hosts_agree).main([]) == 3


# -- the URL is a secret ----------------------------------------------------------------------------------------------


def test_the_url_and_its_password_come_from_secrets_and_are_in_no_file_of_the_build(site: Site) -> None:
    base = site.base
    assert isinstance(base, Database)
    base.server.sql(base.address, "create role pki login password 'tr0ub4dor' superuser")
    try:
        url = base.address.replace("postgresql+psycopg://postgres@", "postgresql://pki:tr0ub4dor@")
        assert url != base.address
        site.home.edit(f'ledger: "{base.address}"', "ledger: postgresql")
        missing = site.invoke("ledger.list").error
        assert "the secret ledger is missing" in missing
        assert "into secrets.yaml" in missing
        secrets = site.home.path / "secrets.yaml"
        secrets.write_text(f"{secrets.read_text()}ledger: {url}\n")
        assert site.home.doit(days=0.1).made == {}
        assert "cert:media" in site.home.doit(days=61).made
        for path in site.home.path.rglob("*"):
            if path.is_file() and path != secrets:
                assert b"tr0ub4dor" not in path.read_bytes(), path
        secrets.write_text(secrets.read_text().replace("postgresql://", "nonsense://"))
        said = site.invoke("ledger.list")
        assert "the secret ledger is no URL of PostgreSQL" in said.error
        assert "tr0ub4dor" not in said.error + said.out
        secrets.write_text(secrets.read_text().replace("nonsense://", "postgresql://").replace("@/", "@:x/"))
        said = site.invoke("ledger.list")
        assert said.status == 1
        assert "tr0ub4dor" not in said.error + said.out
    finally:
        base.server.sql(base.address, "drop role pki")


# -- the ledger in the backup -----------------------------------------------------------------------------------------


def backup_of(site: Site) -> Path:
    words = site.home.write("words", "correct horse battery staple lamp five\n")
    target = site.home.path.parent / "b.age"
    said = site.invoke("backup", str(target), "--passphrase-file", str(words))
    assert said.status == 0, said
    assert "with a copy of its ledger" in said.out
    return target


def restored(site: Site, archive: Path, folder: Path) -> Home:
    words = site.home.path / "words"
    said = site.invoke("restore", str(archive), "--to", str(folder), "--passphrase-file", str(words), "--yes")
    assert said.status == 0, said
    return Home(folder)


def test_a_backup_brings_the_ledger_back_into_an_empty_database(site: Site, tmp_path: Path) -> None:
    base = site.base
    assert isinstance(base, Database)
    assert site.invoke("revoke", "admin", "--reason", "key-compromise", "--yes").status in {0, 1, 2}
    events = site.home.project().ledger.events()
    assert any(event.kind == "revocation" for event in events)
    archive = backup_of(site)
    base.empty()
    home = restored(site, archive, tmp_path / "new")
    lost = said_by(site.capsys, "ledger.list", pki_home=str(home.path), pki_now=home.moment())
    assert "ledger.restore" in lost.error
    done = said_by(site.capsys, "ledger.restore", pki_home=str(home.path), pki_now=home.moment())
    assert done.status == 0, done
    assert f"{len(events)} events" in done.out
    assert home.project().ledger.events() == events
    assert not (home.path / "ca/ledger-copy.db").exists()
    verified = said_by(site.capsys, "ledger.verify", pki_home=str(home.path), pki_now=home.moment())
    assert verified.status == 0, verified
    assert home.doit(days=0.1).status == 0
    assert home.project(0.1).ledger.verify() == []


def test_a_database_with_events_is_not_replaced_by_that_of_a_backup(site: Site, tmp_path: Path) -> None:
    archive = backup_of(site)
    home = restored(site, archive, tmp_path / "new")
    before = site.base.snapshot()
    refused = said_by(site.capsys, "ledger.restore", pki_home=str(home.path), pki_now=home.moment())
    assert refused.status == 1
    assert "events already; nothing was restored" in refused.error
    assert site.base.snapshot() == before
    assert (home.path / "ca/ledger-copy.db").exists()
    assert home.doit(days=0.1).status == 0, "the database was not lost"


def test_a_copy_that_is_not_there_is_said(site: Site) -> None:
    refused = site.invoke("ledger.restore")
    assert refused.status == 1
    assert "ca/ledger-copy.db: is not there" in refused.error


def test_an_account_that_can_only_read_lists_and_verifies_the_ledger_and_records_nothing(site: Site) -> None:
    base = site.base
    assert isinstance(base, Database)
    grants = "grant usage on schema public to auditor; grant select on all tables in schema public to auditor"
    base.server.sql(base.address, f"create role auditor login; {grants}")
    try:
        site.home.edit("postgresql+psycopg://postgres@", "postgresql+psycopg://auditor@")
        before = site.base.snapshot()
        for command in (("ledger.list",), ("ledger.verify",), ("explain", "media")):
            said = site.invoke(*command)
            assert said.status == 0, said
        refused = site.invoke("revoke", "media", "--reason", "superseded", "--yes")
        assert refused.status == 1
        assert "permission denied" in refused.error
        assert site.base.snapshot() == before
    finally:
        base.server.sql(base.address, "drop owned by auditor; drop role auditor")
