"""Records in JSON that carry a digest of all their other bytes, so that any damage shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

DIGEST = "sha256"
MARK = f'"{DIGEST}": "'.encode()
BLANK = b"0" * 64


def encode_sealed(record: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return a record as JSON on which a change of any byte shows: its last member is a digest of all others."""
    text = json.dumps({**record, DIGEST: BLANK.decode()}, indent=indent).encode() + b"\n"
    return _with_digest(text, hashlib.sha256(text).hexdigest().encode())


def decode_sealed(data: bytes | None) -> dict[str, Any] | None:
    """Return what `sealed` encoded, None for anything else."""
    try:
        text = data or b""
        given = text[text.rindex(MARK) + len(MARK) :][: len(BLANK)]
        if hashlib.sha256(_with_digest(text, BLANK)).hexdigest().encode() != given:
            return None
        record: dict[str, Any] = json.loads(text)
        del record[DIGEST]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record


def decode_record(data: bytes | None, keys: Iterable[str]) -> dict[str, Any] | None:
    """Return a small record that was sealed, or one without a digest that has exactly these members; else None."""
    if (found := decode_sealed(data)) is not None:
        return found
    try:
        plain = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) and plain.keys() == set(keys) else None


def _with_digest(text: bytes, digest: bytes) -> bytes:
    start = text.rindex(MARK) + len(MARK)
    return text[:start] + digest + text[start + len(digest) :]


def short_digest(said: Mapping[str, object]) -> str:
    """Return what tells a note that was damaged from one that is as it was written: a short digest."""
    return hashlib.sha256(json.dumps(dict(said), sort_keys=True).encode()).hexdigest()[:16]
