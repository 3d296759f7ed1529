"""Encode certificates, CRLs and other DER as PEM (RFC 7468)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization


def encode_pem(label: str, der: bytes) -> bytes:
    """Return the PEM of a DER value, in lines of 64 characters (RFC 7468 §3)."""
    body = b64encode(der)
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def pem_of(items: Sequence[x509.Certificate | x509.CertificateRevocationList]) -> bytes:
    """Return the PEM of certificates and CRLs, one after the other."""
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in items)
