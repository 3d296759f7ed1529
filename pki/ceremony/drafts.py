"""Drafts of the certificates and CRLs that a request asks for, and the comparison of signed ones with them.

The offline side signs the drafts; the online side compares the signed certificates and CRLs with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.ceremony.request_response import (
    Request,
    RequestedCrl,
    RequestedCrossCertificate,
    RequestedIntermediate,
    RequestedRoot,
    RequestedSeries,
)
from pki.x509 import certificate_signing, crl_signing, keys, profiles
from pki.x509.profiles import Extensions
from pki.x509.revocation import CrlEntry

SERIAL_BITS = 64  # CA/B BR 7.1: at least 64 bits from a random generator


@dataclass(frozen=True, slots=True)
class CertificateDraft:
    """A certificate before its signature: the content that the request determines, and the subject's public key."""

    what: str
    subject: x509.Name
    key: CertificatePublicKeyTypes
    dates: tuple[datetime, datetime]
    extensions: Extensions
    issuer: x509.Certificate | None  # None: signed by its own key

    def builder(self) -> x509.CertificateBuilder:
        """Return a builder with the content of the certificate."""
        return certificate_signing.draft_certificate(self.subject, self.key, self.dates, self.extensions, self.issuer)

    def differences(self, certificate: x509.Certificate) -> Iterator[str]:
        """Yield each difference of a signed certificate from this draft, in a sentence."""
        expected: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]] = {
            value.oid: (value, critical) for value, critical in self.extensions
        }
        subject_key_id = x509.SubjectKeyIdentifier.from_public_key(self.key)
        expected[subject_key_id.oid] = (subject_key_id, False)
        if self.issuer is not None:
            authority_key_id = certificate_signing.authority_key_identifier(self.issuer)
            expected[authority_key_id.oid] = (authority_key_id, False)
        if certificate.subject != self.subject:
            yield f"its subject is {certificate.subject.rfc4514_string()}, requested {self.subject.rfc4514_string()}"
        if certificate.issuer != (self.issuer.subject if self.issuer else self.subject):
            yield f"its issuer is {certificate.issuer.rfc4514_string()}"
        if keys.public_der(certificate.public_key()) != keys.public_der(self.key):
            yield "it is for another key than the one in the request"
        if (certificate.not_valid_before_utc, certificate.not_valid_after_utc) != self.dates:
            yield f"its dates are {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        actual = {extension.oid: (extension.value, extension.critical) for extension in certificate.extensions}
        if actual != expected:
            names = sorted(oid._name for oid in actual.keys() ^ expected.keys())  # noqa: SLF001 - for the message only
            names += sorted(oid._name for oid in actual.keys() & expected.keys() if actual[oid] != expected[oid])  # noqa: SLF001
            yield f"its extensions are not those of the profile: {', '.join(names)}"
        if certificate.serial_number.bit_length() < SERIAL_BITS:
            yield f"its serial number has {certificate.serial_number.bit_length()} bits, expected at least {SERIAL_BITS}"


@dataclass(frozen=True, slots=True)
class CrlDraft:
    """One pre-signed CRL before its signature."""

    what: str
    presigned_crl: RequestedCrl
    entries: tuple[CrlEntry, ...]
    issuer: x509.Certificate

    def builder(self) -> x509.CertificateRevocationListBuilder:
        """Return a builder with the content of the CRL."""
        presigned_crl = self.presigned_crl
        return crl_signing.draft_crl(
            self.issuer, presigned_crl.number, presigned_crl.this_update, presigned_crl.next_update, self.entries
        )

    def differences(self, crl: x509.CertificateRevocationList) -> Iterator[str]:
        """Yield each difference of a signed CRL from this draft, in a sentence."""
        if crl.issuer != self.issuer.subject:
            yield f"its issuer is {crl.issuer.rfc4514_string()}"
        if (crl.last_update_utc, crl.next_update_utc) != (
            self.presigned_crl.this_update,
            self.presigned_crl.next_update,
        ):
            yield "its dates are not the requested ones"
        expected = {
            x509.CRLNumber.oid: (x509.CRLNumber(self.presigned_crl.number), False),
            x509.AuthorityKeyIdentifier.oid: (certificate_signing.authority_key_identifier(self.issuer), False),
        }
        if {extension.oid: (extension.value, extension.critical) for extension in crl.extensions} != expected:
            yield "its number or extensions are not the requested ones"
        if sorted(_entries(crl), key=str) != sorted(self.entries, key=str):
            yield "its entries are not the requested ones"


Draft = CertificateDraft | CrlDraft


def _entries(crl: x509.CertificateRevocationList) -> Iterator[CrlEntry]:
    """Yield the entries of a CRL. An entry with an extension that no draft has gets the reason `unknown`, and so differs."""
    for revoked in crl:
        reason = "unspecified"
        for extension in revoked.extensions:
            reason = extension.value.reason.value if isinstance(extension.value, x509.CRLReason) else "unknown"
        yield CrlEntry(revoked.serial_number, revoked.revocation_date_utc, reason)


def draft_root(request: Request, requested: RequestedRoot, key: CertificatePublicKeyTypes) -> CertificateDraft:
    """Return the draft of a new root certificate for `key`."""
    return CertificateDraft(
        what=requested.name,
        subject=certificate_signing.subject_name(request.organisation, requested.common_name),
        key=key,
        dates=(requested.not_before, requested.not_after),
        extensions=profiles.root_extensions(requested.domains, requested.addresses),
        issuer=None,
    )


def draft_intermediate(
    request: Request, requested: RequestedIntermediate, issuer: x509.Certificate
) -> CertificateDraft:
    """Return the draft of an intermediate certificate. Raises PkiError when its request has no usable key."""
    return CertificateDraft(
        what=requested.name,
        subject=certificate_signing.subject_name(request.organisation, requested.common_name),
        key=keys.read_request_key(requested.request.encode(), f"the request of {requested.name}"),
        dates=(requested.not_before, requested.not_after),
        extensions=profiles.intermediate_extensions(requested.purpose, requested.domains, requested.addresses)
        + profiles.publication_extensions(request.publish, requested.issuer),
        issuer=issuer,
    )


def draft_cross_certificate(
    request: Request, requested: RequestedCrossCertificate, new_root: x509.Certificate, issuer: x509.Certificate
) -> CertificateDraft:
    """Return the draft of the certificate by which the root `issuer` certifies the key of the root `new_root`."""
    return CertificateDraft(
        what=f"{requested.name} by {requested.issuer}",
        subject=new_root.subject,
        key=new_root.public_key(),
        dates=(requested.not_before, requested.not_after),
        extensions=profiles.cross_certificate_extensions()
        + profiles.name_constraints_of(new_root)
        + profiles.publication_extensions(request.publish, requested.issuer),
        issuer=issuer,
    )


def draft_crl_series(requested: RequestedSeries, root: x509.Certificate) -> list[CrlDraft]:
    """Return the drafts of all pre-signed CRLs of a root, in the order of the request."""
    entries = tuple(revocation.entry for revocation in requested.revoked)
    return [
        CrlDraft(f"CRL {presigned_crl.number} of {requested.root}", presigned_crl, entries, root)
        for presigned_crl in requested.presigned_crls
    ]
