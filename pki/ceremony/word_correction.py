"""Which of many words is wrong, found by a checksum of them: the Reed-Solomon code of SLIP-39, over ten bits a word.

Two check words locate one wrong word, and tell which two neighbours changed places, without saying what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pki.ceremony import words

BITS = 10
CHECKS = 2  # words of a passphrase's checksum: 20 of its 130 bits are told to whoever holds the key file
PURPOSE = b"doit-pki"
SHARE_CHECKS = 3  # SLIP-39: the last words of a share
EXTENDABLE = 0x10  # SLIP-39: the flag in the second word of a share

Residue = Callable[[Sequence[int]], int]  # 0 where the words agree with their checksum; affine over GF(2)


def check_of(passphrase: str) -> str:
    """The check words of a generated passphrase, empty for any other; they stand in the key file."""
    given = words.split(passphrase)
    if len(given) != words.PASSPHRASE_WORDS or not all(words.whole(word) == word for word in given):
        return ""
    return " ".join(words.listed(number) for number in _checksum(words.numbers(given), PURPOSE)[:CHECKS])


def in_passphrase(given: Sequence[str], check: str) -> str:
    """What is wrong with a passphrase of the right number of words, as a phrase; empty when it agrees with its check."""
    told = _packed(words.numbers(words.split(check)))
    return _told(given, lambda numbers: _packed(_checksum(numbers, PURPOSE)[:CHECKS]) ^ told)


def in_share(given: Sequence[str]) -> str:
    """What is wrong with the words of a share, as a phrase; empty when it agrees with its own checksum."""
    return _told(given, _share_residue)


def _share_residue(numbers: Sequence[int]) -> int:
    purpose = b"shamir_extendable" if numbers[1] & EXTENDABLE else b"shamir"
    return _packed(_checksum(numbers[:-SHARE_CHECKS], purpose)) ^ _packed(numbers[-SHARE_CHECKS:])


def _told(given: Sequence[str], residue: Residue) -> str:
    numbers = words.numbers(given)
    wrong = residue(numbers)
    if not wrong:
        return ""
    for place in range(1, len(numbers)):
        swapped = [*numbers[: place - 1], numbers[place], numbers[place - 1], *numbers[place + 1 :]]
        if not residue(swapped):
            return f"words {place} and {place + 1} have changed places"
    places = [place for place in range(len(numbers)) if _can_be_fixed(numbers, place, residue, wrong)]
    return f"word {places[0] + 1} is another one" if len(places) == 1 else "more than one word is another one"


def _can_be_fixed(numbers: Sequence[int], place: int, residue: Residue, wrong: int) -> bool:
    """Whether some other word at this place would make the words agree with their checksum."""

    def changed(by: int) -> int:
        return residue([*numbers[:place], numbers[place] ^ by, *numbers[place + 1 :]]) ^ wrong

    reached = {0}
    for bit in range(BITS):
        effect = changed(1 << bit)
        reached |= {before ^ effect for before in reached}
    return wrong in reached


def _checksum(numbers: Sequence[int], purpose: bytes) -> list[int]:
    from shamir_mnemonic.rs1024 import create_checksum  # noqa: PLC0415 - not for a run with nothing to do

    checksum: list[int] = create_checksum(numbers, purpose)
    return checksum


def _packed(numbers: Sequence[int]) -> int:
    packed = 0
    for number in numbers:
        packed = packed << BITS | number
    return packed
