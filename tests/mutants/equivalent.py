"""The changes that change nothing: `equivalent.toml` says why, for each."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from tests.mutants.changes import Change

LIST = Path(__file__).with_name("equivalent.toml")


@cache
def explained() -> dict[tuple[str, str, str], str]:
    """Why each listed change is equivalent, by its module, the line, and the line as it was changed."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["change"]
    return {(entry["path"], entry["before"], after): entry["reason"] for entry in entries for after in entry["after"]}


def is_explained(change: Change) -> bool:
    return (change.path, change.before, change.after) in explained()
