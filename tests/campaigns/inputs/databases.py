"""Mutations of a ledger in SQLite: of rows, columns and tables, as somebody with `sqlite3` makes them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.campaigns.inputs import values


def _tables(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info('{table}')")]


def _row(db: sqlite3.Connection, table: str, place: int) -> int | None:
    rows = [row for (row,) in db.execute(f"SELECT rowid FROM '{table}' ORDER BY rowid")]  # noqa: S608 - names of our own
    return rows[place % len(rows)] if rows else None


def cell(db: sqlite3.Connection, table: str, place: int, other: int, new: Any) -> None:
    columns = _columns(db, table)
    column = columns[other % len(columns)]
    kept = values.spelled(new) if isinstance(new, str) else None if isinstance(new, list | dict) else new
    if isinstance(kept, int) and abs(kept) >= 1 << 63:
        kept = str(kept)
    if isinstance(kept, str):
        kept = kept.encode(errors="replace").decode()
    with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
        db.execute(f"UPDATE '{table}' SET \"{column}\" = ? WHERE rowid = ?", (kept, _row(db, table, place)))  # noqa: S608


def blob(db: sqlite3.Connection, table: str, place: int, other: int, _new: Any) -> None:
    """Bytes where a text should be: SQLite's columns take anything."""
    columns = _columns(db, table)
    column = columns[other % len(columns)]
    with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
        db.execute(f"UPDATE '{table}' SET \"{column}\" = x'ff00fe' WHERE rowid = ?", (_row(db, table, place),))  # noqa: S608


def row_gone(db: sqlite3.Connection, table: str, place: int, _other: int, _new: Any) -> None:
    db.execute(f"DELETE FROM '{table}' WHERE rowid = ?", (_row(db, table, place),))  # noqa: S608


def rows_swapped(db: sqlite3.Connection, table: str, place: int, other: int, _new: Any) -> None:
    """One column of two rows changes places."""
    columns = _columns(db, table)
    column, one, two = columns[other % len(columns)], _row(db, table, place), _row(db, table, place >> 8)
    if one is None:
        return
    with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
        (kept,) = db.execute(f"SELECT \"{column}\" FROM '{table}' WHERE rowid = ?", (one,)).fetchone()  # noqa: S608
        db.execute(
            f"UPDATE '{table}' SET \"{column}\" = (SELECT \"{column}\" FROM '{table}' WHERE rowid = ?) WHERE rowid = ?",  # noqa: S608
            (two, one),
        )
        db.execute(f"UPDATE '{table}' SET \"{column}\" = ? WHERE rowid = ?", (kept, two))  # noqa: S608


def emptied(db: sqlite3.Connection, table: str, _place: int, _other: int, _new: Any) -> None:
    db.execute(f"DELETE FROM '{table}'")  # noqa: S608


def dropped(db: sqlite3.Connection, table: str, _place: int, _other: int, _new: Any) -> None:
    db.execute(f"DROP TABLE '{table}'")


def column_gone(db: sqlite3.Connection, table: str, _place: int, other: int, _new: Any) -> None:
    columns = _columns(db, table)
    with suppress(sqlite3.OperationalError):
        db.execute(f"ALTER TABLE '{table}' RENAME COLUMN \"{columns[other % len(columns)]}\" TO gone")


def trigger(db: sqlite3.Connection, table: str, _place: int, other: int, _new: Any) -> None:
    """What the database does by itself."""
    act = ("SELECT RAISE(IGNORE)", "SELECT RAISE(ABORT, 'no')", f"DELETE FROM '{table}'")[other % 3]  # noqa: S608
    with suppress(sqlite3.OperationalError):
        db.execute(f"CREATE TRIGGER t BEFORE INSERT ON '{table}' BEGIN {act}; END")


def version(db: sqlite3.Connection, _table: str, place: int, _other: int, _new: Any) -> None:
    db.execute(f"PRAGMA user_version = {place % 100}")


def rows(data: bytes) -> dict[str, list[str]] | None:
    """What the tables of a ledger record; None where SQLite cannot read it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        path.write_bytes(data)
        try:
            with closing(sqlite3.connect(path)) as db:
                tables = [
                    name for name in _tables(db) if name != "lease"
                ]  # which tells who writes, and records nothing
                return {name: sorted(map(repr, db.execute(f"SELECT * FROM '{name}'"))) for name in tables}  # noqa: S608
        except sqlite3.DatabaseError:
            return None


def _mutation(change: Callable[[sqlite3.Connection, str, int, int, Any], None]) -> Callable[..., bytes]:
    def mutation(data: bytes, place: int, other: int, new: Any) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ledger.db")
            path.write_bytes(data)
            with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA foreign_keys = OFF")
                tables = _tables(db)
                if tables:
                    change(db, tables[(place >> 16) % len(tables)], place, other, new)
                    db.commit()
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return path.read_bytes()

    return mutation


MUTATIONS: Mapping[str, Callable[[bytes, int, int, Any], bytes]] = {
    f"sqlite {one.__name__}": _mutation(one)
    for one in (cell, blob, row_gone, rows_swapped, emptied, dropped, column_gone, trigger, version)
}
