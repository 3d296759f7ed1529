"""Compare the ledger with heads that were observed earlier, which detects an older copy of it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.common import filesystem, sealed_records
from pki.ledger.chain import READ_HEAD
from pki.ledger.last_seen import LEDGER_HEAD, observed_head
from pki.ledger.tables import decisions, events, revocations
from pki.ledger.types import ACCEPTED, Head


def contains_or_accepted(db: Connection, observed: Head) -> bool:
    """Return whether the ledger contains an observed event, or an operator accepted its loss."""
    is_event = (events.c.seq == observed.seq, events.c.hash == observed.hash)
    if not observed.seq or db.execute(sql.select(events.c.seq).where(*is_event)).first():
        return True
    accepting_decision = sql.select(decisions.c.seq).where(
        decisions.c.decision == ACCEPTED, decisions.c.detail.contains(observed.hash)
    )
    return db.execute(accepting_decision).first() is not None


def write_head(db: Connection, folder: Path) -> None:
    """Write the head of the ledger to `ca/`. A head that the ledger does not contain stays there as evidence."""
    seq, digest = db.execute(READ_HEAD).one()
    previous = observed_head(folder, LEDGER_HEAD)
    is_written = previous is not None and previous[:2] == (seq, digest)
    if not seq or is_written or (previous and not contains_or_accepted(db, previous)):
        return
    revocation_count = db.execute(sql.select(sql.func.count()).select_from(revocations)).scalar()
    content = sealed_records.encode_sealed({"events": seq, "head": digest, "revocations": revocation_count})
    filesystem.write(folder / LEDGER_HEAD, content, filesystem.SECRET)
