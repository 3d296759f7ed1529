"""A copy of a ledger in another database as a SQLite file, for backups, and the way back into an empty database."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.common.errors import LedgerError
from pki.ledger.database import Database, DatabaseUser
from pki.ledger.tables import head, metadata

ROWS_AT_ONCE = 1000


class SqlPortableCopy(DatabaseUser):
    """Write and read copies of a ledger; both have all rows of all tables, also the chain of hashes."""

    def copy_to(self, folder: Path) -> None:
        """Write a copy of the ledger as of one moment to `ledger.db` in a folder that has none. Raises LedgerError."""
        path = folder / "ledger.db"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        engine = sql.create_engine(f"sqlite:///{path}")
        try:
            with self._database.reading() as source, engine.begin() as target:
                if source.dialect.name == "postgresql":  # all tables as of the same moment
                    source.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                metadata.create_all(target)
                _copy_rows(source, target)
        finally:
            engine.dispose()

    def load_from(self, folder: Path) -> None:
        """Put the copy in `ledger.db` of a folder into this database. Raises LedgerError unless this ledger is empty."""
        copy = Database("sqlite", folder, lambda: None, is_copy=True)
        try:
            with copy.reading() as source, self._database.unrecorded() as target:
                events, project = target.execute(sql.select(head.c.seq, head.c.project)).one()
                if events:
                    raise LedgerError(
                        f"{self._database.place}: has {events} events already; nothing was restored",
                        "./run invoke ledger.verify",
                    )
                own_project = source.execute(sql.select(head.c.project)).scalar_one()
                if own_project != project:
                    raise LedgerError(
                        f"the copy belongs to project {own_project[:12]}, and this is {project[:12]}",
                        "restore the backup of this project",
                    )
                for table in reversed(metadata.sorted_tables):
                    target.execute(sql.delete(table))
                _copy_rows(source, target)
        finally:
            copy.close()


def _copy_rows(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        rows = source.execute(sql.select(table)).mappings()
        for part in rows.partitions(ROWS_AT_ONCE):
            target.execute(sql.insert(table), [dict(row) for row in part])
