"""One key of an authority with its certificate, and the CRLs that a root signed ahead."""

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
from pki.common.visible import plain
from pki.config.fields import SANDBOX
from pki.config.identifiers import GenerationName
from pki.x509 import canonical
from pki.x509.certificate_signing import ca_public_key
from pki.x509.name_constraints import PermittedNames

CALLED_BY = (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)  # in this order
PUT_BACK = f"put it back from a backup: {RESTORE}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One key of an authority: its name, and its certificate as parsed.

    `chain` is what is sent along below a leaf: its PEM, and the certificates that older roots gave to its own root.
    """

    name: GenerationName
    certificate: x509.Certificate
    pem: bytes
    fingerprint: str
    chain: bytes
    chain_digest: str

    @property
    def authority(self) -> str:
        return self.name.authority

    @property
    def not_before(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def permitted(self) -> PermittedNames:
        """What the name constraints of an intermediate permit."""
        return PermittedNames.of_ca(self.certificate)

    @property
    def common_name(self) -> str:
        """What people know the CA by: its CN; of an adopted CA without one its unit, its organisation, or what it has."""
        subject = self.certificate.subject
        for kind in CALLED_BY:
            if found := [one.value for one in subject.get_attributes_for_oid(kind) if one.value]:
                return plain(str(found[0]))
        return next((plain(str(one.value)) for one in subject if one.value), self.name)

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

    def is_named_by(self, cert: x509.Certificate) -> bool:
        """Whether a certificate names this one as its issuer, by subject or by key identifier: a damage leaves one of both."""
        if cert.issuer == self.certificate.subject:
            return True
        try:
            given = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
            return given == self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:
            return False


def read_certificate(data: bytes, shown: str, *, is_ours: bool = True) -> x509.Certificate:
    """The certificate in a file that messages call `shown`; one of ours must be byte for byte as it was written.

    Raises PkiError for anything else.
    """
    found = canonical.read_certificate(data) if is_ours else None
    if found is None:
        try:
            found = x509.load_pem_x509_certificate(data)
        except canonical.UNREADABLE:
            raise PkiError("is not a certificate", PUT_BACK, lead=shown) from None
        if is_ours:
            raise damaged(shown, "programs read different things in it, or nothing")
    return found


def is_copy(data: bytes, original: bytes) -> bool:
    """Whether a file is another one of the same length but for a tenth of its bytes at most: two certificates differ in more."""
    return len(data) == len(original) and 10 * sum(map(int.__ne__, data, original)) <= len(data)


def damaged(shown: str, why: str) -> PkiError:
    return PkiError(f"is damaged: {why}", PUT_BACK, lead=shown)


class PresignedCrl(NamedTuple):
    """One pre-signed root CRL: its number, the CRL, and the serial numbers that it lists."""

    number: int
    crl: x509.CertificateRevocationList
    serials: frozenset[int]

    @property
    def this_update(self) -> datetime:
        return self.crl.last_update_utc

    @property
    def next_update(self) -> datetime:
        end = self.crl.next_update_utc
        assert end is not None, "read_presigned_crl returns none without it"
        return end


def read_presigned_crl(data: bytes, path: Path, issuer: Generation) -> PresignedCrl | None:
    """A pre-signed CRL as its file holds it; None if it is damaged, or not signed by `issuer`."""
    crl = canonical.read_crl(data, Encoding.PEM)
    if crl is None or not canonical.is_signed_by(crl, ca_public_key(issuer.certificate)) or crl.next_update_utc is None:
        return None
    return PresignedCrl(int(path.stem), crl, frozenset(one.serial_number for one in crl))
