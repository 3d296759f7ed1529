"""Generations of authorities (one key and its certificate), and pre-signed root CRLs, as read from their files."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pki.common.errors import PkiError
from pki.common.remedies import RESTORE
from pki.common.visible import visible_line
from pki.config.fields import SANDBOX
from pki.config.identifiers import GenerationName
from pki.x509 import canonical
from pki.x509.certificate_signing import ca_public_key
from pki.x509.name_constraints import PermittedNames

NAME_ATTRIBUTES = (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)  # in this order
PUT_BACK = f"restore it from a backup: {RESTORE}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of an authority: its name and its certificate.

    `chain` is the PEM that follows a leaf in a TLS handshake: the certificate, and the cross-certificates of its root.
    `fingerprint` and `chain_digest` are SHA-256 in hexadecimal.
    """

    name: GenerationName
    certificate: x509.Certificate
    pem: bytes
    fingerprint: str
    chain: bytes
    chain_digest: str

    @property
    def authority(self) -> str:
        """Return the name of the authority."""
        return self.name.authority

    @property
    def not_before(self) -> datetime:
        """Return the start of validity."""
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Return the expiry."""
        return self.certificate.not_valid_after_utc

    @property
    def permitted(self) -> PermittedNames:
        """Return what the name constraints of an intermediate, or a root of clusters, permit (RFC 5280 §4.2.1.10)."""
        return PermittedNames.of_ca(self.certificate)

    @property
    def common_name(self) -> str:
        """Return the CN; of an adopted CA without one its unit, its organisation, or any attribute of its subject."""
        subject = self.certificate.subject
        for oid in NAME_ATTRIBUTES:
            if values := [attribute.value for attribute in subject.get_attributes_for_oid(oid) if attribute.value]:
                return visible_line(str(values[0]))
        return next((visible_line(str(attribute.value)) for attribute in subject if attribute.value), self.name)

    @property
    def subject(self) -> str:
        """Return the subject as OpenSSL prints it under RFC 2253, bytes beyond ASCII escaped.

        Issuer pins compare it.
        """
        text = self.certificate.subject.rfc4514_string()
        return "".join(c if c.isascii() else "".join(f"\\{byte:02X}" for byte in c.encode()) for c in text)

    @property
    def base64(self) -> str:
        """Return the DER of the certificate as one line of Base64."""
        return b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    @property
    def is_sandbox(self) -> bool:
        """Return whether this is an authority of a sandbox, by the word in its name."""
        return SANDBOX in self.certificate.subject.rfc4514_string()

    def is_named_by(self, cert: x509.Certificate) -> bool:
        """Return whether a certificate names this one as its issuer, by subject or by key identifier.

        Either of the two is enough, because the certificate may be damaged.
        """
        if cert.issuer == self.certificate.subject:
            return True
        try:
            named_key = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
            own_key = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:
            return False
        return named_key == own_key


def read_certificate(data: bytes, shown: str, *, is_ours: bool = True) -> x509.Certificate:
    """Return the certificate in a file, which messages call `shown`.

    Raises PkiError if the file is not a certificate. With `is_ours`, raises PkiError also if the file is not byte for byte
    as this program wrote it.
    """
    certificate = canonical.read_certificate(data) if is_ours else None
    if certificate is None:
        try:
            certificate = x509.load_pem_x509_certificate(data)
        except canonical.UNREADABLE:
            raise PkiError("is not a certificate", PUT_BACK, lead=shown) from None
        if is_ours:
            raise damage_error(shown, "different programs read it differently, or not at all")
    return certificate


def is_copy(data: bytes, original: bytes) -> bool:
    """Return whether `data` is a damaged copy of `original`: same length, at most a tenth of its bytes different."""
    return len(data) == len(original) and 10 * sum(map(int.__ne__, data, original)) <= len(data)


def damage_error(shown: str, why: str) -> PkiError:
    """Return the error for a damaged file of an authority."""
    return PkiError(f"is damaged: {why}", PUT_BACK, lead=shown)


class PresignedCrl(NamedTuple):
    """One pre-signed root CRL: its number, the CRL, and the serial numbers that it lists."""

    number: int
    crl: x509.CertificateRevocationList
    serials: frozenset[int]

    @property
    def this_update(self) -> datetime:
        """Return thisUpdate."""
        return self.crl.last_update_utc

    @property
    def next_update(self) -> datetime:
        """Return nextUpdate."""
        end = self.crl.next_update_utc
        assert end is not None, "read_presigned_crl returns none without it"
        return end


def read_presigned_crl(data: bytes, path: Path, issuer: Generation) -> PresignedCrl | None:
    """Return the pre-signed CRL in a file; None if it is damaged or not signed by `issuer`."""
    crl = canonical.read_crl(data, Encoding.PEM)
    if crl is None or not canonical.is_signed_by(crl, ca_public_key(issuer.certificate)) or crl.next_update_utc is None:
        return None
    return PresignedCrl(int(path.stem), crl, frozenset(entry.serial_number for entry in crl))
