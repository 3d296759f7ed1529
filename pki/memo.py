"""What was found sound, remembered by the exact state of its files: a cache, and losing it costs one slow look.

Works as git's index does: inode, size and both times of every file that was looked at. Only findings that hold for
all time are kept (what a certificate says, that two files agree), never a decision about today.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pki import store

FORMAT = 2


class Memo:
    """Findings by name. `known` stands for everything besides files that a finding depends on.

    Paths are kept relative to `home`, so that a copied house never answers for its original.
    """

    def __init__(self, home: Path) -> None:
        self._home = f"{home}/"
        self._path = home / "build" / ".seen.json"
        path = self._path
        self._found: dict[str, list[Any]] = {}
        self._used: dict[str, list[Any]] = {}
        self._changed = False
        try:
            kept = json.loads(store.read(path) or b"{}")
        except ValueError:
            kept = {}
        if isinstance(kept, dict) and kept.get("format") == FORMAT and isinstance(kept.get("found"), dict):
            self._found = kept["found"]

    def recall(self, name: str, known: str) -> Any:
        """What was found under the same `known`, if every file that was looked at is as it was; None otherwise."""
        entry = self._found.get(name)
        if entry is None:
            return None
        try:
            told, seen, files, finding = entry
            if told != known or seen != signature([self._home + file for file in files]):
                return None
        except (TypeError, ValueError):  # somebody wrote into it: a cache is only ever a cache
            return None
        self._used[name] = entry
        return finding

    def seen(self, name: str) -> Any:
        """What this run itself recalled or remembered under a name: no further look at any file; None otherwise."""
        entry = self._used.get(name)
        return entry[3] if entry else None

    def findings(self, kind: str) -> list[Any]:
        """All that was ever found under names of one kind (`cert:`), looked at again or not."""
        return [entry[3] for name, entry in self._found.items() if name.startswith(kind) and len(entry) == 4]

    def remember(self, name: str, known: str, files: list[str], finding: Any) -> None:
        if seen := signature(files):
            below = [file.removeprefix(self._home) for file in files]
            self._found[name] = self._used[name] = [known, seen, below, finding]
            self._changed = True

    def save(self, *, whole: bool) -> None:
        """Keep what was found. After a `whole` run, what it did not ask for is gone."""
        keep = self._used if whole else self._found
        if self._changed or len(keep) != len(self._found):
            kept = {"format": FORMAT, "found": keep}
            store.write(self._path, json.dumps(kept, separators=(",", ":")).encode(), store.SECRET)
            self._changed = False


def signature(files: Iterable[str]) -> int:
    """One number for the state of some files; 0 when one of them is missing."""
    seen: list[int] = []
    try:
        for file in files:
            stat = os.stat(file)
            seen += (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_mode)
    except OSError:
        return 0
    return hash(tuple(seen)) or 1


def token(*parts: object) -> str:
    """A short text that stands for some values: their `repr`, digested."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()
