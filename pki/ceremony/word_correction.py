"""Locate a wrong word in a passphrase or share by its checksum: the Reed-Solomon code of SLIP-39, 10 bits a word.

Two check words locate one wrong word, or two neighbours in the wrong order, without revealing the right word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pki.ceremony import words

BITS = 10
CHECK_WORDS = 2  # words of a passphrase's checksum: the key file reveals 20 of its 130 bits
PURPOSE = b"doit-pki"
SHARE_CHECK_WORDS = 3  # SLIP-39: the last words of a share
EXTENDABLE = 0x10  # SLIP-39: the flag in the second word of a share

Residue = Callable[[Sequence[int]], int]  # 0 when the words match their checksum; affine over GF(2)


def check_words(passphrase: str) -> str:
    """Return the check words of a generated passphrase, "" for any other; they are stored in the key file."""
    typed_words = words.split(passphrase)
    if len(typed_words) != words.PASSPHRASE_WORDS or not all(words.complete(word) == word for word in typed_words):
        return ""
    return " ".join(words.word_at(number) for number in _checksum(words.numbers(typed_words), PURPOSE)[:CHECK_WORDS])


def passphrase_fault(typed_words: Sequence[str], check: str) -> str:
    """Return what is wrong with a passphrase of PASSPHRASE_WORDS words, or "" when it matches its check words."""
    expected = _packed(words.numbers(words.split(check)))
    return _fault(typed_words, lambda numbers: _packed(_checksum(numbers, PURPOSE)[:CHECK_WORDS]) ^ expected)


def share_fault(typed_words: Sequence[str]) -> str:
    """Return what is wrong with the words of a share, or "" when they match the checksum in the share."""
    return _fault(typed_words, _share_residue)


def _share_residue(numbers: Sequence[int]) -> int:
    purpose = b"shamir_extendable" if numbers[1] & EXTENDABLE else b"shamir"
    return _packed(_checksum(numbers[:-SHARE_CHECK_WORDS], purpose)) ^ _packed(numbers[-SHARE_CHECK_WORDS:])


def _fault(typed_words: Sequence[str], residue: Residue) -> str:
    """Return where the words do not match their checksum, as a phrase."""
    numbers = words.numbers(typed_words)
    typed_residue = residue(numbers)
    if not typed_residue:
        return ""
    for place in range(1, len(numbers)):
        swapped_numbers = [*numbers[: place - 1], numbers[place], numbers[place - 1], *numbers[place + 1 :]]
        if not residue(swapped_numbers):
            return f"words {place} and {place + 1} are in the wrong order"
    places = [place for place in range(len(numbers)) if _can_be_fixed(numbers, place, residue, typed_residue)]
    return f"word {places[0] + 1} is wrong" if len(places) == 1 else "more than one word is wrong"


def _can_be_fixed(numbers: Sequence[int], place: int, residue: Residue, typed_residue: int) -> bool:
    """Return whether another word at `place` makes the words match their checksum; `typed_residue` is the residue now."""

    def changed(by: int) -> int:
        return residue([*numbers[:place], numbers[place] ^ by, *numbers[place + 1 :]]) ^ typed_residue

    reachable_residues = {0}
    for bit in range(BITS):
        effect = changed(1 << bit)
        reachable_residues |= {before ^ effect for before in reachable_residues}
    return typed_residue in reachable_residues


def _checksum(numbers: Sequence[int], purpose: bytes) -> list[int]:
    from shamir_mnemonic.rs1024 import create_checksum  # noqa: PLC0415 - not needed by a run with nothing to do

    checksum: list[int] = create_checksum(numbers, purpose)
    return checksum


def _packed(numbers: Sequence[int]) -> int:
    packed_number = 0
    for number in numbers:
        packed_number = packed_number << BITS | number
    return packed_number
