"""The database of a ledger: opened at its first use, and once in each forked process."""

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
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from pki.common.child_processes import LIBPQ_PASSWORD, removed_variable
from pki.common.errors import LedgerError, from_os_error
from pki.common.filesystem import give_to_folder_owner, make_folder, require_file
from pki.common.hash_chain import START_HASH
from pki.common.visible import in_one_line
from pki.ledger import identity, upgrade
from pki.ledger.chain import TAKE_TURN
from pki.ledger.last_seen import authority_certificates, observed_heads, project_id
from pki.ledger.tables import SCHEMA, head, lease, metadata
from pki.ledger.types import (
    CHECK_DISK,
    EMPTY,
    EMPTY_TEXT,
    FILE_MISSING_TEXT,
    MISSING,
    RESTORE_DATABASE,
    RESTORE_FILE,
    RESTORE_FILE_OR_ACCEPT_LOSS,
    TRANSIENT,
    UNREADABLE,
    LedgerFault,
)

CHECK_DATABASE = "check the database that pki.yaml names as ledger, then: ./run invoke ledger.verify"
LOCK_TIMEOUT = 60  # seconds that a transaction waits for another one
TRANSIENT_CODES = {  # SQLite result codes for conditions that do not concern the content of the file
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
}
SYNCHRONOUS = "FULL"  # of SQLite: an event is durable before the files that follow from it
SCHEMA_LOCK = 0x646F6974  # advisory lock of PostgreSQL: one process at a time creates or upgrades the tables


class Database:
    """A SQLite file in `folder` (WAL, synchronous=FULL), or any other database that SQLAlchemy supports.

    `address` is `sqlite` or a SQLAlchemy URL. Tables are created only for a project without authorities and observed
    events: otherwise a missing or empty ledger is a lost one, and CRLs from a new ledger would lack revocations.
    `is_copy` opens a copy from a backup, without checking the identity of the project.

    Tables of an older version are upgraded when the database is opened, or, if `upgrades` is False, when it is first
    written. Until then a SQLite file of an older version is read through a copy that is upgraded.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        before_writing: Callable[[], None],
        *,
        is_copy: bool = False,
        upgrades: bool = True,
    ) -> None:
        self._before_writing = before_writing
        self._url = f"sqlite:///{folder / 'ledger.db'}" if address == "sqlite" else address
        self._folder = folder
        self._is_copy = is_copy
        self._upgrades = upgrades
        self._may_create = False
        self._is_checked = False
        self._engine: Engine | None = None
        self._process = 0
        self._copy: TemporaryDirectory[str] | None = None
        self.was_written = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run a transaction that only reads. Raises LedgerError, also if a row has a value that was never recorded."""
        with self._transaction() as db:
            try:
                yield db
            except (ValueError, TypeError, AttributeError) as error:  # raised by the functions that convert rows
                text = f"{self.place}: contains a value that was never recorded: {error}"
                raise LedgerError(text, RESTORE_FILE if self.is_sqlite else RESTORE_DATABASE) from None

    def find_damage(self) -> list[str]:
        """Return what SQLite finds damaged in pages and indexes: a query through a damaged index omits rows.

        Returns nothing for other databases: they check themselves.
        """
        if not self.is_sqlite:
            return []
        with self.reading() as db:
            rows = db.exec_driver_sql("PRAGMA integrity_check(10)").scalars()
            return [" ".join(str(row).split()) for row in rows if row != "ok"]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run a transaction that locks the head with its first statement, so that writers wait for each other.

        Raises what `before_writing` raises, which may forbid recording. Raises LedgerError for a damaged file: a query
        that omits rows would lead to CRLs that omit revocations.
        """
        if self._is_read_only:
            raise self._not_writable()
        self._before_writing()
        if not self._upgrades:
            self._upgrades = True
            if self._copy:
                self.close()  # it is opened again, and upgraded
        if not self._is_checked:
            if damage := self.find_damage():
                raise LedgerError(f"{self.place}: is damaged: {damage[0]}", RESTORE_FILE)
            self._is_checked = True
        with self._transaction() as db:
            db.execute(TAKE_TURN)
            yield db
        self.was_written = True

    @contextmanager
    def unrecorded(self) -> Iterator[Connection]:
        """Run a transaction that adds no event: it changes which machine runs doit, or fills an empty ledger."""
        with self._transaction() as db:
            yield db

    def head_was_stored(self) -> None:
        """Note that the head of everything that was written is stored in `ca/`."""
        self.was_written = False

    def create_empty(self) -> None:
        """Create the tables when the database is opened next, even if an earlier ledger is lost."""
        self.close()
        self._may_create = True

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._translated_errors():
            engine = self._open()
            with engine.begin() as db:
                yield db

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Convert errors of the database to LedgerError."""
        try:
            yield
        except UnicodeDecodeError as error:  # from a message in which SQLite quotes unreadable text
            raise LedgerError(f"{self.place}: is damaged: {error}", RESTORE_FILE) from None
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            is_transient = self.is_sqlite and getattr(cause, "sqlite_errorcode", 0) & 0xFF in TRANSIENT_CODES
            hint = RESTORE_FILE if self.is_sqlite else CHECK_DATABASE
            if is_transient:
                hint = CHECK_DISK
            text = f"{self.place}: {in_one_line(str(cause))}"
            raise LedgerError(text, hint, TRANSIENT if is_transient else "") from None

    def _open(self) -> Engine:
        if self._engine is None or self._process != os.getpid():
            self._engine = self._connect()
            self._process = os.getpid()
        return self._engine

    def _connect(self) -> Engine:
        if self.is_sqlite:
            self._make_file()
        engine = self._new_engine(self._reading_url() if self._is_read_only else self._url)
        try:
            if self._must_stay_as_it_is(engine):
                engine.dispose()
                engine = self._new_engine(self._copied_url())
            self._prepare(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _new_engine(self, url: str) -> Engine:
        try:
            engine = sql.create_engine(url, **self._arguments())
        except (SQLAlchemyError, ImportError, ValueError) as error:
            is_driver_missing = isinstance(error, NoSuchModuleError | ImportError)
            reason = (
                str(error) if is_driver_missing else "is no URL of a database"
            )  # SQLAlchemy's text quotes the password
            hint = "name a database whose driver is installed; for PostgreSQL: docs/how-to/postgresql.md"
            raise LedgerError(f"pki.yaml: ledger: {reason}", hint) from None
        if self.is_sqlite:
            sql.event.listen(engine, "connect", _durable if url == self._url and not self._is_read_only else _prepared)
            sql.event.listen(engine, "begin", _begin)
        return engine

    def _must_stay_as_it_is(self, engine: Engine) -> bool:
        """Return whether the file has tables of an older version that must not, or cannot, be upgraded now."""
        may_upgrade = self._upgrades and not self._is_read_only
        if not self.is_sqlite or self._is_copy or may_upgrade:
            return False
        with engine.begin() as db:
            if not sql.inspect(db).has_table(head.name):
                return False
            schema = db.execute(sql.select(head.c.schema)).scalar()
        return schema is not None and schema < SCHEMA

    def _arguments(self) -> dict[str, Any]:
        """Return arguments of the driver besides the URL: PGPASSWORD was removed from the environment, so libpq needs it."""
        if self.is_sqlite:
            return {"connect_args": {"timeout": LOCK_TIMEOUT}}
        password = removed_variable(LIBPQ_PASSWORD).decode(errors="surrogateescape")
        is_needed = password and self._url.startswith("postgresql") and sql.make_url(self._url).password is None
        return {"connect_args": {"password": password}} if is_needed else {}

    def _make_file(self) -> None:
        make_folder(self._folder, 0o700)
        path = self._folder / "ledger.db"
        require_file(path)
        if path.exists() and not os.access(path, os.R_OK):
            raise self._not_writable()
        if not path.exists():
            if not self._is_new_allowed:
                raise LedgerFault(MISSING, FILE_MISSING_TEXT, RESTORE_FILE_OR_ACCEPT_LOSS).error
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            give_to_folder_owner(path, self._folder)  # SQLite gives its log the owner of the database

    @property
    def _is_read_only(self) -> bool:
        """Return whether the file, or its folder with SQLite's log, is not writable; it is then opened for reading."""
        path = self._folder / "ledger.db"
        return self.is_sqlite and path.exists() and not (os.access(path, os.W_OK) and os.access(self._folder, os.W_OK))

    def _not_writable(self) -> LedgerError:
        path = self._folder / "ledger.db"
        number = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        error = from_os_error(OSError(number, os.strerror(number)), path, "cannot be opened")
        return LedgerError(error.message, error.hint)

    def _reading_url(self) -> str:
        """Return the URL that reads the file without writing; copies a file whose log is not merged into it yet.

        https://www.sqlite.org/wal.html#read_only_databases
        """
        path, log = self._folder / "ledger.db", self._folder / "ledger.db-wal"
        if log.exists() and log.stat().st_size:
            return self._copied_url()
        return f"sqlite:///file:{quote(str(path))}?mode=ro&immutable=1&uri=true"

    def _copied_url(self) -> str:
        """Copy the file and its log, and return the URL of the copy, which is removed when the database is closed."""
        if self._copy is None:
            self._copy = TemporaryDirectory(prefix="doit-pki-")
        for name in ("ledger.db", "ledger.db-wal"):
            if (self._folder / name).exists():
                shutil.copyfile(self._folder / name, Path(self._copy.name) / name)
        return f"sqlite:///{self._copy.name}/ledger.db"

    @property
    def _is_new_allowed(self) -> bool:
        """Return whether there was no earlier ledger: no authority has a certificate, and no event was observed."""
        if self._may_create or self._is_copy:
            return True
        return not authority_certificates(self._folder) and not observed_heads(self._folder)

    def _prepare(self, engine: Engine) -> None:
        """Create or upgrade the tables, and check that the ledger belongs to this project."""
        with engine.begin() as db:
            tables = set(sql.inspect(db).get_table_names())
            schema = db.execute(sql.select(head.c.schema)).scalar() if head.name in tables else None
            seq = db.execute(sql.select(head.c.seq)).scalar() if head.name in tables else None
        if schema is None and not self._is_new_allowed:
            remedy = RESTORE_FILE_OR_ACCEPT_LOSS if self.is_sqlite else RESTORE_DATABASE
            raise LedgerFault(EMPTY, f"{self.place}: {EMPTY_TEXT}", remedy).error
        if schema is not None and schema > SCHEMA:
            text = f"{self.place}: schema {schema}, this program writes {SCHEMA}"
            raise LedgerFault(UNREADABLE, text, "use the program version that matches it").error
        if schema != SCHEMA or not metadata.tables.keys() <= tables:
            with self._schema_change(engine) as db:
                self._create_or_upgrade(db, is_new=schema is None)
        if not self._is_copy:
            with engine.begin() as db:
                identity.require_own_ledger(db, self._folder, self.place, has_events=bool(seq))

    def _create_or_upgrade(self, db: Connection, *, is_new: bool) -> None:
        if not is_new and not self._is_copy:
            identity.require_own_authorities(db, self._folder, self.place)
        project = self._own_project()
        metadata.create_all(db)
        if db.execute(sql.select(head.c.schema)).first() is None:
            db.execute(sql.insert(head).values(schema=SCHEMA, seq=0, hash=START_HASH, project=project))
            db.execute(sql.insert(lease).values(holder="", until=0, token=0))
        else:
            upgrade.upgrade_schema(db, project, self._folder)

    def _own_project(self) -> str:
        """Return the identity of the project for new tables; creates one, except for those of a copy."""
        if self._is_copy:
            return ""
        return project_id(self._folder) if self._copy else identity.read_or_create_id(self._folder)

    @contextmanager
    def _schema_change(self, engine: Engine) -> Iterator[Connection]:
        """Run a transaction in which one process at a time changes tables; a failure changes nothing."""
        with engine.connect() as connection:
            db = connection.execution_options(begin="BEGIN IMMEDIATE")
            with db.begin():
                if db.dialect.name == "postgresql":
                    db.execute(sql.select(sql.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                yield db

    @property
    def is_sqlite(self) -> bool:
        """Return whether the ledger is a SQLite file."""
        return self._url.startswith("sqlite:")

    @property
    def place(self) -> str:
        """Return the name of the database in messages."""
        return "ca/ledger.db" if self.is_sqlite else "the ledger's database"

    def close(self) -> None:
        """Close the database; its next use opens it again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._copy:
            self._copy.cleanup()
            self._copy = None


class DatabaseUser:
    """A part of a ledger: methods on its database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def _prepared(connection: Any, _record: Any) -> None:
    connection.text_factory = _decoded
    # otherwise the driver executes statements that change tables outside the transaction
    connection.isolation_level = None


def _durable(connection: Any, record: Any) -> None:
    _prepared(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
    cursor.close()


def _decoded(text: bytes) -> str:
    """Decode a text; damaged bytes are replaced, so its hash reveals the damage."""
    return text.decode(errors="replace")


def _begin(db: Connection) -> None:
    db.exec_driver_sql(db.get_execution_options().get("begin", "BEGIN"))
