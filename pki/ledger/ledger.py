"""The ledger in SQL: every certificate, revocation, CRL number and decision, recorded before its files are written.

Rows are only added. Each addition is one transaction with its event, and each event contains the hash of the previous
one, so `verify` finds a row that was changed, removed or inserted later. The database is SQLite (WAL, synchronous=FULL)
or any other that SQLAlchemy supports. Times are whole seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from pki.ledger.certificate_queries import SqlCertificateQueries
from pki.ledger.crl_queries import SqlCrlQueries
from pki.ledger.database import Database
from pki.ledger.event_log import SqlEventLog
from pki.ledger.heads import write_head
from pki.ledger.portable_copy import SqlPortableCopy
from pki.ledger.recorder import SqlRecorder
from pki.ledger.recovery import SqlRecovery
from pki.ledger.runner_lease import SqlRunnerLease


class SqlLedger(SqlRecorder, SqlCertificateQueries, SqlCrlQueries, SqlEventLog, SqlRunnerLease, SqlPortableCopy):
    """The ledger of one project. It is opened at its first use, and once in each forked process.

    `address` is `sqlite` or a SQLAlchemy URL, `folder` is `ca/`. `guard` raises LedgerError if the ledger lost
    events: then nothing may be recorded, except by `recovery`. `before_writing` raises PkiError if the clock cannot be
    trusted, or if another machine runs doit: then nothing at all may be recorded. `is_copy` opens a copy from a backup, in its own folder. `upgrades` says
    whether tables of an older version are upgraded as soon as the ledger is opened, or when something is recorded.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        guard: Callable[[], None] = lambda: None,
        before_writing: Callable[[], None] = lambda: None,
        *,
        is_copy: bool = False,
        upgrades: bool = True,
    ) -> None:
        super().__init__(Database(address, folder, before_writing, is_copy=is_copy, upgrades=upgrades), guard)
        self._folder = folder

    @cached_property
    def recovery(self) -> SqlRecovery:
        """The methods that recover a ledger with lost events."""
        return SqlRecovery(self._database)

    def close(self) -> None:
        """Close the database, after writing the new head to `ca/`; its next use opens it again."""
        if self._database.was_written:
            self.write_head()
        self._database.close()

    def write_head(self) -> None:
        """Write the head of the ledger to `ca/`, to detect an older copy of the ledger later."""
        with self._database.reading() as db:
            write_head(db, self._folder)
        self._database.head_was_stored()
