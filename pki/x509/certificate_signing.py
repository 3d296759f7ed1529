"""Draft, sign and verify certificates (RFC 5280 §4) in memory.

Dates are timezone-aware UTC in whole seconds. Each certificate is verified against its issuer before it is returned,
because the builder of `cryptography` checks almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from pki.common.durations import backdate
from pki.common.errors import PkiError
from pki.x509.keys import PrivateKey, key_kind, signature_hash
from pki.x509.profiles import Extensions

SECOND = timedelta(seconds=1)  # notAfter is inclusive


class Validity(NamedTuple):
    """notBefore and notAfter of a certificate, both inclusive (RFC 5280 §4.1.2.5)."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign: its parsed certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey


def subject_name(organisation: str, common_name: str) -> x509.Name:
    """Return the subject O=`organisation`, CN=`common_name`; without a CN if `common_name` is empty."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def validity_dates(now: datetime, lifetime: timedelta, issuer: x509.Certificate | None) -> Validity:
    """Return the dates of a certificate that is issued `now`.

    notBefore is back-dated for hosts whose clock is behind. Both dates are within the validity of `issuer`, which is None
    for a root.
    """
    if issuer is None:
        return validity_dates_within(now, lifetime, None)
    return validity_dates_within(now, lifetime, Validity(issuer.not_valid_before_utc, issuer.not_valid_after_utc))


def validity_dates_within(now: datetime, lifetime: timedelta, issuer: tuple[datetime, datetime] | None) -> Validity:
    """Return the dates of a certificate as `validity_dates` does; `issuer` are notBefore and notAfter of the issuer."""
    not_before = now - backdate(lifetime)
    if issuer is None:
        return Validity(not_before, not_before + lifetime - SECOND)
    issuer_not_before, issuer_not_after = issuer
    not_before = max(not_before, issuer_not_before)
    return Validity(not_before, min(not_before + lifetime - SECOND, issuer_not_after))


def sign_certificate(
    name: x509.Name,
    public_key: CertificatePublicKeyTypes,
    dates: tuple[datetime, datetime],
    extensions: Extensions,
    issuer: Issuer | PrivateKey,
) -> x509.Certificate:
    """Sign one certificate.

    `dates` are notBefore and notAfter, both inclusive. `issuer` is a CA, or the private key of the subject for a root.
    Raises PkiError if the result does not verify against its issuer.
    """
    parent = issuer.certificate if isinstance(issuer, Issuer) else None
    signing_key = issuer.key if isinstance(issuer, Issuer) else issuer
    draft = draft_certificate(name, public_key, dates, extensions, parent)
    certificate = draft.sign(signing_key, signature_hash(signing_key))
    verify_certificate(certificate, parent or certificate)
    return certificate


def draft_certificate(
    name: x509.Name,
    public_key: CertificatePublicKeyTypes,
    dates: tuple[datetime, datetime],
    extensions: Extensions,
    parent: x509.Certificate | None,
) -> x509.CertificateBuilder:
    """Return an unsigned certificate with a random serial number; `parent` is None for a root.

    RFC 5280 §4.1.2.2: the serial number is positive and has at most 20 octets; CA/B BR 7.1: at least 64 random bits.
    RFC 5280 §4.1.2.4: the issuer is byte for byte the subject of the parent, so it is never rebuilt from text.
    RFC 5280 §4.2.1.1 and §4.2.1.2: the key identifiers are never critical; a root needs no authority key identifier.
    """
    not_before, not_after = dates
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(parent.subject if parent else name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if parent is not None:
        builder = builder.add_extension(authority_key_identifier(parent), critical=False)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder


def verify_certificate(signed: x509.Certificate, issuer: x509.Certificate) -> None:
    """Raise PkiError unless `issuer` signed the certificate and its extensions can be parsed (RFC 5280 §6.1.3)."""
    try:
        signed.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise PkiError(
            f"{signed.subject.rfc4514_string()}: the signing key does not belong to the issuer's certificate"
        ) from None
    _ = signed.extensions  # cryptography parses them on first use


def key_identifier(ca: x509.Certificate) -> bytes:
    """Return the subject key identifier of a CA (RFC 5280 §4.2.1.2). Raises x509.ExtensionNotFound without one."""
    return ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def authority_key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the extension that names the key of `ca` (RFC 5280 §4.2.1.1).

    It contains the key identifier only: issuer and serial number would tie the leaf to one certificate of its CA, and a
    cross-certificate for the same key would no longer match.
    """
    return x509.AuthorityKeyIdentifier(key_identifier(ca), None, None)


def ca_public_key(
    ca: x509.Certificate,
) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    """Return the public key of a CA. Raises PkiError for a kind of key that cannot verify a CRL."""
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise PkiError(f"{ca.subject.rfc4514_string()}: a key of kind {key_kind(key)} cannot sign CRLs")
    return key
