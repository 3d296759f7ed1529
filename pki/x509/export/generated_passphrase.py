"""Generate the passphrase of a PKCS#12 file, easy to type from paper on a phone."""

from __future__ import annotations

import secrets

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without i, l, o, 0 and 1, which look alike
GROUPS, LETTERS = 6, 4  # 118 bits: the legacy PKCS#12 format has only 2 048 rounds


def new_passphrase() -> str:
    """Return a random passphrase such as `k7mp-w3xq-…`: lower case ASCII, because Java accepts only ASCII."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))
