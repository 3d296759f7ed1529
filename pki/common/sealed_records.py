"""JSON records with a SHA-256 of all their other bytes, which detects any damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

DIGEST = "sha256"
MARK = f'"{DIGEST}": "'.encode()
BLANK = b"0" * 64


def encode_sealed(record: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Return a record as JSON; its last member is the SHA-256 of all other bytes."""
    text = json.dumps({**record, DIGEST: BLANK.decode()}, indent=indent).encode() + b"\n"
    return _with_digest(text, hashlib.sha256(text).hexdigest().encode())


def decode_sealed(data: bytes | None) -> dict[str, Any] | None:
    """Return the record that `encode_sealed` encoded, or None for anything else."""
    try:
        text = data or b""
        stored_digest = text[text.rindex(MARK) + len(MARK) :][: len(BLANK)]
        if hashlib.sha256(_with_digest(text, BLANK)).hexdigest().encode() != stored_digest:
            return None
        record: dict[str, Any] = json.loads(text)
        del record[DIGEST]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record


def decode_record(data: bytes | None, keys: Iterable[str]) -> dict[str, Any] | None:
    """Return a sealed record, or a record without a digest that has exactly these `keys`, else None."""
    if (sealed := decode_sealed(data)) is not None:
        return sealed
    try:
        plain = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) and plain.keys() == set(keys) else None


def _with_digest(text: bytes, digest: bytes) -> bytes:
    start = text.rindex(MARK) + len(MARK)
    return text[:start] + digest + text[start + len(digest) :]


def short_digest(values: Mapping[str, object]) -> str:
    """Return a short digest of values, which detects damage of a small file."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:16]
