"""Damaged files: every bit of a file flipped in turn, and what a reader makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pki.common import filesystem

SAMPLES = int(os.environ.get("PKI_SAMPLES", "0"))


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes with one bit the other way round."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(data: bytes, step: int = 1) -> Iterator[tuple[int, bytes]]:
    """Every single-bit flip of a file, or every so manieth; a step that 8 does not divide reaches every bit of a byte."""
    for bit in range(0, 8 * len(data), step):
        yield bit, flipped(data, bit)


class Swapped:
    """Files whose content is another one for everything that reads them through `store`."""

    def __init__(self, read: Callable[[Path | str], bytes | None]) -> None:
        self._read = read
        self.contents: dict[str, bytes] = {}

    def read(self, path: Path | str) -> bytes | None:
        content = self.contents.get(os.fspath(path))
        return self._read(path) if content is None else content


@contextmanager
def swapped() -> Iterator[Swapped]:
    """Let tests say what files hold, without writing them 20 000 times."""
    with pytest.MonkeyPatch.context() as patch:
        files = Swapped(filesystem.read)
        patch.setattr(filesystem, "read", files.read)
        patch.setattr(filesystem, "read_if_possible", files.read)
        yield files
