"""The PEM bundle of a leaf certificate (key, certificate, chain), read strictly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes

from pki.x509 import canonical
from pki.x509.keys import public_der


@dataclass(frozen=True, slots=True)
class Bundle:
    """A leaf's PEM bundle, parsed. `extensions` are by their type, each with its criticality.

    `is_verified` means that this run signed, verified and wrote exactly these bytes. `key` is then None, because loading
    a key takes long. `key` is also None in a bundle without a key.
    """

    is_verified: bool
    certificate: x509.Certificate
    extensions: dict[type[x509.ExtensionType], tuple[x509.ExtensionType, bool]]
    public: CertificatePublicKeyTypes
    key: PrivateKeyTypes | None
    chain: bytes


def parse_bundle(data: bytes, verified_digests: set[bytes]) -> Bundle | None:
    """Parse a PEM bundle (key if present, certificate, chain); None if it is damaged.

    `verified_digests` are the SHA-256 digests of the files that this run wrote or verified.
    """
    is_verified = hashlib.sha256(data).digest() in verified_digests
    parts = canonical.split_bundle(data)
    key_pem, cert = parts.get("key.pem", b""), canonical.read_certificate(parts["cert.pem"])
    key = canonical.read_key(key_pem) if key_pem and not is_verified else None
    is_key_damaged = bool(key_pem) and not is_verified and key is None
    if cert is None or is_key_damaged:
        return None
    return Bundle(
        is_verified=is_verified,
        certificate=cert,
        extensions={type(extension.value): (extension.value, extension.critical) for extension in cert.extensions},
        public=cert.public_key(),
        key=key,
        chain=parts["chain.pem"],
    )


def is_pair(bundle: Bundle) -> bool:
    """Return whether the private key of a bundle belongs to its certificate."""
    return bundle.key is not None and public_der(bundle.public) == public_der(bundle.key.public_key())
