"""What a certificate of an adopted CA is called in the ledger, and what it is for."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued

PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}


def artifact(authority: str, plain: str, serial: int, taken: Container[str]) -> ArtifactId:
    """`legacy:web`; where that name is taken already, with as much of the serial number as tells them apart."""
    digits = f"{serial:x}"
    word = re.sub(r"[^\w.@+-]+", "-", plain).strip("-.") or digits
    tries = [word, *(f"{word}-{digits[:size]}" for size in range(min(8, len(digits)), len(digits) + 1))]
    return next(name for one in tries if (name := ArtifactId(authority, one)) not in taken)


def renamed(issued: Issued, name: ArtifactId) -> Issued:
    return replace(issued, artifact=name)


def common_name(cert: x509.Certificate) -> str:
    found = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def alternative_names(cert: x509.Certificate) -> tuple[str, ...]:
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(name.value) for name in found)


def profile(cert: x509.Certificate) -> str:
    """`server`, `client` or both by its extended key usage; `ca`, `other`, and `any` where it says nothing of it."""
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
