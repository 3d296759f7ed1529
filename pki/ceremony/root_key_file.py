"""The header lines of a root's key file: share rule, check words, and SHA-256 of the PEM text.

RFC 7468 §2 permits explanatory text before the PEM text, so OpenSSL can read the file. The digest tells a damaged file
from a wrong passphrase.
"""

from __future__ import annotations

import hashlib

SHARES, CHECK, DIGEST = "shares", "check", "sha256"
BEGIN = b"-----BEGIN"


def key_file_content(pem: bytes, rule: str, check: str) -> bytes:
    """Return a key file; the share rule `rule` (such as 2of3) and the check words `check` may be empty."""
    lines = {SHARES: rule, CHECK: check, DIGEST: hashlib.sha256(pem).hexdigest()}
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value).encode() + pem


def header_value(data: bytes, name: str) -> str:
    """Return the value of a header line, or "" when there is none."""
    for line in data.partition(BEGIN)[0].decode(errors="replace").splitlines():
        key, _, value = line.partition(": ")
        if key == name:
            return value
    return ""


def is_intact(data: bytes) -> bool | None:
    """Return whether the PEM text has the digest of the header, or None when there is no digest."""
    expected = header_value(data, DIGEST)
    _, mark, rest = data.partition(BEGIN)
    return hashlib.sha256(mark + rest).hexdigest() == expected if expected else None
