"""The hash chain: each row has an event, and each event contains the hash of the previous event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.common.hash_chain import START_HASH, ChainFault, HashChain
from pki.ledger import actor
from pki.ledger.tables import TABLES, events, head

# The statements of every addition, built once for speed.
TAKE_TURN = sql.update(head).values(seq=head.c.seq + 1)
READ_HEAD = sql.select(head.c.seq, head.c.hash)
MOVE_HEAD = sql.update(head).values(seq=sql.bindparam("last"), hash=sql.bindparam("sealed"))
ADD_ROW = {kind: sql.insert(table) for kind, table in TABLES.items()}
ADD_EVENT = sql.insert(events)


def _encode(row: Mapping[Any, Any]) -> bytes:
    """Return the bytes of a row or event that are hashed.

    Columns with NULL are excluded: a later schema added them. A value that JSON cannot encode was never recorded, but
    SQLite can store it: its `repr` gives the row another digest.
    """
    values = {name: value for name, value in row.items() if value is not None}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=repr).encode()


CHAIN = HashChain("seq", _encode)


def append(db: Connection, kind: str, subject: str, row: dict[str, Any], at: datetime) -> None:
    """Append a row and its event to the chain; `at` is the time of the event (UTC)."""
    append_all(db, [(kind, subject, row)], at)


def append_all(db: Connection, records: Sequence[tuple[str, str, dict[str, Any]]], at: datetime) -> None:
    """Append many rows, each given as kind, subject and values, with their events."""
    seq, previous = db.execute(READ_HEAD).one()
    rows: dict[str, list[dict[str, Any]]] = {}
    chain, facts = list[dict[str, Any]](), {"at": int(at.timestamp()), "actor": actor.current_actor()}
    for number, (kind, subject, values) in enumerate(records, seq):
        row = {"seq": number, **values}
        rows.setdefault(kind, []).append(row)
        event = {"seq": number, "kind": kind, "subject": subject, "row": CHAIN.digest(row), **facts}
        chain.append(CHAIN.entry(event, chain[-1]["hash"] if chain else previous))
    for kind, rows_of_kind in rows.items():
        db.execute(ADD_ROW[kind], rows_of_kind)
    db.execute(ADD_EVENT, chain)
    db.execute(MOVE_HEAD, {"last": chain[-1]["seq"], "sealed": chain[-1]["hash"]})


def find_faults(db: Connection) -> Iterator[str]:
    """Yield the faults of the chain: missing, changed or added rows and events."""
    rows = {
        (kind, row["seq"]): CHAIN.digest(row)
        for kind, table in TABLES.items()
        for row in db.execute(sql.select(table)).mappings()
    }
    previous, expected = START_HASH, 1
    for event in db.execute(sql.select(events).order_by(events.c.seq)).mappings():
        seq = event["seq"]
        texts = {
            ChainFault.NUMBER: f"event {expected} is missing",
            ChainFault.PREVIOUS: f"event {seq} does not follow the previous one",
            ChainFault.HASH: f"event {seq} ({event['kind']} {event['subject']}) was changed",
        }
        yield from (texts[fault] for fault in CHAIN.faults(event, expected, previous))
        row_digest = rows.pop((event["kind"], seq), None)
        if row_digest is None:
            yield f"event {seq}: its {event['kind']} of {event['subject']} is missing"
        elif row_digest != event["row"]:
            yield f"event {seq}: its {event['kind']} of {event['subject']} was changed"
        previous, expected = event["hash"], seq + 1
    for kind, seq in sorted(rows, key=str):
        yield f"{kind} {seq} has no event"
    last = db.execute(sql.select(head.c.seq, head.c.hash)).one()
    if (last.seq, last.hash) != (expected - 1, previous):
        yield f"the newest events are missing: the head is event {last.seq}, the log ends at {expected - 1}"
