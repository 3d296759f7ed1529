"""CRLs in memory (RFC 5280 §5): drafted, signed, verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from cryptography import x509

from pki.common.errors import PkiError
from pki.x509.certificate_signing import Issuer, authority_key_identifier, ca_public_key
from pki.x509.keys import signature_hash
from pki.x509.revocation import Entry


def crl(
    issuer: Issuer,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[Entry],
    kept: Sequence[x509.RevokedCertificate] = (),
) -> x509.CertificateRevocationList:
    """Sign one CRL. Raises PkiError when the result does not verify against its issuer.

    `kept` are entries of an earlier one of the issuer's own: they are not built again.
    """
    draft = crl_draft(issuer.certificate, number, this_update, next_update, entries, kept)
    signed = draft.sign(issuer.key, signature_hash(issuer.key))
    verify_crl(signed, issuer.certificate)
    return signed


def crl_draft(
    ca: x509.Certificate,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries: Iterable[Entry],
    kept: Sequence[x509.RevokedCertificate] = (),
) -> x509.CertificateRevocationListBuilder:
    """Everything of a CRL but its signature: AKI, number, nextUpdate, no issuing distribution point.

    NSS refuses a CRL with a critical issuing distribution point. An adopted CA without an SKI leaves nothing to name.
    """
    draft = (
        x509.CertificateRevocationListBuilder(revoked_certificates=[*kept, *_revoked(entries)])
        .issuer_name(ca.subject)
        .last_update(this_update)
        .next_update(next_update)
    )
    with suppress(x509.ExtensionNotFound):
        draft = draft.add_extension(authority_key_identifier(ca), critical=False)
    return draft.add_extension(x509.CRLNumber(number), critical=False)


def verify_crl(signed: x509.CertificateRevocationList, ca: x509.Certificate) -> None:
    """Raise PkiError unless `signed` bears the signature of `ca`."""
    if signed.issuer != ca.subject or not signed.is_signature_valid(ca_public_key(ca)):
        raise PkiError(f"{ca.subject.rfc4514_string()}: the signing key does not belong to the CA's certificate")


def _revoked(entries: Iterable[Entry]) -> list[x509.RevokedCertificate]:
    """The entries of a CRL; what is the same for each reason, and from one entry to the next, is built once."""
    begun: dict[str, x509.RevokedCertificateBuilder] = {}
    found, last, dated = list[x509.RevokedCertificate](), None, x509.RevokedCertificateBuilder()
    for entry in entries:
        if last is None or (last.reason, last.revoked_at) != (entry.reason, entry.revoked_at):
            if entry.reason not in begun:
                begun[entry.reason] = _reasoned(entry.reason)
            dated = begun[entry.reason].revocation_date(entry.revoked_at)
        found.append(dated.serial_number(entry.serial).build())
        last = entry
    return found


def _reasoned(reason: str) -> x509.RevokedCertificateBuilder:
    builder = x509.RevokedCertificateBuilder()
    if reason == x509.ReasonFlags.unspecified.value:
        return builder
    return builder.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
