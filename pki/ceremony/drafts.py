"""What a request asks for, as drafts to be signed; and what a signed certificate or CRL differs from it in.

Both sides of the air gap use this: the offline one to make, the online one to check what was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.ceremony.request_response import (
    AskedCross,
    AskedIntermediate,
    AskedRoot,
    Request,
    RequestedCrl,
    RequestedSeries,
)
from pki.x509 import certificate_signing, crl_signing, keys, profiles
from pki.x509.profiles import Extensions
from pki.x509.revocation import CrlEntry

SERIAL_BITS = 64  # CA/Browser Forum baseline requirements, 7.1: at least so many from a random generator


@dataclass(frozen=True, slots=True)
class CertificateDraft:
    """A certificate before its signature: everything that the request determines, and the key that it is for."""

    what: str
    subject: x509.Name
    key: CertificatePublicKeyTypes
    dates: tuple[datetime, datetime]
    extensions: Extensions
    issuer: x509.Certificate | None  # None: signed by its own key

    def builder(self) -> x509.CertificateBuilder:
        return certificate_signing.draft_certificate(self.subject, self.key, self.dates, self.extensions, self.issuer)

    def differences(self, cert: x509.Certificate) -> Iterator[str]:
        """In what a signed certificate is not what was asked for; nothing means that it is."""
        expected: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]] = {
            value.oid: (value, critical) for value, critical in self.extensions
        }
        own = x509.SubjectKeyIdentifier.from_public_key(self.key)
        expected[own.oid] = (own, False)
        if self.issuer is not None:
            above = certificate_signing.authority_key_identifier(self.issuer)
            expected[above.oid] = (above, False)
        if cert.subject != self.subject:
            yield f"its subject is {cert.subject.rfc4514_string()}, asked for {self.subject.rfc4514_string()}"
        if cert.issuer != (self.issuer.subject if self.issuer else self.subject):
            yield f"its issuer is {cert.issuer.rfc4514_string()}"
        if keys.public_der(cert.public_key()) != keys.public_der(self.key):
            yield "it is for another key than the one in the request"
        if (cert.not_valid_before_utc, cert.not_valid_after_utc) != self.dates:
            yield f"its dates are {cert.not_valid_before_utc:%Y-%m-%d} to {cert.not_valid_after_utc:%Y-%m-%d}"
        found = {extension.oid: (extension.value, extension.critical) for extension in cert.extensions}
        if found != expected:
            names = sorted(oid._name for oid in found.keys() ^ expected.keys())  # noqa: SLF001 - for the message only
            names += sorted(oid._name for oid in found.keys() & expected.keys() if found[oid] != expected[oid])  # noqa: SLF001
            yield f"its extensions are not those of the profile: {', '.join(names)}"
        if cert.serial_number.bit_length() < SERIAL_BITS:
            yield f"its serial number has {cert.serial_number.bit_length()} bits, expected at least {SERIAL_BITS}"


@dataclass(frozen=True, slots=True)
class CrlDraft:
    """One pre-signed CRL before its signature."""

    what: str
    presigned_crl: RequestedCrl
    entries: tuple[CrlEntry, ...]
    issuer: x509.Certificate

    def builder(self) -> x509.CertificateRevocationListBuilder:
        presigned_crl = self.presigned_crl
        return crl_signing.draft_crl(
            self.issuer, presigned_crl.number, presigned_crl.this_update, presigned_crl.next_update, self.entries
        )

    def differences(self, crl: x509.CertificateRevocationList) -> Iterator[str]:
        """In what a signed CRL is not what was asked for."""
        if crl.issuer != self.issuer.subject:
            yield f"its issuer is {crl.issuer.rfc4514_string()}"
        if (crl.last_update_utc, crl.next_update_utc) != (
            self.presigned_crl.this_update,
            self.presigned_crl.next_update,
        ):
            yield "its dates are not those that were asked for"
        expected = {
            x509.CRLNumber.oid: (x509.CRLNumber(self.presigned_crl.number), False),
            x509.AuthorityKeyIdentifier.oid: (certificate_signing.authority_key_identifier(self.issuer), False),
        }
        if {extension.oid: (extension.value, extension.critical) for extension in crl.extensions} != expected:
            yield "its number or extensions are not those that were asked for"
        if sorted(_entries(crl), key=str) != sorted(self.entries, key=str):
            yield "its entries are not those that were asked for"


Draft = CertificateDraft | CrlDraft


def _entries(crl: x509.CertificateRevocationList) -> Iterator[CrlEntry]:
    for revoked in crl:
        reason = "unspecified"
        for extension in revoked.extensions:
            reason = extension.value.reason.value if isinstance(extension.value, x509.CRLReason) else "unknown"
        yield CrlEntry(revoked.serial_number, revoked.revocation_date_utc, reason)


def root(request: Request, asked: AskedRoot, key: CertificatePublicKeyTypes) -> CertificateDraft:
    return CertificateDraft(
        what=asked.name,
        subject=certificate_signing.subject_name(request.organisation, asked.common_name),
        key=key,
        dates=(asked.not_before, asked.not_after),
        extensions=profiles.root_extensions(),
        issuer=None,
    )


def intermediate(request: Request, asked: AskedIntermediate, issuer: x509.Certificate) -> CertificateDraft:
    return CertificateDraft(
        what=asked.name,
        subject=certificate_signing.subject_name(request.organisation, asked.common_name),
        key=keys.read_request_key(asked.request.encode(), f"the request of {asked.name}"),
        dates=(asked.not_before, asked.not_after),
        extensions=profiles.intermediate_extensions(asked.authority, asked.domains, asked.addresses)
        + profiles.publication_extensions(request.publish, asked.issuer),
        issuer=issuer,
    )


def cross(request: Request, asked: AskedCross, new: x509.Certificate, issuer: x509.Certificate) -> CertificateDraft:
    return CertificateDraft(
        what=f"{asked.name} by {asked.issuer}",
        subject=new.subject,
        key=new.public_key(),
        dates=(asked.not_before, asked.not_after),
        extensions=profiles.cross_certificate_extensions()
        + profiles.publication_extensions(request.publish, asked.issuer),
        issuer=issuer,
    )


def series(asked: RequestedSeries, root: x509.Certificate) -> list[CrlDraft]:
    entries = tuple(revocation.entry for revocation in asked.revoked)
    return [
        CrlDraft(f"CRL {presigned_crl.number} of {asked.root}", presigned_crl, entries, root)
        for presigned_crl in asked.presigned_crls
    ]
