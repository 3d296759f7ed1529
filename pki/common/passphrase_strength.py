"""Estimate the strength of a passphrase that a user chose."""

from __future__ import annotations

from importlib import import_module

REQUIRED_DIGITS = 17  # decimal digits of the number of guesses: centuries with scrypt or 600 000 rounds of PBKDF2
REMEDY = "use six random words"
LONGEST = 72  # the limit of zxcvbn; a longer one can only be stronger


def find_weakness(passphrase: str) -> str:
    """Return why a passphrase is too weak, without quoting it, or "". `REMEDY` is the hint."""
    if not passphrase.strip():
        return "is empty"
    # Imported here because its word lists take 50 ms to load.
    digits = int(import_module("zxcvbn").zxcvbn(passphrase[:LONGEST])["guesses_log10"])
    return (
        ""
        if digits >= REQUIRED_DIGITS
        else f"can be guessed in 10^{digits} tries, expected at least 10^{REQUIRED_DIGITS}"
    )
