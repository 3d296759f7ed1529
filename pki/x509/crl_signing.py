"""Draft, sign and verify CRLs (RFC 5280 §5) in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from cryptography import x509

from pki.common.errors import PkiError
from pki.x509.certificate_signing import Issuer, authority_key_identifier, ca_public_key
from pki.x509.keys import signature_hash
from pki.x509.revocation import CrlEntry


def sign_crl(
    issuer: Issuer,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[CrlEntry],
    unchanged: Sequence[x509.RevokedCertificate] = (),
) -> x509.CertificateRevocationList:
    """Sign one CRL with its `number` and dates (UTC, whole seconds).

    `unchanged` are parsed entries of the issuer's previous CRL. To reuse them is faster than to build them again.
    Raises PkiError if the result does not verify against its issuer.
    """
    draft = draft_crl(issuer.certificate, number, this_update, next_update, entries, unchanged)
    crl = draft.sign(issuer.key, signature_hash(issuer.key))
    verify_crl(crl, issuer.certificate)
    return crl


def draft_crl(
    ca: x509.Certificate,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[CrlEntry],
    unchanged: Sequence[x509.RevokedCertificate] = (),
) -> x509.CertificateRevocationListBuilder:
    """Return an unsigned CRL.

    RFC 5280 §5.1.2.5: nextUpdate is always present. §5.2.1: the authority key identifier is present, unless an adopted
    CA has no subject key identifier. §5.2.3: the CRL number only rises, and is not critical. §5.2.5: there is no issuing
    distribution point; it would be critical, and NSS refuses a CRL with a critical one.
    """
    draft = (
        x509.CertificateRevocationListBuilder(revoked_certificates=[*unchanged, *_revoked(entries)])
        .issuer_name(ca.subject)
        .last_update(this_update)
        .next_update(next_update)
    )
    with suppress(x509.ExtensionNotFound):  # raised for an adopted CA without a subject key identifier
        draft = draft.add_extension(authority_key_identifier(ca), critical=False)
    return draft.add_extension(x509.CRLNumber(number), critical=False)


def verify_crl(signed: x509.CertificateRevocationList, ca: x509.Certificate) -> None:
    """Raise PkiError unless `ca` issued and signed the CRL (RFC 5280 §6.3.3 (b) and (g))."""
    if signed.issuer != ca.subject or not signed.is_signature_valid(ca_public_key(ca)):
        raise PkiError(f"{ca.subject.rfc4514_string()}: the signing key does not belong to the CA's certificate")


def _revoked(entries: Iterable[CrlEntry]) -> list[x509.RevokedCertificate]:
    """Build the entries of a CRL. Entries with equal reason and date share a builder, which makes a large CRL faster."""
    by_reason: dict[str, x509.RevokedCertificateBuilder] = {}
    revoked_certificates, last_entry, builder = list[x509.RevokedCertificate](), None, x509.RevokedCertificateBuilder()
    for entry in entries:
        if last_entry is None or (last_entry.reason, last_entry.revoked_at) != (entry.reason, entry.revoked_at):
            if entry.reason not in by_reason:
                by_reason[entry.reason] = _builder_with_reason(entry.reason)
            builder = by_reason[entry.reason].revocation_date(entry.revoked_at)
        revoked_certificates.append(builder.serial_number(entry.serial).build())
        last_entry = entry
    return revoked_certificates


def _builder_with_reason(reason: str) -> x509.RevokedCertificateBuilder:
    """Return a builder with the reason (RFC 5280 §5.3.1: not critical, and absent if it is `unspecified`)."""
    builder = x509.RevokedCertificateBuilder()
    if reason == x509.ReasonFlags.unspecified.value:
        return builder
    return builder.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
