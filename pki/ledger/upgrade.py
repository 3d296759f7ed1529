"""Upgrade a ledger to the current schema in one transaction. Rows, and therefore all hashes, do not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.engine import Connection

from pki.config.identifiers import ArtifactId
from pki.ledger.chain import TAKE_TURN, append
from pki.ledger.rows import decision_row
from pki.ledger.tables import SCHEMA, certificates, crls, events, head, lease, revocations
from pki.ledger.types import Pin


def upgrade_schema(db: Connection, project: str, folder: Path) -> None:
    """Upgrade the tables to the current schema; does nothing if another process did it in the meantime."""
    schema = db.execute(sql.select(head.c.schema)).scalar()
    if schema == 1:
        _to_schema_2(db)
    if schema is not None and schema < SCHEMA:
        _to_schema_3(db, project, folder)


def _to_schema_2(db: Connection) -> None:
    """Upgrade from 1 to 2: serial numbers are unique for each issuer, not in the whole ledger."""
    for table in (certificates, revocations):
        new_table = table.to_metadata(sql.MetaData(), name=f"{table.name}_2")
        new_table.indexes.clear()  # their names belong to the old table until it is dropped
        new_table.create(db)
        db.execute(sql.insert(new_table).from_select(list(table.columns.keys()), sql.select(table)))
        table.drop(db)
        db.execute(sql.text(f"ALTER TABLE {new_table.name} RENAME TO {table.name}"))
        for index in table.indexes:
            index.create(db)


def _to_schema_3(db: Connection, project: str, folder: Path) -> None:
    """Upgrade from 2 to 3: the ledger has the project's identity, events have an actor, CRLs have no text.

    Pinned hosts are recorded as decisions instead of files in `build/`.
    """
    for column in (head.c.project, events.c.actor, crls.c.sha256, crls.c.added, crls.c.removed):
        definition = sql.schema.CreateColumn(column).compile(dialect=db.dialect)
        db.execute(sql.text(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}"))
    for index in crls.indexes:
        index.create(db, checkfirst=True)
    db.execute(sql.insert(lease).values(holder="", until=0, token=0))
    db.execute(sql.update(head).values(schema=SCHEMA, project=project))
    for host, pin in pins_in_files(folder.parent / "build"):
        db.execute(TAKE_TURN)
        subject = ArtifactId("deploy", host)
        append(db, "decision", subject, decision_row(subject, "pinned", pin.release, pin.since), pin.since)


def pins_in_files(build: Path) -> Iterator[tuple[str, Pin]]:
    """Yield host and pin of each file in `build/` that a program before schema 3 wrote for a pinned host."""
    for path in sorted((build / "history").glob("*/held/manifest.json")):
        try:
            release = str(json.loads(path.read_bytes())["release"])
            since = datetime.fromisoformat(path.with_name("since").read_text().strip())
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        yield path.parent.parent.name, Pin(release, since)
