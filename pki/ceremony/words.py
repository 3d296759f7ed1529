"""Digests and passphrases as words from the word list of SLIP-39.

The list has 1024 words, so a word encodes 10 bits, and no two words begin with the same four letters.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache

WORDS_TO_TYPE = 8  # 80 bits: an attacker can try many variants of a request, and a match of 40 bits is found quickly
BITS = 10
DIGEST_BITS = 256
PASSPHRASE_WORDS = 13
PREFIX_LETTERS = 4
SEPARATORS = re.compile(r"[\W\d_]+")


def of_digest(hex_digest: str) -> tuple[str, ...]:
    """Return the 26 words of a SHA-256 digest. Raises ValueError for any other text."""
    digest = bytes.fromhex(hex_digest)
    if len(digest) * 8 != DIGEST_BITS:
        raise ValueError(f"{hex_digest!r} is not a SHA-256 digest")
    return of_bytes(digest)


def of_bytes(data: bytes) -> tuple[str, ...]:
    """Return the words of `data`: 10 bits each, most significant bit first, padded with zero bits."""
    count = -(-len(data) * 8 // BITS)
    number = int.from_bytes(data, "big") << (count * BITS - len(data) * 8)
    return tuple(_word_list()[number >> BITS * i & 1023] for i in reversed(range(count)))


def first(hex_digest: str) -> str:
    """Return the first words of a digest: the ones that the operator types."""
    return " ".join(of_digest(hex_digest)[:WORDS_TO_TYPE])


def matches(typed: str, hex_digest: str) -> bool:
    """Return whether the typed words are the first words of the digest: at least WORDS_TO_TYPE, without an error."""
    return not mismatch(typed, hex_digest)


def mismatch(typed: str, hex_digest: str) -> str:
    """Return why the typed words are not the first words of the digest, or "". Never names the right word."""
    typed_words, right = split(typed), of_digest(hex_digest)
    if misspelt_words := misspelt(typed_words):
        return misspelt_words
    for place, (word, expected) in enumerate(zip(typed_words, right, strict=False), 1):
        if complete(word) != expected:
            return f"word {place}, '{word}', is not word {place} of this digest"
    if len(typed_words) > len(right):
        return f"{len(typed_words)} words are too many, a digest has {len(right)}"
    if missing_count := max(WORDS_TO_TYPE - len(typed_words), 0):
        return f"{missing_count} more word{' is' if missing_count == 1 else 's are'} needed: the first {WORDS_TO_TYPE} at least"
    return ""


def name_of_typed(typed: str, digests: Mapping[str, str], own: str) -> str:
    """Return the name of the digest whose words or digits were typed, or "" when it is none of `digests`.

    `own` is the name of the digest whose words are expected: a part of its words is incomplete, not a mix-up.
    """
    digits, typed_words = "".join(typed.lower().split()), split(typed)
    for name, hex_digest in digests.items():
        if len(digits) >= WORDS_TO_TYPE and hex_digest.startswith(digits):
            return f"the digits of {name}"
        first_words = [complete(word) for word in typed_words[:WORDS_TO_TYPE]]
        is_match = first_words == list(of_digest(hex_digest))[: len(first_words)]
        if name != own and len(typed_words) >= 2 and is_match:  # one word can agree by chance
            return f"the words of {name}"
    return ""


def numbered_lines(hex_digest: str, columns: int = 4) -> list[str]:
    """Return the words of a digest in numbered columns, for printing and reading aloud."""
    cells = [f"{place:>2} {word:<8}" for place, word in enumerate(of_digest(hex_digest), 1)]
    return ["  ".join(cells[start : start + columns]).rstrip() for start in range(0, len(cells), columns)]


def new_passphrase() -> str:
    """Return a new passphrase of 130 random bits."""
    return "-".join(secrets.choice(_word_list()) for _ in range(PASSPHRASE_WORDS))


def passphrase(typed: str) -> str:
    """Return a generated passphrase in its original form, from any spelling of its words. Returns any other text unchanged."""
    typed_words = [complete(word) for word in split(typed)]
    return "-".join(typed_words) if len(typed_words) == PASSPHRASE_WORDS and all(typed_words) else typed


def split(typed: str) -> list[str]:
    """Return the typed words in lower case, split at anything but letters."""
    return [word for word in SEPARATORS.split(typed.lower()) if word]


def complete(word: str) -> str:
    """Return the list's word for a word, or for an abbreviation of at least four letters; "" when there is none."""
    match = _by_prefix().get(word[:PREFIX_LETTERS], "")
    return match if match.startswith(word) else ""


def word_at(index: int) -> str:
    """Return the list's word at an index from 0 to 1023."""
    return _word_list()[index]


def numbers(typed_words: Sequence[str]) -> list[int]:
    """Return the indexes of words of the list, each complete or abbreviated."""
    return [_indexes()[complete(word)] for word in typed_words]


def misspelt(typed_words: Sequence[str]) -> str:
    """Return a phrase about the first word that is not in the list, with a suggestion; "" when all are in it."""
    for place, word in enumerate(typed_words, 1):
        if not complete(word):
            return f"word {place}, '{word}', is not in the list{suggestion(word)}"
    return ""


def difference(typed_words: Sequence[str], right: Sequence[str]) -> str:
    """Return how the typed words differ from the first right ones, or "". Never names the right word."""
    if misspelt_words := misspelt(typed_words):
        return misspelt_words
    for place, (word, expected) in enumerate(zip(typed_words, right, strict=False), 1):
        if complete(word) != expected:
            return f"word {place} is wrong"
    return f"{len(typed_words)} words are too many, there are {len(right)}" if len(typed_words) > len(right) else ""


def suggestion(word: str) -> str:
    """Return a suggestion for a word that is not in the list, or ""."""
    completions = [candidate for candidate in _word_list() if candidate.startswith(word)]
    suggestions = completions if len(completions) == 1 else get_close_matches(word, _word_list(), n=1)
    return f" (did you mean {suggestions[0]}?)" if suggestions else ""


@cache
def _word_list() -> tuple[str, ...]:
    from shamir_mnemonic.wordlist import WORDLIST  # noqa: PLC0415 - not needed by a run with nothing to do

    return tuple(WORDLIST)


@cache
def _indexes() -> dict[str, int]:
    return {word: number for number, word in enumerate(_word_list())}


@cache
def _by_prefix() -> dict[str, str]:
    return {word[:PREFIX_LETTERS]: word for word in _word_list()}
