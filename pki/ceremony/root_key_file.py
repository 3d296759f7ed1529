"""The lines above the PEM text of a root's key file: the rule of its shares, check words, a digest of the PEM text.

RFC 7468 §2 lets explanatory text be there, so OpenSSL reads the file as it is. The digest tells a damaged file from a
wrong passphrase.
"""

from __future__ import annotations

import hashlib

SHARES, CHECK, DIGEST = "shares", "check", "sha256"
BEGIN = b"-----BEGIN"


def content(pem: bytes, rule: str, check: str) -> bytes:
    """A key file; `rule` such as 2of3 and `check` may be empty."""
    lines = {SHARES: rule, CHECK: check, DIGEST: hashlib.sha256(pem).hexdigest()}
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value).encode() + pem


def line(data: bytes, name: str) -> str:
    """The value of a line above the PEM text, empty where it is not there."""
    for one in data.partition(BEGIN)[0].decode(errors="replace").splitlines():
        key, _, value = one.partition(": ")
        if key == name:
            return value
    return ""


def is_whole(data: bytes) -> bool | None:
    """Whether the PEM text is as it was written; None where the file does not say."""
    told = line(data, DIGEST)
    _, mark, rest = data.partition(BEGIN)
    return hashlib.sha256(mark + rest).hexdigest() == told if told else None
