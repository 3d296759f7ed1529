"""The format of a project's files below `ca/`, and the version of the program that last ran there: `ca/.format.json`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pki import __version__
from pki.common import filesystem
from pki.common.errors import PkiError

FORMAT = 1  # rises when an older program could misread or damage what this one writes
FILE = ".format.json"


@dataclass(frozen=True, slots=True)
class StateFormat:
    """A number of the format, and the version of the program that wrote it."""

    number: int
    version: str


def current() -> StateFormat:
    """Return the format that this program writes."""
    return StateFormat(FORMAT, __version__)


def read(ca: Path) -> StateFormat | None:
    """Return the format of a project's `ca/`; None where no program recorded it, or the record is damaged."""
    with suppress(ValueError, KeyError, TypeError, RecursionError, PkiError):
        record = json.loads(filesystem.read(ca / FILE) or b"{}")
        return StateFormat(int(record["format"]), str(record["program"]))
    return None


def check(ca: Path) -> None:
    """Raise PkiError if a newer program wrote `ca/` in a format that this one does not know."""
    state = read(ca)
    if state and state.number > FORMAT:
        raise PkiError(
            f"ca/ was written by doit-pki {state.version} in format {state.number}; "
            f"this is doit-pki {__version__}, which knows format {FORMAT}",
            f"use doit-pki {state.version} or newer: docs/how-to/upgrade.md",
        )


def record(ca: Path) -> bool:
    """Record the format and this version, if `ca/` exists and has another record; return whether this is done.

    An unwritable `ca/` is reported elsewhere.
    """
    if not ca.is_dir() or read(ca) == current():
        return False
    text = json.dumps({"format": FORMAT, "program": __version__})
    with suppress(OSError, PkiError):
        filesystem.write(ca / FILE, f"{text}\n".encode())
        return True
    return False
