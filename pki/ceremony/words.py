"""Digests and passphrases as words that can be read aloud, from the word list of SLIP-39.

The list has 1024 words, so a word is 10 bits, and no two words begin with the same four letters.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache

ASKED = 8  # 80 bits: of a request, whoever holds the stick may vary what nobody reads, and 40 bits are soon found
BITS = 10
DIGEST_BITS = 256
PASSPHRASE_WORDS = 13
UNIQUE = 4
SEPARATORS = re.compile(r"[\W\d_]+")


def of_digest(hex_digest: str) -> tuple[str, ...]:
    """The 26 words of a SHA-256 digest."""
    digest = bytes.fromhex(hex_digest)
    if len(digest) * 8 != DIGEST_BITS:
        raise ValueError(f"{hex_digest!r} is not a SHA-256 digest")
    return of_bytes(digest)


def of_bytes(data: bytes) -> tuple[str, ...]:
    """The words of some bytes: 10 bits each, the first bit first, with zero bits after the last."""
    count = -(-len(data) * 8 // BITS)
    number = int.from_bytes(data, "big") << (count * BITS - len(data) * 8)
    return tuple(_listed()[number >> BITS * i & 1023] for i in reversed(range(count)))


def first(hex_digest: str) -> str:
    """The words of a digest that a person is asked to type."""
    return " ".join(of_digest(hex_digest)[:ASKED])


def agree(typed: str, hex_digest: str) -> bool:
    """Whether what a person typed is how the digest begins: at least ASKED words, and every one of them right."""
    return not fault(typed, hex_digest)


def fault(typed: str, hex_digest: str) -> str:
    """Why the typed words are not those of a digest, in one sentence that does not give the right word; or empty."""
    given, right = split(typed), of_digest(hex_digest)
    if wrong := misspelt(given):
        return wrong
    for place, (word, wanted) in enumerate(zip(given, right, strict=False), 1):
        if whole(word) != wanted:
            return f"word {place}, '{word}', is not word {place} of this digest"
    if len(given) > len(right):
        return f"{len(given)} words are too many, a digest has {len(right)}"
    if missing := max(ASKED - len(given), 0):
        return f"{missing} more word{' is' if missing == 1 else 's are'} needed: the first {ASKED} at least"
    return ""


def named(typed: str, digests: Mapping[str, str], own: str) -> str:
    """The name of the digest whose words, or whose digits, were typed; empty where it is none of `digests`.

    `own` is the name of the one whose words are asked for: some of them are too few, and not those of another one.
    """
    digits, given = "".join(typed.lower().split()), split(typed)
    for name, hex_digest in digests.items():
        if len(digits) >= ASKED and hex_digest.startswith(digits):
            return f"the digits of {name}"
        agreeing = [whole(word) for word in given[:ASKED]] == list(of_digest(hex_digest))[: len(given[:ASKED])]
        if name != own and len(given) >= 2 and agreeing:
            return f"the words of {name}"
    return ""


def shown(hex_digest: str, columns: int = 4) -> list[str]:
    """The words of a digest in numbered lines, to be printed and read aloud."""
    cells = [f"{place:>2} {word:<8}" for place, word in enumerate(of_digest(hex_digest), 1)]
    return ["  ".join(cells[start : start + columns]).rstrip() for start in range(0, len(cells), columns)]


def new_passphrase() -> str:
    """A new passphrase of 130 random bits."""
    return "-".join(secrets.choice(_listed()) for _ in range(PASSPHRASE_WORDS))


def passphrase(typed: str) -> str:
    """A generated passphrase as it was made, however its words were typed; any other text as it is."""
    given = [whole(word) for word in split(typed)]
    return "-".join(given) if len(given) == PASSPHRASE_WORDS and all(given) else typed


def split(typed: str) -> list[str]:
    """The words that a person typed, whatever stands between them, in small letters."""
    return [word for word in SEPARATORS.split(typed.lower()) if word]


def whole(word: str) -> str:
    """The word of the list that this one is, or abbreviates with four letters at least; empty when there is none."""
    found = _by_prefix().get(word[:UNIQUE], "")
    return found if found.startswith(word) else ""


def listed(number: int) -> str:
    """The word of the list with a number from 0 to 1023."""
    return _listed()[number]


def numbers(given: Sequence[str]) -> list[int]:
    """The numbers of words of the list, each whole or abbreviated."""
    return [_numbered()[whole(word)] for word in given]


def misspelt(given: Sequence[str]) -> str:
    """The first word that is not in the list, as a phrase with its neighbour; empty where all are in it."""
    for place, word in enumerate(given, 1):
        if not whole(word):
            return f"word {place}, '{word}', is not in the list{suggestion(word)}"
    return ""


def difference(given: Sequence[str], right: Sequence[str]) -> str:
    """How typed words differ from the right ones as far as they go, in a phrase that does not give the right word."""
    if wrong := misspelt(given):
        return wrong
    for place, (word, wanted) in enumerate(zip(given, right, strict=False), 1):
        if whole(word) != wanted:
            return f"word {place} is another one"
    return f"{len(given)} words are too many, there are {len(right)}" if len(given) > len(right) else ""


def suggestion(word: str) -> str:
    """What to say after a word that is not in the list."""
    begun = [listed for listed in _listed() if listed.startswith(word)]
    near = begun if len(begun) == 1 else get_close_matches(word, _listed(), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


@cache
def _listed() -> tuple[str, ...]:
    from shamir_mnemonic.wordlist import WORDLIST  # noqa: PLC0415 - not for a run with nothing to do

    return tuple(WORDLIST)


@cache
def _numbered() -> dict[str, int]:
    return {word: number for number, word in enumerate(_listed())}


@cache
def _by_prefix() -> dict[str, str]:
    return {word[:UNIQUE]: word for word in _listed()}
