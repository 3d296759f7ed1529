"""How strong a passphrase is that a person chose."""

from __future__ import annotations

from importlib import import_module

REQUIRED_DIGITS = (
    17  # decimal digits of the tries that guessing takes: centuries behind scrypt or 600 000 rounds of PBKDF2
)
REMEDY = "take six random words"
LONGEST = 72  # zxcvbn takes no more, and more can only be stronger


def find_weakness(passphrase: str) -> str:
    """What is wrong with a passphrase, without quoting it, and `REMEDY` helps; empty when nothing is."""
    if not passphrase.strip():
        return "is empty"
    # Its lists of words take 50 ms to load, which other commands have no use for.
    digits = int(import_module("zxcvbn").zxcvbn(passphrase[:LONGEST])["guesses_log10"])
    return (
        ""
        if digits >= REQUIRED_DIGITS
        else f"can be guessed in 10^{digits} tries, expected at least 10^{REQUIRED_DIGITS}"
    )
