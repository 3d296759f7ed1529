"""Names and profiles of an adopted CA's certificates in the ledger."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued

PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


def artifact(authority: str, name: str, serial: int, used: Container[str]) -> ArtifactId:
    """Return `legacy:web` for the name `web` of a certificate of the CA `legacy`.

    If this artifact is in `used`, the serial number is added: 8 digits, or as many more as make it unique.
    """
    digits = f"{serial:x}"
    word = re.sub(r"[^\w.@+-]+", "-", name).strip("-.") or digits
    names = [word, *(f"{word}-{digits[:size]}" for size in range(min(8, len(digits)), len(digits) + 1))]
    candidates = [ArtifactId(authority, name) for name in names]
    return next(candidate for candidate in candidates if candidate not in used)


def renamed(issued: Issued, name: ArtifactId) -> Issued:
    """Return the record of a certificate under another artifact name."""
    return replace(issued, artifact=name)


def profile(cert: x509.Certificate) -> str:
    """Return `server`, `client` or both by the extended key usage; else `ca` or `other`.

    Returns `any` without that extension, and where extensions cannot be read (RFC 5280 §4.2.1.12).
    """
    try:
        values = [extension.value for extension in cert.extensions]
    except ValueError:
        return "any"
    if any(isinstance(value, x509.BasicConstraints) and value.ca for value in values):
        return "ca"
    usages = next((value for value in values if isinstance(value, x509.ExtendedKeyUsage)), None)
    if usages is None:
        return "any"
    return "+".join(purpose for oid, purpose in PURPOSES.items() if oid in list(usages)) or "other"
