"""The identity of a client: its key, its certificate, the intermediate and the roots."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.common.errors import PkiError
from pki.x509.keys import LeafKey, key_kind


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """The key and certificates of one client.

    `chain` are the intermediates between the certificate and a root; `roots` are the trust anchors, newest first.
    """

    name: str
    organisation: str
    key: LeafKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @classmethod
    def read(cls, name: str, organisation: str, bundle: bytes, roots: bytes) -> ClientIdentity:
        """Read an identity from tls.pem of a leaf and the PEM of the roots. Raises PkiError if one is damaged."""
        try:
            certificate, *chain = x509.load_pem_x509_certificates(bundle)
            key = serialization.load_pem_private_key(bundle, None)
            anchors = x509.load_pem_x509_certificates(roots)
        except (ValueError, TypeError):
            raise PkiError(f"{name}: its key or a certificate is damaged", "./run doit") from None
        if not isinstance(key, LeafKey):
            raise PkiError(f"{name}: a key of kind {key_kind(certificate.public_key())}")
        return cls(name, organisation, key, certificate, tuple(chain), tuple(anchors))

    @property
    def label(self) -> str:
        """Return the name that a device shows: the client and the organisation."""
        return f"{self.name} ({self.organisation})"

    @property
    def file_name(self) -> str:
        """Return the name of the client as part of a file name."""
        return file_name(self.name)


def file_name(text: str) -> str:
    """Return a text as part of a file name that every system accepts: `admin@laptop` → `admin-laptop`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
