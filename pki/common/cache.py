"""What was found sound, remembered by the exact state of its files: a cache, and losing it costs one slow look.

Works as git's index does: inode, size and both times of every file that was looked at. Only findings that hold for
all time are kept (what a certificate says, that two files agree), never a decision about today. A disk can change
the content of a file and none of these: once a day the files are read, and must be what they were.

The first line of the cache is the digest of the rest. A cache that was damaged, that cannot be read, or that other
code wrote is no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from os import stat
from pathlib import Path
from typing import Any

from pki.common import filesystem
from pki.common.program_files import PACKAGE

FORMAT = 3
CODE = (".py", ".html", ".css", ".js")
OBSERVED = "seen "  # what these names begin with: observations, which hold whatever code is asked
SHORTEST_INTERVAL, LONGEST_INTERVAL = (
    10 * 3600,
    20 * 3600,
)  # seconds until the files of a finding are read again: in a daily run all are


class Cache:
    """Findings by name. `known` stands for everything besides files that a finding depends on.

    Paths are kept relative to `home`, so that a copied project never answers for its original.
    """

    def __init__(self, home: Path, now: datetime) -> None:
        self._home = f"{home}/"
        self._path = home / "build" / ".seen.json"
        self._now = int(now.timestamp())
        self._used: dict[str, list[Any]] = {}
        self._changed = False
        self._reads_all = False
        code, kept = load(self._path)
        self._found = {name: one for name, one in kept.items() if code == code_digest() or name.startswith(OBSERVED)}
        self._last = kept

    def read_all(self) -> None:
        """Recall no finding about files that an earlier run looked at: every file is read and judged again."""
        self._reads_all = True

    def recall(self, name: str, known: str) -> Any:
        """What was found under the same `known`, if every file that was looked at is as it was; None otherwise."""
        entry = self._found.get(name)
        if entry is None:
            return None
        told, seen, below, finding, content, until = entry
        if told != known or (content and self._reads_all and name not in self._used):
            return None
        files = [self._home + file for file in below]
        if seen != signature(files):
            return None
        if content and name not in self._used and not self._now < until <= self._now + LONGEST_INTERVAL:
            if content != _content(files):
                return None
            entry[5], self._changed = self._until(name), True
        self._used[name] = entry
        return finding

    def _until(self, name: str) -> int:
        """When the files of a finding are read again: each name has its own time, so that not all are at one moment."""
        return (
            self._now
            + SHORTEST_INTERVAL
            + zlib.crc32(name.encode(errors="surrogateescape")) % (LONGEST_INTERVAL - SHORTEST_INTERVAL)
        )

    def seen(self, name: str) -> Any:
        """What this run itself recalled or remembered under a name: no further look at any file; None otherwise."""
        entry = self._used.get(name)
        return entry[3] if entry else None

    def forget(self, name: str) -> None:
        """Drop what was found under a name, because another process has written its files since."""
        if self._used.pop(name, None) is not None:
            self._found.pop(name, None)
            self._changed = True

    def findings(self, name: str) -> list[Any]:
        """Return the last finding under a name, checked again or not: one, or none."""
        return [entry[3] for entry in (self._found.get(name) or self._last.get(name),) if entry]

    def findings_of(self, kind: str) -> list[Any]:
        """Return the last findings of all artifacts of one kind (`cert`), checked again or not."""
        entries = {**self._last, **self._found}.items()
        return [entry[3] for name, entry in entries if name.partition(":")[0] == kind]

    def remember(self, name: str, known: str, files: list[str], finding: Any, *, by_state: bool = False) -> None:
        """Keep a finding about some files. With `by_state` their content is never compared: they guard it themselves."""
        if seen := signature(files):
            below = [file.removeprefix(self._home) for file in files]
            content = "" if by_state or not files else _content(files)
            self._found[name] = self._used[name] = [known, seen, below, finding, content, self._until(name)]
            self._changed = True

    def save(self, *, whole: bool) -> None:
        """Keep what was found. After a `whole` run, what it did not ask for is gone."""
        keep = self._used if whole else self._found
        if self._changed or len(keep) != len(self._found):
            write(self._path, code_digest(), keep)
            self._changed = False


def load(path: Path) -> tuple[str, dict[str, list[Any]]]:
    """The code that wrote the cache, and its entries; nothing where it is not exactly what was written."""
    first, _, text = (filesystem.read_if_possible(path) or b"").partition(b"\n")
    if first != _digest(text):
        return "", {}
    kept = json.loads(text)
    return (kept["code"], kept["found"]) if kept["format"] == FORMAT else ("", {})


def write(path: Path, code: str, found: dict[str, list[Any]]) -> None:
    """Write a cache that this code, or that of another digest, has filled: `load` reads it."""
    text = json.dumps({"format": FORMAT, "code": code, "found": found}, separators=(",", ":")).encode()
    filesystem.write(path, _digest(text) + b"\n" + text, filesystem.SECRET)


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=32).hexdigest().encode()


def _content(files: Iterable[str]) -> str:
    """One text for the content of some files, whatever is wrong with one of them."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        data = filesystem.read_if_possible(file)
        digest.update(b"-" if data is None else hashlib.blake2b(data).digest())
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """One text for the code and the pages of this package, which took every decision that is kept, and made every page."""
    digest, package = hashlib.blake2b(digest_size=16), str(PACKAGE)
    paths = [f"{folder}/{name}" for folder, _, names in os.walk(package) for name in names if name.endswith(CODE)]
    for path in sorted(paths):
        with open(path, "rb", buffering=0) as file:
            digest.update(f"\n{path.removeprefix(package)}\n".encode() + file.read())
    return digest.hexdigest()


def signature(files: Iterable[str]) -> int:
    """One number for the state of some files; 0 when one of them is missing."""
    seen: list[int] = []
    try:
        for file in files:
            state = stat(file)
            seen += (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_mode)
    except OSError:
        return 0
    return hash(tuple(seen)) or 1


def digest_of(*parts: object) -> str:
    """A short text that stands for some values: their `repr`, digested."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()
