"""Read the events of the ledger, and verify their hash chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql

from pki.common.errors import LedgerError
from pki.ledger.chain import READ_HEAD, find_faults
from pki.ledger.database import DatabaseUser
from pki.ledger.heads import contains_or_accepted
from pki.ledger.rows import checked_integer, checked_text, instant
from pki.ledger.tables import events
from pki.ledger.types import NEWEST_MISSING, RESTORE_DATABASE, RESTORE_FILE, Event, Head


class SqlEventLog(DatabaseUser):
    """The events of the ledger, each with the hash of the previous one, and the head, which names the newest."""

    def events(self, last: int | None = None) -> list[Event]:
        """Return the events, oldest first: all, or the `last` ones."""
        query = sql.select(events).order_by(events.c.seq.desc())
        with self._database.reading() as db:
            rows = db.execute(query.limit(last) if last else query).all()
            return [_event_of(row) for row in reversed(rows)]

    def newest_event(self) -> Event | None:
        """Return the newest event, or None. Raises LedgerError if the head names another one: then events are missing."""
        newest = sql.select(events).order_by(events.c.seq.desc()).limit(1)
        with self._database.reading() as db:
            row, head = db.execute(newest).first(), db.execute(READ_HEAD).one()
            event = _event_of(row) if row else None
        is_head_newest = (row.seq, row.hash) == (head.seq, head.hash) if row else not head.seq
        if not is_head_newest:
            text = f"{self._database.place}: its newest events are missing"
            raise LedgerError(text, RESTORE_FILE if self._database.is_sqlite else RESTORE_DATABASE, NEWEST_MISSING)
        return event

    def head(self) -> Head:
        """Return number and hash of the newest event from the head."""
        with self._database.reading() as db:
            row = db.execute(READ_HEAD).one()
            return Head(checked_integer(row.seq), checked_text(row.hash))

    def missing_heads(self, observed: Sequence[Head]) -> list[Head]:
        """Return the observed heads that the ledger does not contain and whose loss was not accepted."""
        with self._database.reading() as db:
            return [head for head in observed if not contains_or_accepted(db, head)]

    def verify(self) -> list[str]:
        """Recompute every hash; returns the faults, one text each, or an empty list for an intact ledger."""
        with self._database.reading() as db:
            chain_faults = list(find_faults(db))
        return chain_faults + self._database.find_damage()


def _event_of(row: sql.Row[Any]) -> Event:
    return Event(
        row.seq,
        instant(row.at),
        checked_text(row.kind),
        checked_text(row.subject),
        checked_text(row.hash),
        checked_text(row.actor or ""),
    )
