"""The machine that runs doit, in the ledger: with a database that several machines reach, only one of them writes."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sql

from pki.ledger.database import DatabaseUser
from pki.ledger.tables import lease
from pki.ledger.types import Runner


class SqlRunnerLease(DatabaseUser):
    """Read and change which machine runs doit."""

    def runner(self) -> Runner:
        """Return the machine that runs doit. Raises LedgerError."""
        with self._database.reading() as db:
            holder, since = db.execute(sql.select(lease.c.holder, lease.c.until)).one()
        return Runner(holder, datetime.fromtimestamp(since, UTC))

    def set_runner(self, machine: str, at: datetime) -> None:
        """Record the machine that runs doit from now on."""
        with self._database.unrecorded() as db:
            values = {"holder": machine, "until": int(at.timestamp()), "token": lease.c.token + 1}
            db.execute(sql.update(lease).values(values))
