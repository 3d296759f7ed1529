"""The passphrase of one bundle: read from paper and typed once, on a phone as well."""

from __future__ import annotations

import secrets

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else: no i, l, o, 0, 1
GROUPS, LETTERS = 6, 4  # 118 bits: the old format that some systems want slows nobody down who guesses


def new_passphrase() -> str:
    """`k7mp-w3xq-…`: ASCII, because Java opens nothing else, and without a capital letter."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))
