"""A chain of hashes: each entry contains the hash of the entry before it, so a change breaks every later entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

START_HASH = "0" * 64  # in place of a previous hash, in the first entry


class ChainFault(Enum):
    """What is wrong with an entry: its number, the hash of the previous entry, its own hash."""

    NUMBER = auto()
    PREVIOUS = auto()
    HASH = auto()


@dataclass(frozen=True, slots=True)
class HashChain:
    """The rules of one chain: `number` is the key of an entry's number, `encode` gives the bytes that are hashed."""

    number: str
    encode: Callable[[Mapping[Any, Any]], bytes]

    def digest(self, content: Mapping[Any, Any]) -> str:
        """Return the SHA-256 of some content, in hexadecimal."""
        return hashlib.sha256(self.encode(content)).hexdigest()

    def entry(self, content: Mapping[Any, Any], previous: str) -> dict[str, Any]:
        """Return the entry for some content: with the hash of the previous entry, and its own hash."""
        linked = {**content, "previous": previous}
        return {**linked, "hash": self.digest(linked)}

    def faults(self, entry: Mapping[Any, Any], number: int, previous: str) -> Iterator[ChainFault]:
        """Yield what is wrong with an entry that must have this number and follow the entry with the hash `previous`."""
        if entry[self.number] != number:
            yield ChainFault.NUMBER
        if entry["previous"] != previous:
            yield ChainFault.PREVIOUS
        if self.digest({key: value for key, value in entry.items() if key != "hash"}) != entry["hash"]:
            yield ChainFault.HASH
