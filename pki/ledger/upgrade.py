"""Ledgers of earlier schemas brought to the present one, in one transaction. Rows, and so all hashes, stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.config.identifiers import ArtifactId
from pki.ledger.chain import TAKE_TURN, append
from pki.ledger.tables import SCHEMA, certificates, crls, events, head, lease, revocations
from pki.ledger.types import Pin


def to_present(db: Connection, project: str, folder: Path) -> None:
    """Bring the tables to the present schema; nothing where another process did it while this one waited."""
    schema = db.execute(sql.select(head.c.schema)).scalar()
    if schema == 1:
        _to_schema_2(db)
    if schema is not None and schema < SCHEMA:
        _to_schema_3(db, project, folder)


def _to_schema_2(db: Connection) -> None:
    """Serial numbers are unique for each issuer, not in the whole ledger."""
    for table in (certificates, revocations):
        fresh = table.to_metadata(sql.MetaData(), name=f"{table.name}_2")
        fresh.indexes.clear()
        fresh.create(db)
        db.execute(sql.insert(fresh).from_select(list(table.columns.keys()), sql.select(table)))
        table.drop(db)
        db.execute(sql.text(f"ALTER TABLE {fresh.name} RENAME TO {table.name}"))
        for index in table.indexes:
            index.create(db)


def _to_schema_3(db: Connection, project: str, folder: Path) -> None:
    """The ledger says whose it is, events say who recorded them, and CRLs are recorded without their text.

    Hosts that were pinned are pinned by decisions, no longer by files in `build/`.
    """
    for column in (head.c.project, events.c.actor, crls.c.sha256, crls.c.added, crls.c.removed):
        said = sql.schema.CreateColumn(column).compile(dialect=db.dialect)
        db.execute(sql.text(f"ALTER TABLE {column.table.name} ADD COLUMN {said}"))
    for index in crls.indexes:
        index.create(db, checkfirst=True)
    db.execute(sql.insert(lease).values(holder="", until=0, token=0))
    db.execute(sql.update(head).values(schema=SCHEMA, project=project))
    for host, pin in pins_in_files(folder.parent / "build"):
        db.execute(TAKE_TURN)
        subject, at = ArtifactId("deploy", host), int(pin.since.timestamp())
        row = {"artifact": subject, "decision": "pinned", "detail": pin.release, "at": at}
        append(db, "decision", subject, row, pin.since)


def pins_in_files(build: Path) -> Iterator[tuple[str, Pin]]:
    """Hosts that files in `build/` say are pinned, as programs before schema 3 of the ledger wrote them."""
    for path in sorted((build / "history").glob("*/held/manifest.json")):
        try:
            release = str(json.loads(path.read_bytes())["release"])
            since = datetime.fromisoformat(path.with_name("since").read_text().strip())
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        yield path.parent.parent.name, Pin(release, since)
