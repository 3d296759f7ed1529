"""A client's identity: its key, its certificate, and everything up to the roots."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from pki.common.errors import PkiError
from pki.x509.keys import PrivateKey, key_kind


@dataclass(frozen=True, slots=True)
class Identity:
    """What is handed out under one name. `chain` is sent along below the certificate; `roots` are trusted, newest first."""

    name: str
    organisation: str
    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @classmethod
    def read(cls, name: str, organisation: str, bundle: bytes, roots: bytes) -> Identity:
        """From a leaf's tls.pem and the PEM of the roots. Raises PkiError when one of them is damaged."""
        try:
            certificate, *chain = x509.load_pem_x509_certificates(bundle)
            key = serialization.load_pem_private_key(bundle, None)
            anchors = x509.load_pem_x509_certificates(roots)
        except (ValueError, TypeError):
            raise PkiError(f"{name}: its key or a certificate is damaged", "./run doit") from None
        if not isinstance(key, PrivateKey):
            raise PkiError(f"{name}: a key of kind {key_kind(certificate.public_key())}")
        return cls(name, organisation, key, certificate, tuple(chain), tuple(anchors))

    @property
    def label(self) -> str:
        """What a device shows in its list: the client, and whose it is."""
        return f"{self.name} ({self.organisation})"

    @property
    def file_name(self) -> str:
        return file_name(self.name)


def file_name(text: str) -> str:
    """Text as part of a file's name that every system takes: `admin@laptop` becomes `admin-laptop`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
