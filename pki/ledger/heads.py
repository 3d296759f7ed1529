"""Where the ledger was seen to stand, held against it: that tells a ledger of before from the newest one."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.common import filesystem, sealed_records
from pki.ledger.chain import READ_HEAD
from pki.ledger.last_seen import LEDGER_HEAD, seen_head
from pki.ledger.tables import decisions, events, revocations
from pki.ledger.types import ACCEPTED, Head


def holds(db: Connection, seen: Head) -> bool:
    """Return whether the ledger contains an event that was seen, or its loss was accepted explicitly."""
    is_it = (events.c.seq == seen.seq, events.c.hash == seen.hash)
    if not seen.seq or db.execute(sql.select(events.c.seq).where(*is_it)).first():
        return True
    accepted = sql.select(decisions.c.seq).where(
        decisions.c.decision == ACCEPTED, decisions.c.detail.contains(seen.hash)
    )
    return db.execute(accepted).first() is not None


def note(db: Connection, folder: Path) -> None:
    """Note how far the ledger is. A note of an event that the ledger lacks stays: it is the evidence."""
    seq, digest = db.execute(READ_HEAD).one()
    noted = seen_head(folder, LEDGER_HEAD)
    if not seq or (noted and (noted[:2] == (seq, digest) or not holds(db, noted))):
        return
    revoked = db.execute(sql.select(sql.func.count()).select_from(revocations)).scalar()
    said = sealed_records.sealed({"events": seq, "head": digest, "revocations": revoked})
    filesystem.write(folder / LEDGER_HEAD, said, filesystem.SECRET)
