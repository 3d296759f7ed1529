"""The format of a project's files below `ca/`, and the version of the program that last ran there: `ca/.format.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pki import __version__
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import in_project

# rises when an older program could misread or damage what this one writes
FORMAT = 2  # 2: hosts get the program's templates too; a program of format 1 would remove their files
FILE = ".format.json"
SHOWN = f"ca/{FILE}"


@dataclass(frozen=True, slots=True)
class StateFormat:
    """The number of the format, the version of the program that wrote it, and what this version did in the project.

    `keeps_templates`: pki.yaml lists which of the program's templates the project lacked when it was upgraded.
    `defaults` are those of pki.yaml, and `templates` digests of the program's templates, by their paths.
    """

    format: int
    program: str
    keeps_templates: bool = False
    defaults: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


def read(ca: Path) -> StateFormat | None:
    """Return the format of a project's `ca/`; None where no program recorded it. Raises PkiError if the record is damaged."""
    data = filesystem.read(ca / FILE)
    return None if data is None else parse(data)


def parse(data: bytes, name: str = SHOWN, otherwise: str = "") -> StateFormat:
    """Return the format in a record.

    Raises PkiError if it is damaged: `name` is its name, `otherwise` the hint if it cannot be written again.
    """
    try:
        record = json.loads(data)
        state = StateFormat(
            record["format"],
            record["program"],
            record.get("keeps_templates", False),
            record.get("defaults", {}),
            record.get("templates", {}),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        state = StateFormat(0, "")
    is_whole = (
        type(state.format) is int
        and state.format > 0
        and type(state.keeps_templates) is bool
        and bool(state.program)
        and all(_is_text(part) for part in (state.program, *_texts(state.defaults), *_texts(state.templates)))
    )
    if not is_whole:
        raise PkiError(
            f"{name}: is damaged, so the version of the program that wrote ca/ is not known",
            otherwise or _write_again(),
        )
    return state


def _write_again() -> str:
    record = json.dumps({"format": FORMAT, "program": __version__})
    again = f"echo '{record}' >{in_project(SHOWN)}"
    return f"restore it from a backup; if no newer version than this one worked here: {again}"


def _texts(mapping: object) -> list[object]:
    return [text for pair in mapping.items() for text in pair] if isinstance(mapping, dict) else [None]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def check(ca: Path) -> None:
    """Raise PkiError if `ca/` has a format that this program does not know, or a damaged record of it."""
    if state := read(ca):
        require_known(state)


def require_known(state: StateFormat, what: str = "ca/") -> None:
    """Raise PkiError, with `what` as its subject, for a format that a newer program wrote."""
    if state.format > FORMAT:
        raise PkiError(
            f"{what} was written by doit-pki {state.program} in format {state.format}; "
            f"this is doit-pki {__version__}, which knows format {FORMAT}",
            f"use doit-pki {state.program} or newer: docs/how-to/upgrade.md",
        )


def record(ca: Path, state: StateFormat) -> bool:
    """Record a format, if `ca/` exists; return whether this is done. An unwritable `ca/` is reported elsewhere."""
    if ca.is_dir():
        with suppress(OSError, PkiError):
            filesystem.write(ca / FILE, f"{json.dumps(asdict(state))}\n".encode())
            return True
    return False
