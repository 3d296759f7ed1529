"""Check the values in manifests and receipts: their digest shows that they are as they were written, not what they are."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pki.common import sealed_records

MANIFEST_FORMAT = 1
UNSEALED_KEYS = ("format", "host", "release", "files", "inputs", "uses")  # of version 0.1.0
MODE = re.compile(r"[0-7]{4}")
FLAGS = ("crl", "upstream", "any_order")  # fields of a file in a manifest that are true or false; all others are texts


def is_file_record(path: object, mode: object) -> bool:
    """Return whether path and mode of a file are an absolute path without `..`, and four octal digits."""
    if not isinstance(path, str) or not isinstance(mode, str) or not MODE.fullmatch(mode):
        return False
    with suppress(UnicodeEncodeError):  # half of a character, which JSON can contain
        os.fsencode(path)
        return path.startswith("/") and posixpath.normpath(path) == path and path.isprintable()
    return False


def decode_manifest(data: bytes | None) -> dict[str, Any] | None:
    """Return the record in a manifest of a release, or None for anything else."""
    record = sealed_records.decode_record(data, UNSEALED_KEYS)
    return record if record and record.get("format") == MANIFEST_FORMAT and _has_right_types(record) else None


def _has_right_types(record: Mapping[str, object]) -> bool:
    files, digests = record.get("files"), [record.get("inputs"), record.get("uses")]
    if not isinstance(record.get("host"), str) or not all(map(_is_of_texts, digests)) or not isinstance(files, list):
        return False
    for file in files:
        if not isinstance(file, dict) or not is_file_record(file.get("path"), file.get("mode")):
            return False
        if not all(isinstance(value, bool if name in FLAGS else str) for name, value in file.items()):
            return False
    return True


def _is_of_texts(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())
