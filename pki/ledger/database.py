"""The database of a ledger: opened when first asked, and once more in each process that a run forks."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import DatabaseError
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pki.errors import LedgerError, of_system
from pki.files import insist_on_file, leave_to_owner
from pki.ledger.chain import NO_HASH, TAKE_TURN
from pki.ledger.tables import SCHEMA, certificates, head, metadata, revocations
from pki.records import BEGIN_ANEW, GONE, PUT_BACK
from pki.store import Store, make_folder


class Database:
    """SQLite below a folder (WAL, synchronous=FULL), or any other that SQLAlchemy speaks.

    A ledger begins where no authority has a certificate yet; one that is gone is never begun anew by itself, because
    CRLs made from it would lack what was revoked.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._url = f"sqlite:///{folder / 'ledger.db'}" if address == "sqlite" else address
        self._folder = folder
        self._engine: Engine | None = None
        self._process = 0

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._transaction() as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the head from its first statement on, so that two writers take turns."""
        with self._transaction() as db:
            db.execute(TAKE_TURN)
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._open().begin() as db:
                yield db
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise LedgerError(f"{self.place}: {str(cause).strip()}", self._hint(cause)) from None

    def _hint(self, cause: BaseException) -> str:
        if not self._is_sqlite:
            return "look at the database that pki.yaml names as ledger, then: ./run invoke ledger.verify"
        if type(cause) is DatabaseError:  # it is damaged: whatever comes and goes has a class of its own
            return PUT_BACK
        return "ls -l ca/ledger.db* and df -h ca, then: ./run invoke ledger.verify"

    def _open(self) -> Engine:
        if self._engine is None or self._process != os.getpid():
            self._engine = self._connect()
            self._process = os.getpid()
        return self._engine

    def _connect(self) -> Engine:
        try:
            engine = sql.create_engine(self._url, connect_args={"timeout": 60} if self._is_sqlite else {})
        except (SQLAlchemyError, ImportError) as error:
            raise LedgerError(f"pki.yaml: ledger: {error}", "name a database whose driver is installed") from None
        if self._is_sqlite:
            make_folder(self._folder, 0o700)
            path = self._folder / "ledger.db"
            insist_on_file(path)
            if path.exists() and not os.access(path, os.R_OK | os.W_OK):
                closed = of_system(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), path, "cannot be opened")
                raise LedgerError(closed.message, closed.hint)
            if not path.exists():
                if Store(self._folder.parent).is_founded:
                    raise LedgerError(GONE, BEGIN_ANEW)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
                leave_to_owner(path, self._folder)  # SQLite makes its log the database owner's
            sql.event.listen(engine, "connect", _durable)
        with engine.begin() as db:
            metadata.create_all(db)
            found = db.execute(sql.select(head.c.schema)).scalar()
            if found is None:
                db.execute(sql.insert(head).values(schema=SCHEMA, seq=0, hash=NO_HASH))
            elif found == 1:
                _to_schema_2(db)
            elif found != SCHEMA:
                raise LedgerError(
                    f"{self.place}: schema {found}, this program writes {SCHEMA}",
                    "use the program that matches it",
                )
        return engine

    @property
    def _is_sqlite(self) -> bool:
        return self._url.startswith("sqlite:")

    @property
    def place(self) -> str:
        """What messages call it."""
        return "ca/ledger.db" if self._is_sqlite else "the ledger's database"

    def close(self) -> None:
        """Close the database; it opens again when asked."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def _durable(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _to_schema_2(db: Connection) -> None:
    """Serial numbers are unique for each issuer, not in the whole ledger. Rows, and so all hashes, stay as they are."""
    if not db.execute(sql.update(head).where(head.c.schema == 1).values(schema=2)).rowcount:
        return  # another process did it while this one waited
    for table in (certificates, revocations):
        fresh = table.to_metadata(sql.MetaData(), name=f"{table.name}_2")
        fresh.indexes.clear()
        fresh.create(db)
        db.execute(sql.insert(fresh).from_select(list(table.columns.keys()), sql.select(table)))
        table.drop(db)
        db.execute(sql.text(f"ALTER TABLE {fresh.name} RENAME TO {table.name}"))
        for index in table.indexes:
            index.create(db)
