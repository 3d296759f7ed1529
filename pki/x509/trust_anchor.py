"""The root at the end of a chain."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.x509.canonical import UNREADABLE, is_issued_by


def with_root(chain_pem: bytes, roots_pem: bytes) -> bytes | None:
    """Return a chain (PEM, leaf first) followed by the root that signed its last certificate; None without that root."""
    try:
        last_certificate = x509.load_pem_x509_certificates(chain_pem)[-1]
        roots = x509.load_pem_x509_certificates(roots_pem)
    except UNREADABLE:
        return None
    root = next((root for root in roots if is_issued_by(last_certificate, root)), None)
    return chain_pem + root.public_bytes(Encoding.PEM) if root else None
