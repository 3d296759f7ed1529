"""The names of a certificate: its common name and its subject alternative names."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID


def common_name(name: x509.Name) -> str:
    """Return the CN of a subject or issuer, "" without one. Of several, the last one counts (RFC 2818 §3.1)."""
    return next((str(attribute.value) for attribute in reversed(name.get_attributes_for_oid(NameOID.COMMON_NAME))), "")


def alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the subject alternative names, () without any. Raises ValueError where extensions cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)
