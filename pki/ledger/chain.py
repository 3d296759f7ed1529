"""The hash chain: each row has an event, and each event contains the hash of the previous event."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.ledger import actor
from pki.ledger.tables import TABLES, events, head

NO_HASH = "0" * 64

# The statements of every addition, built once for speed.
TAKE_TURN = sql.update(head).values(seq=head.c.seq + 1)
READ_HEAD = sql.select(head.c.seq, head.c.hash)
MOVE_HEAD = sql.update(head).values(hash=sql.bindparam("sealed"))
ADD_ROW = {kind: sql.insert(table) for kind, table in TABLES.items()}
ADD_EVENT = sql.insert(events)


def append(db: Connection, kind: str, subject: str, row: dict[str, Any], at: datetime) -> None:
    """Append a row and its event to the chain; `at` is the time of the event (UTC)."""
    seq, previous = db.execute(READ_HEAD).one()
    digest = _digest({"seq": seq, **row})
    event = _event(seq, at, kind, subject, digest, actor.current_actor())
    sealed = _digest({**event, "previous": previous})
    db.execute(ADD_ROW[kind], {"seq": seq, **row})
    db.execute(ADD_EVENT, {**event, "previous": previous, "hash": sealed})
    db.execute(MOVE_HEAD, {"sealed": sealed})


def append_all(db: Connection, records: Sequence[tuple[str, str, dict[str, Any]]], at: datetime) -> None:
    """Append many rows, each given as kind, subject and values, with their events."""
    seq, previous = db.execute(READ_HEAD).one()
    rows: dict[str, list[dict[str, Any]]] = {}
    chain, actor_text = list[dict[str, Any]](), actor.current_actor()
    for number, (kind, subject, values) in enumerate(records, seq):
        row = {"seq": number, **values}
        event = _event(number, at, kind, subject, _digest(row), actor_text)
        sealed = _digest({**event, "previous": previous})
        rows.setdefault(kind, []).append(row)
        chain.append({**event, "previous": previous, "hash": sealed})
        previous = sealed
    for kind, rows_of_kind in rows.items():
        db.execute(ADD_ROW[kind], rows_of_kind)
    db.execute(ADD_EVENT, chain)
    db.execute(sql.update(head).values(seq=chain[-1]["seq"], hash=previous))


def _event(seq: int, at: datetime, kind: str, subject: str, digest: str, actor_text: str) -> dict[str, Any]:
    return {"seq": seq, "at": int(at.timestamp()), "kind": kind, "subject": subject, "row": digest, "actor": actor_text}


def find_faults(db: Connection) -> Iterator[str]:
    """Yield the faults of the chain: missing, changed or added rows and events."""
    rows = {
        (kind, row["seq"]): _digest(row)
        for kind, table in TABLES.items()
        for row in db.execute(sql.select(table)).mappings()
    }
    previous, expected = NO_HASH, 1
    for event in db.execute(sql.select(events).order_by(events.c.seq)).mappings():
        seq = event["seq"]
        if seq != expected:
            yield f"event {expected} is missing"
        if event["previous"] != previous:
            yield f"event {seq} does not follow the previous one"
        if _digest({k: v for k, v in event.items() if k != "hash"}) != event["hash"]:
            yield f"event {seq} ({event['kind']} {event['subject']}) was changed"
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


def _digest(row: Mapping[Any, Any]) -> str:
    """Return the SHA-256 of a row in hexadecimal.

    Columns with NULL are excluded: a later schema added them. A value that JSON cannot encode was never recorded, but
    SQLite can store it: its `repr` gives the row another digest.
    """
    values = {name: value for name, value in row.items() if value is not None}
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":"), default=repr).encode()).hexdigest()
