"""The database of a ledger: opened when first asked, and once more in each process that a run forks."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pki.common.child_processes import LIBPQ_PASSWORD, withheld
from pki.common.errors import LedgerError, of_system
from pki.common.filesystem import insist_on_file, leave_to_owner, make_folder
from pki.common.visible import in_one_line
from pki.ledger import identity, upgrade
from pki.ledger.chain import NO_HASH, TAKE_TURN
from pki.ledger.last_seen import authority_certificates, seen_heads
from pki.ledger.tables import SCHEMA, head, lease, metadata
from pki.ledger.types import (
    BEGIN_AGAIN,
    EMPTY,
    GONE,
    IS_EMPTY,
    LOOK_AT_DISK,
    MISSING,
    PASSING,
    PUT_BACK,
    PUT_BACK_DATABASE,
    UNREADABLE,
    LedgerFault,
)

LOOK_AT_DATABASE = "look at the database that pki.yaml names as ledger, then: ./run invoke ledger.verify"
PATIENCE = 60  # seconds for which a transaction waits for another one
PASSES = {  # result codes of SQLite that say nothing about the content of the file
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
}
SYNCHRONOUS = "FULL"  # an event is durable before anything that follows from it is
MUTEX = 0x646F6974  # of PostgreSQL's advisory locks: one process at a time creates or upgrades the tables


class Database:
    """SQLite below a folder (WAL, synchronous=FULL), or any other that SQLAlchemy speaks.

    Tables are created only for a project that has no authority and has seen no event: a ledger that is missing or
    empty otherwise is lost, and CRLs made from a new one would lack what was revoked. `is_copy` opens one of a backup,
    in a folder of its own: whose it is does not matter then.
    """

    def __init__(
        self, address: str, folder: Path, before_writing: Callable[[], None], *, is_copy: bool = False
    ) -> None:
        self._before_writing = before_writing
        self._url = f"sqlite:///{folder / 'ledger.db'}" if address == "sqlite" else address
        self._folder = folder
        self._is_copy = is_copy
        self._may_begin = False
        self._is_in_order = False
        self._engine: Engine | None = None
        self._process = 0
        self._copy: TemporaryDirectory[str] | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that changes nothing. Raises LedgerError also where a row is not as it is recorded."""
        with self._transaction() as db:
            try:
                yield db
            except (ValueError, TypeError, AttributeError) as error:  # of what a reader makes of a row
                said = f"{self.place}: contains what was never recorded: {error}"
                raise LedgerError(said, PUT_BACK if self.is_sqlite else PUT_BACK_DATABASE) from None

    def disorder(self) -> list[str]:
        """What is wrong with pages and indexes, as SQLite finds it: a query through a damaged index lacks rows.

        Other databases look after theirs themselves.
        """
        if not self.is_sqlite:
            return []
        with self.reading() as db:
            rows = db.exec_driver_sql("PRAGMA integrity_check(10)").scalars()
            return [" ".join(str(row).split()) for row in rows if row != "ok"]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the head from its first statement on, so that two writers take turns.

        Raises what `before_writing` raises: it may forbid that anything is recorded. Nothing is recorded either in a
        file that is in disorder, and so nothing is published that follows from what a query lacked.
        """
        if self._is_closed:
            raise self._closed()
        self._before_writing()
        if not self._is_in_order:
            if found := self.disorder():
                raise LedgerError(f"{self.place}: is damaged: {found[0]}", PUT_BACK)
            self._is_in_order = True
        with self._transaction() as db:
            db.execute(TAKE_TURN)
            yield db

    def begin_again(self) -> None:
        """Create the tables when the database is opened next, also where they were lost."""
        self.close()
        self._may_begin = True

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._told():
            engine = self._open()
            with engine.begin() as db:
                yield db

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:  # of a message in which SQLite quotes what it cannot read
            raise LedgerError(f"{self.place}: is damaged: {error}", PUT_BACK) from None
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            is_passing = self.is_sqlite and getattr(cause, "sqlite_errorcode", 0) & 0xFF in PASSES
            hint = LOOK_AT_DISK if is_passing else PUT_BACK if self.is_sqlite else LOOK_AT_DATABASE
            text = f"{self.place}: {in_one_line(str(cause))}"
            raise LedgerError(text, hint, PASSING if is_passing else "") from None

    def _open(self) -> Engine:
        if self._engine is None or self._process != os.getpid():
            self._engine = self._connect()
            self._process = os.getpid()
        return self._engine

    def _connect(self) -> Engine:
        try:
            engine = sql.create_engine(self._reading_url() if self._is_closed else self._url, **self._arguments())
        except (SQLAlchemyError, ImportError) as error:
            hint = "name a database whose driver is installed; for PostgreSQL: docs/backup.md#a-ledger-in-postgresql"
            raise LedgerError(f"pki.yaml: ledger: {error}", hint) from None
        if self.is_sqlite:
            self._make_file()
            sql.event.listen(engine, "connect", _read_only if self._is_closed else _durable)
            sql.event.listen(engine, "begin", _begin)
        try:
            self._prepare(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _arguments(self) -> dict[str, Any]:
        """What the driver is given besides the URL: libpq itself no longer finds a password in the environment."""
        if self.is_sqlite:
            return {"connect_args": {"timeout": PATIENCE}}
        password = withheld(LIBPQ_PASSWORD).decode(errors="surrogateescape")
        is_needed = password and self._url.startswith("postgresql") and sql.make_url(self._url).password is None
        return {"connect_args": {"password": password}} if is_needed else {}

    def _make_file(self) -> None:
        make_folder(self._folder, 0o700)
        path = self._folder / "ledger.db"
        insist_on_file(path)
        if path.exists() and not os.access(path, os.R_OK):
            raise self._closed()
        if not path.exists():
            if not self._may_be_new:
                raise LedgerError.of(LedgerFault(MISSING, GONE, BEGIN_AGAIN))
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            leave_to_owner(path, self._folder)  # SQLite makes its log the database owner's

    @property
    def _is_closed(self) -> bool:
        """Whether the file cannot be written, or its folder, in which SQLite keeps its log: it is read all the same."""
        path = self._folder / "ledger.db"
        return self.is_sqlite and path.exists() and not (os.access(path, os.W_OK) and os.access(self._folder, os.W_OK))

    def _closed(self) -> LedgerError:
        path = self._folder / "ledger.db"
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        error = of_system(OSError(number, os.strerror(number)), path, "cannot be opened")
        return LedgerError(error.message, error.hint)

    def _reading_url(self) -> str:
        """The file as SQLite reads it where it can write nothing; one with a log that is not in it yet as a copy.

        https://www.sqlite.org/wal.html#read_only_databases
        """
        path, log = self._folder / "ledger.db", self._folder / "ledger.db-wal"
        if log.exists() and log.stat().st_size:
            self._copy = TemporaryDirectory(prefix="doit-pki-")
            for one in (path, log):
                shutil.copyfile(one, Path(self._copy.name) / one.name)
            return f"sqlite:///{self._copy.name}/ledger.db"
        return f"sqlite:///file:{quote(str(path))}?mode=ro&immutable=1&uri=true"

    @property
    def _may_be_new(self) -> bool:
        """Whether nothing speaks of an earlier ledger: no authority has a certificate, and no event was seen."""
        if self._may_begin or self._is_copy:
            return True
        return not authority_certificates(self._folder) and not seen_heads(self._folder)

    def _prepare(self, engine: Engine) -> None:
        """Create the tables or bring them to the present schema, and insist that the ledger is this project's."""
        with engine.begin() as db:
            tables = set(sql.inspect(db).get_table_names())
            schema = db.execute(sql.select(head.c.schema)).scalar() if head.name in tables else None
            seq = db.execute(sql.select(head.c.seq)).scalar() if head.name in tables else None
        if schema is None and not self._may_be_new:
            remedy = BEGIN_AGAIN if self.is_sqlite else PUT_BACK_DATABASE
            raise LedgerError.of(LedgerFault(EMPTY, f"{self.place}: {IS_EMPTY}", remedy))
        if schema is not None and schema > SCHEMA:
            text = f"{self.place}: schema {schema}, this program writes {SCHEMA}"
            raise LedgerError.of(LedgerFault(UNREADABLE, text, "use the program that matches it"))
        if schema != SCHEMA or not metadata.tables.keys() <= tables:
            with self._changing(engine) as db:
                self._create_or_upgrade(db, is_new=schema is None)
        if not self._is_copy:
            with engine.begin() as db:
                identity.insist(db, self._folder, self.place, has_events=bool(seq))

    def _create_or_upgrade(self, db: Connection, *, is_new: bool) -> None:
        if not is_new and not self._is_copy:
            identity.insist_before_upgrade(db, self._folder, self.place)
        project = "" if self._is_copy else identity.own_or_new(self._folder)
        metadata.create_all(db)
        if db.execute(sql.select(head.c.schema)).first() is None:
            db.execute(sql.insert(head).values(schema=SCHEMA, seq=0, hash=NO_HASH, project=project))
            db.execute(sql.insert(lease).values(holder="", until=0, token=0))
        else:
            upgrade.to_present(db, project, self._folder)

    @contextmanager
    def _changing(self, engine: Engine) -> Iterator[Connection]:
        """A transaction in which one process alone creates or changes tables; what fails in it changes nothing."""
        with engine.connect() as connection:
            db = connection.execution_options(begin="BEGIN IMMEDIATE")
            with db.begin():
                if db.dialect.name == "postgresql":
                    db.execute(sql.select(sql.func.pg_advisory_xact_lock(MUTEX)))
                yield db

    @property
    def is_sqlite(self) -> bool:
        return self._url.startswith("sqlite:")

    @property
    def place(self) -> str:
        """What messages call it."""
        return "ca/ledger.db" if self.is_sqlite else "the ledger's database"

    def close(self) -> None:
        """Close the database; it opens again when asked."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._copy:
            self._copy.cleanup()
            self._copy = None


def _read_only(connection: Any, _record: Any) -> None:
    connection.text_factory = _decoded
    connection.isolation_level = None  # the driver would put statements that change tables outside of any transaction


def _durable(connection: Any, record: Any) -> None:
    _read_only(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
    cursor.close()


def _decoded(text: bytes) -> str:
    """A text as it was recorded; one that is damaged still differs, and is found by its hash."""
    return text.decode(errors="replace")


def _begin(db: Connection) -> None:
    db.exec_driver_sql(db.get_execution_options().get("begin", "BEGIN"))
