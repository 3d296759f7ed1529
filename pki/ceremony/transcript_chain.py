"""The records of a transcript: one line of JSON each, with the hash of the record before it.

Every line must be in canonical form, so any changed byte is detected. Records that are missing at the end are detected
only by the head, which is written on paper.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pki.common.errors import PkiError
from pki.common.hash_chain import START_HASH, ChainFault, HashChain
from pki.common.timestamps import instant, strict_moment

KEYS = ("n", "at", "step", "facts", "previous", "hash")
STEP = re.compile(r"[a-z]+(-[a-z]+)*")
HINT = "a transcript is never edited: use the copy on the other drive"


@dataclass(frozen=True, slots=True)
class Record:
    """One step of a ceremony; `facts` are JSON values, without floating-point numbers."""

    n: int
    at: datetime
    step: str
    facts: dict[str, Any]
    previous: str
    hash: str

    @property
    def line(self) -> bytes:
        """Return the record as its line in the file."""
        return canonical({**asdict(self), "at": instant(self.at)}) + b"\n"


def next_record(last: Record | None, at: datetime, step: str, facts: dict[str, Any]) -> Record:
    """Return the record after `last`. Raises ValueError for a step or fact that a transcript cannot store."""
    if not STEP.fullmatch(step):
        raise ValueError(f"{step!r} is not the name of a step")
    n, previous = (last.n + 1, last.hash) if last else (1, START_HASH)
    moment = at.astimezone(UTC).replace(microsecond=0)
    entry = CHAIN.entry({"n": n, "at": instant(moment), "step": step, "facts": facts}, previous)
    return Record(n, moment, step, _parse(canonical(facts)), previous, entry["hash"])


def load(data: bytes, name: str) -> list[Record]:
    """Parse a complete transcript. Raises PkiError that names the first faulty line."""
    *lines, rest = data.split(b"\n")
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        fault, record = _read(line, records[-1] if records else None)
        if record is None:
            raise PkiError(f"{name}:{number}: {fault}", HINT)
        records.append(record)
    if rest:
        raise PkiError(f"{name}:{len(records) + 1}: is incomplete: a write was interrupted, or something follows", HINT)
    if not records:
        raise PkiError(f"{name}: has no record", HINT)
    return records


def canonical(value: Any) -> bytes:
    """Return `value` as canonical JSON: sorted keys, no spaces. Raises ValueError when it is not a JSON value."""
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=True
        ).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"is not a JSON value: {error}") from None


CHAIN = HashChain("n", canonical)


def _read(line: bytes, last: Record | None) -> tuple[str, Record | None]:
    """Return a fault and None, or "" and the record of a line. `last` is the record of the line before."""
    try:
        tree = _parse(line)
        is_canonical = canonical(tree) == line
    except (ValueError, RecursionError) as error:
        return f"is not valid JSON: {error}", None
    fault = _fault_of_shape(tree)
    if not fault and not is_canonical:
        fault = "was changed: its JSON is not in the canonical form"
    if fault:
        return fault, None
    expected, previous = (last.n + 1, last.hash) if last else (1, START_HASH)
    texts = {
        ChainFault.NUMBER: f"has the number {tree['n']}, where {expected} comes next",
        ChainFault.PREVIOUS: f"the chain is broken at record {expected}: it does not follow from the one before it",
        ChainFault.HASH: f"the chain is broken at record {expected}: its hash is not that of its content",
    }
    if chain_fault := next(CHAIN.faults(tree, expected, previous), None):
        return texts[chain_fault], None
    return "", Record(**{**tree, "at": strict_moment(tree["at"])})


def _fault_of_shape(tree: Any) -> str:
    if not isinstance(tree, dict):
        return "is not a record"
    if unknown := sorted(tree.keys() - set(KEYS)):
        return f"unknown key '{unknown[0]}'"
    if missing_keys := [key for key in KEYS if key not in tree]:
        return f"lacks the key '{missing_keys[0]}'"
    expected_types = {
        "n: expected a number": type(tree["n"]) is int,
        "facts: expected names with values": isinstance(tree["facts"], dict),
        "step: expected lower-case letters and hyphens": isinstance(tree["step"], str) and STEP.fullmatch(tree["step"]),
        "at: expected a moment such as 2026-11-23T06:00:00Z": _is_moment(tree["at"]),
    }
    return next((fault for fault, is_as_expected in expected_types.items() if not is_as_expected), "")


def _is_moment(text: Any) -> bool:
    try:
        return str(text) == instant(strict_moment(text))
    except (TypeError, ValueError):
        return False


def _parse(line: bytes) -> Any:
    return json.loads(line.decode(), parse_float=_refuse, parse_constant=_refuse)


def _refuse(number: str) -> Any:
    raise ValueError(f"{number} is not a whole number")
