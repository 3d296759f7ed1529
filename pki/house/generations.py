"""One key of an authority with its certificate, and the CRLs that a root signed ahead."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pki.issue import ca_public_key
from pki.scalars import SANDBOX


@dataclass(frozen=True, slots=True)
class Generation:
    """One key of an authority: its name, and its certificate as parsed.

    `chain` is what is sent along below a leaf: its PEM, and the certificates that older roots gave to its own root.
    """

    name: str
    certificate: x509.Certificate
    pem: bytes
    fingerprint: str
    chain: bytes
    chain_digest: str

    @property
    def authority(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def common_name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def subject(self) -> str:
        """The subject as OpenSSL writes it under RFC 2253, bytes beyond ASCII escaped: what issuer pins compare."""
        text = self.certificate.subject.rfc4514_string()
        return "".join(c if c.isascii() else "".join(f"\\{byte:02X}" for byte in c.encode()) for c in text)

    @property
    def base64(self) -> str:
        """The certificate's DER as one line of Base64."""
        return b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    @property
    def is_sandbox(self) -> bool:
        return SANDBOX in self.certificate.subject.rfc4514_string()


class Rung(NamedTuple):
    """One pre-signed root CRL: its number, the CRL, and the serial numbers that it lists."""

    number: int
    crl: x509.CertificateRevocationList
    serials: frozenset[int]


def read_rung(data: bytes, path: Path, issuer: Generation) -> Rung | None:
    """A rung as its file holds it; None if it is damaged, or not signed by `issuer`."""
    try:
        crl = x509.load_pem_x509_crl(data)
        if not crl.is_signature_valid(ca_public_key(issuer.certificate)) or crl.next_update_utc is None:
            return None
    except ValueError:
        return None
    return Rung(int(path.stem), crl, frozenset(one.serial_number for one in crl))
