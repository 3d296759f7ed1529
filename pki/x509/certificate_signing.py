"""Keys, requests, certificates and CRLs made in memory: no files, no clock.

Dates are timezone-aware UTC in whole seconds. Whatever is signed is read back and verified before it is returned,
because the builder of `cryptography` checks almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from pki.common.durations import backdate
from pki.common.errors import PkiError
from pki.x509.keys import PrivateKey, key_kind, signature_hash
from pki.x509.profiles import Extensions

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign: its certificate as parsed, and its key."""

    certificate: x509.Certificate
    key: PrivateKey


# -- keys -------------------------------------------------------------------------------------------------------------


# -- certificates -----------------------------------------------------------------------------------------------------


def subject(organisation: str, common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def validity(now: datetime, lifetime: timedelta, issuer: x509.Certificate | None) -> tuple[datetime, datetime]:
    """Return notBefore and notAfter, both inclusive: back-dated, never outside the issuer's own."""
    dates = (issuer.not_valid_before_utc, issuer.not_valid_after_utc) if issuer is not None else None
    return validity_within(now, lifetime, dates)


def validity_within(
    now: datetime, lifetime: timedelta, issuer: tuple[datetime, datetime] | None
) -> tuple[datetime, datetime]:
    """Return notBefore and notAfter as `validity` does, where only the dates of the issuer are known."""
    start = now - backdate(lifetime)
    if issuer is not None:
        start = max(start, issuer[0])
    end = start + lifetime - SECOND
    return start, min(end, issuer[1]) if issuer is not None else end


def certificate(
    name: x509.Name,
    public_key: CertificatePublicKeyTypes,
    dates: tuple[datetime, datetime],
    extensions: Extensions,
    issuer: Issuer | PrivateKey,
) -> x509.Certificate:
    """Sign one certificate. `issuer` is a CA, or the subject's own private key for a root.

    Raises PkiError when the result does not verify against its issuer.
    """
    parent = issuer.certificate if isinstance(issuer, Issuer) else None
    signing_key = issuer.key if isinstance(issuer, Issuer) else issuer
    draft = certificate_draft(name, public_key, dates, extensions, parent)
    signed = draft.sign(signing_key, signature_hash(signing_key))
    verify_issued(signed, parent or signed)
    return signed


def certificate_draft(
    name: x509.Name,
    public_key: CertificatePublicKeyTypes,
    dates: tuple[datetime, datetime],
    extensions: Extensions,
    parent: x509.Certificate | None,
) -> x509.CertificateBuilder:
    """Everything of a certificate but its signature, under a fresh serial number; a root has no `parent`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(parent.subject if parent else name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates[0])
        .not_valid_after(dates[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if parent is not None:
        builder = builder.add_extension(authority_key_identifier(parent), critical=False)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder


def verify_issued(signed: x509.Certificate, issuer: x509.Certificate) -> None:
    """Raise PkiError unless `signed` bears the issuer's signature and its extensions can be read."""
    try:
        signed.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise PkiError(
            f"{signed.subject.rfc4514_string()}: the signing key does not belong to the issuer's certificate"
        ) from None
    _ = signed.extensions


def key_identifier(ca: x509.Certificate) -> bytes:
    return ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def authority_key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The key identifier only: issuer and serial would tie the leaf to one certificate of its CA."""
    return x509.AuthorityKeyIdentifier(key_identifier(ca), None, None)


# -- CRLs -------------------------------------------------------------------------------------------------------------


def ca_public_key(
    ca: x509.Certificate,
) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise PkiError(f"{ca.subject.rfc4514_string()}: a key of kind {key_kind(key)} signs no CRLs")
    return key
