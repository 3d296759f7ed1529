"""Keys, requests, certificates and CRLs made in memory: no files, no clock.

Dates are timezone-aware UTC in whole seconds. Whatever is signed is read back and verified before it is returned,
because the builder of `cryptography` checks almost nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from pki.common.durations import backdate
from pki.common.errors import ErrorCode, PkiError
from pki.common.remedies import RESTORE
from pki.pkcs8 import encrypted_der
from pki.profiles import Extensions
from pki.records import Entry

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign: its certificate as parsed, and its key."""

    certificate: x509.Certificate
    key: PrivateKey


# -- keys -------------------------------------------------------------------------------------------------------------


def new_key(kind: str) -> PrivateKey:
    """A fresh private key; `kind` as pki.yaml writes it: ec-p256, ec-p384, ed25519, rsa-2048 to rsa-4096."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("rsa-"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[4:]))
    return ec.generate_private_key({"ec-p256": ec.SECP256R1(), "ec-p384": ec.SECP384R1()}[kind])


def key_kind(key: CertificatePublicKeyTypes | PrivateKey) -> str:
    """`ec-p256`, `rsa-2048`, `ed25519`: the inverse of `new_key`, for public and private keys."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        name = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}.get(key.curve.name, key.curve.name)
        return f"ec-{name}"
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return "ed25519"
    return type(key).__name__


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pkcs1_pem(data: bytes) -> bytes | None:
    """An RSA key from PKCS#8 as `BEGIN RSA PRIVATE KEY` (RFC 8017, appendix A.1.2), which some devices need; None for another."""
    key = serialization.load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()) if is_rsa else None


def encrypted_pem(key: PrivateKey, passphrase: str) -> bytes:
    return pem("ENCRYPTED PRIVATE KEY", encrypted_der(key, passphrase))


def pem(label: str, der: bytes) -> bytes:
    """RFC 7468 text of a DER value."""
    body = b64encode(der)
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def open_key(data: bytes, passphrase: str | None, name: str, source: str) -> PrivateKey:
    """A private key from PEM; `name` is what messages call it, `source` where its passphrase comes from."""
    try:
        key = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError:
        if passphrase:
            raise PkiError(f"{name}: its key is not encrypted", RESTORE) from None
        what = f"{name}: its key is encrypted and {source} holds no passphrase for it"
        raise PkiError(what, code=ErrorCode.KEY_NOT_OPENED) from None
    except (ValueError, UnsupportedAlgorithm):
        raise PkiError(
            f"{name}: its key cannot be opened",
            f"the passphrase from {source} is wrong, or the file is damaged",
            ErrorCode.KEY_NOT_OPENED,
        ) from None
    if not isinstance(key, PrivateKey):
        raise PkiError(f"{name}: its key is of a kind that cannot sign")
    return key


def public_der(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_fingerprint(key: CertificatePublicKeyTypes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, as hex."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public_der(key))
    return digest.finalize().hex()


def request_key(data: bytes, name: str) -> CertificatePublicKeyTypes:
    """The public key of a certificate request whose own signature holds; nothing else in it is believed."""
    try:
        request = x509.load_pem_x509_csr(data)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise PkiError(f"{name}: not a PEM certificate request: {error}") from None
    if not valid:
        raise PkiError(f"{name}: the request's signature does not verify", "make the request again on the device")
    insist_on_usable(key, name)
    return key


def insist_on_usable(key: CertificatePublicKeyTypes, name: str) -> None:
    """Raise PkiError for a requested key of a kind or size that is not certified; `name` is that of the request."""
    kind = key_kind(key)
    if kind.startswith("rsa-") and not 2048 <= int(kind[4:]) <= 4096:
        raise PkiError(f"{name}: an RSA key of {kind[4:]} bits", "use 2048 to 4096 bits")
    if not kind.startswith(("rsa-", "ec-p256", "ec-p384", "ed25519")):
        raise PkiError(f"{name}: a key of kind {kind}", "use RSA, P-256, P-384 or Ed25519")


# -- certificates -----------------------------------------------------------------------------------------------------


def subject(organisation: str, common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def validity(now: datetime, lifetime: timedelta, issuer: x509.Certificate | None) -> tuple[datetime, datetime]:
    """The dates notBefore and notAfter, both inclusive: back-dated, never outside the issuer's own."""
    start = now - backdate(lifetime)
    if issuer is not None:
        start = max(start, issuer.not_valid_before_utc)
    end = start + lifetime - SECOND
    return start, min(end, issuer.not_valid_after_utc) if issuer is not None else end


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


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The hash that goes with a signing key; None for keys that bring their own (Ed25519)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None


def key_identifier(ca: x509.Certificate) -> bytes:
    return ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def authority_key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The key identifier only: issuer and serial would tie the leaf to one certificate of its CA."""
    return x509.AuthorityKeyIdentifier(key_identifier(ca), None, None)


# -- CRLs -------------------------------------------------------------------------------------------------------------


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


def ca_public_key(
    ca: x509.Certificate,
) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise PkiError(f"{ca.subject.rfc4514_string()}: a key of kind {key_kind(key)} signs no CRLs")
    return key


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


def pem_of(items: Sequence[x509.Certificate | x509.CertificateRevocationList]) -> bytes:
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in items)
