"""A cache of findings about files, valid while the files do not change. Losing it costs one slow run.

Like git's index, it compares inode, size, mode and both times of each file. It stores only findings that never expire
(the content of a certificate, that two files match), never a decision that depends on the date. A failing disk can
change content without changing these values, so the files of each finding are read and compared once a day.

The first line of the cache is the digest of the rest. A cache that is damaged, unreadable, or written by other code is
ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from os import stat
from pathlib import Path
from typing import Any, TypeVar

from pki.common import filesystem
from pki.common.program_files import PACKAGE

T = TypeVar("T")

FORMAT = 3
CODE = (".py", ".html", ".css", ".js")
OBSERVED = "seen "  # prefix of observations, which stay valid when the code changes
# positions in an entry, which JSON stores as a list: key, state of the files, files, finding, content, until
FINDING, UNTIL = 3, 5
# seconds until the files of a finding are read again; a daily run reads all of them
SHORTEST_INTERVAL, LONGEST_INTERVAL = 10 * 3600, 20 * 3600


class Cache:
    """Findings by name. The `key` of a finding identifies everything that it depends on, besides its files.

    Paths are stored relative to `home`, so that a copied project does not use findings about its original.
    """

    def __init__(self, home: Path, now: datetime) -> None:
        self._home = f"{home}/"
        self._path = home / "build" / ".seen.json"
        self._now = int(now.timestamp())
        self._used: dict[str, list[Any]] = {}
        self._changed = False
        self._reads_all = False
        code, entries = load(self._path)
        self._entries = {
            name: entry for name, entry in entries.items() if code == code_digest() or name.startswith(OBSERVED)
        }
        self._last = entries

    def read_all(self) -> None:
        """Ignore the findings of earlier runs, so that every file is read and checked again."""
        self._reads_all = True

    def recall(self, name: str, key: str) -> Any:
        """Return the finding under a name if its key is the same and its files are unchanged, else None."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        cached_key, cached_state, relative_files, finding, content, until = entry
        if cached_key != key:
            return None
        if content and self._reads_all and name not in self._used:
            return None  # a finding of an earlier run, while this run reads every file again
        files = [self._home + file for file in relative_files]
        if cached_state != file_state(files):
            return None
        if content and name not in self._used and not self._now < until <= self._now + LONGEST_INTERVAL:
            if content != _content(files):
                return None
            entry[UNTIL] = self._until(name)
            self._changed = True
        self._used[name] = entry
        return finding

    def _until(self, name: str) -> int:
        """Return when the files of a finding are read again, in seconds since 1970; spread by name over 10 hours."""
        offset = zlib.crc32(name.encode(errors="surrogateescape")) % (LONGEST_INTERVAL - SHORTEST_INTERVAL)
        return self._now + SHORTEST_INTERVAL + offset

    def checked_in_this_run(self, name: str) -> Any:
        """Return the finding that this run recalled or stored, or None; its files are not checked again."""
        entry = self._used.get(name)
        return entry[FINDING] if entry else None

    def cached(self, name: str, key: str, files: list[str], compute: Callable[[], T]) -> T:
        """Return the finding under a name as `recall` does; if there is none, compute it and store it.

        A finding is stored as JSON, so it consists of lists, texts and numbers, and is never None.
        """
        finding: T | None = self.recall(name, key)
        if finding is None:
            finding = compute()
            self.remember(name, key, files, finding)
        return finding

    def remove(self, name: str) -> None:
        """Remove a finding, because another process wrote its files in the meantime."""
        if self._used.pop(name, None) is not None:
            self._entries.pop(name, None)
            self._changed = True

    def findings(self, name: str) -> list[Any]:
        """Return the last finding under a name, even if its files changed, as a list of one or none."""
        entry = self._entries.get(name) or self._last.get(name)
        return [entry[FINDING]] if entry else []

    def findings_of(self, kind: str) -> list[Any]:
        """Return the last findings of all artifacts of one kind (`cert`), even if their files changed."""
        entries = {**self._last, **self._entries}.items()
        return [entry[FINDING] for name, entry in entries if name.partition(":")[0] == kind]

    def remember(self, name: str, key: str, files: list[str], finding: Any, *, by_state: bool = False) -> None:
        """Store a finding about some files. With `by_state` their content is never compared: it has its own checksum."""
        if state := file_state(files):
            relative_files = [file.removeprefix(self._home) for file in files]
            content = "" if by_state or not files else _content(files)
            self._entries[name] = self._used[name] = [key, state, relative_files, finding, content, self._until(name)]
            self._changed = True

    def save(self, *, whole: bool) -> None:
        """Write the cache. After a `whole` run, findings that it did not use are removed."""
        keep = self._used if whole else self._entries
        if self._changed or len(keep) != len(self._entries):
            write(self._path, code_digest(), keep)
            self._changed = False


def load(path: Path) -> tuple[str, dict[str, list[Any]]]:
    """Return the digest of the code that wrote the cache, and its entries; "" and none for a damaged cache."""
    first, _, text = (filesystem.read_if_possible(path) or b"").partition(b"\n")
    if first != _digest(text):
        return "", {}
    document = json.loads(text)
    return (document["code"], document["found"]) if document["format"] == FORMAT else ("", {})


def write(path: Path, code: str, entries: dict[str, list[Any]]) -> None:
    """Write a cache that code with the digest `code` filled."""
    text = json.dumps({"format": FORMAT, "code": code, "found": entries}, separators=(",", ":")).encode()
    filesystem.write(path, _digest(text) + b"\n" + text, filesystem.SECRET)


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=32).hexdigest().encode()


def _content(files: Iterable[str]) -> str:
    """Return a digest of the content of some files; an unreadable file has its own value."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        data = filesystem.read_if_possible(file)
        digest.update(b"-" if data is None else hashlib.blake2b(data).digest())
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """Return the digest of the code and pages of this package: findings of other code are not used."""
    digest, package = hashlib.blake2b(digest_size=16), str(PACKAGE)
    paths = [f"{folder}/{name}" for folder, _, names in os.walk(package) for name in names if name.endswith(CODE)]
    for path in sorted(paths):
        with open(path, "rb", buffering=0) as file:
            digest.update(f"\n{path.removeprefix(package)}\n".encode() + file.read())
    return digest.hexdigest()


def file_state(files: Iterable[str]) -> int:
    """Return a number for inode, size, times and mode of some files; 0 if one is missing."""
    states: list[int] = []
    try:
        for file in files:
            state = stat(file)
            states += (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_mode)
    except OSError:
        return 0
    return hash(tuple(states)) or 1


def digest_of(*parts: object) -> str:
    """Return a digest of the `repr` of some values."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()
