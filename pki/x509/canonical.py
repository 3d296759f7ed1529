"""Strict readers of files that this program wrote: what they return was encoded from exactly these bytes.

PEM and DER readers differ in what they tolerate, so a damaged file can be sound to one and unreadable to another
(RFC 7468 §2 leaves that open). A file is taken for sound only if its content, encoded again, gives the same bytes.
Records in JSON carry a digest of all their other bytes.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.utils import CryptographyDeprecationWarning

UNREADABLE = (  # what the readers of `cryptography` raise for a file that is damaged
    *(ValueError, TypeError, OverflowError, UnsupportedAlgorithm, InternalError),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    CryptographyDeprecationWarning,  # where warnings are errors: a serial number that is not positive, RFC 5280 §4.1.2.2
)
ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END ENCRYPTED PRIVATE KEY-----")
BEGIN = b"-----BEGIN CERTIFICATE-----"


# -- certificates, keys, CRLs -----------------------------------------------------------------------------------------


def files_of(bundle: bytes) -> dict[str, bytes]:
    """Return the files that follow from a leaf's PEM bundle (key, leaf, intermediate; or without the key), by name."""
    key, _, rest = bundle.partition(BEGIN)
    leaf, _, chain = rest.partition(BEGIN)
    parts = {"cert.pem": BEGIN + leaf, "chain.pem": BEGIN + chain}
    if key:
        parts |= {"key.pem": key, "fullchain.pem": BEGIN + rest}
    return parts


def certificate(data: bytes) -> x509.Certificate | None:
    """Return the one certificate of a PEM file, None when the file is not exactly that."""
    try:
        found = x509.load_pem_x509_certificate(data)
        return found if _is_readable(found) and found.public_bytes(Encoding.PEM) == data else None
    except UNREADABLE:
        return None


def readable_certificate(data: bytes) -> x509.Certificate | None:
    """Return the first certificate of a PEM file that others wrote, None where one of its parts cannot be read."""
    try:
        found = x509.load_pem_x509_certificate(data)
        return found if _is_readable(found) else None
    except UNREADABLE:
        return None


def certificates(data: bytes) -> list[x509.Certificate] | None:
    """Return the certificates of a PEM file that holds nothing else, None when it is not exactly that."""
    try:
        found = x509.load_pem_x509_certificates(data)
        is_all = b"".join(one.public_bytes(Encoding.PEM) for one in found) == data
        return found if is_all and all(map(_is_readable, found)) else None
    except UNREADABLE:
        return None


def _is_readable(found: x509.Certificate) -> bool:
    """Read every part, which `cryptography` does when it is asked for. Raises what UNREADABLE names."""
    _ = found.version, found.serial_number, found.subject, found.issuer, found.public_key(), found.extensions
    _ = found.not_valid_before_utc, found.not_valid_after_utc, found.signature_hash_algorithm
    return is_signature_whole(found)


def first_certificate(data: bytes) -> x509.Certificate | None:
    """Return the first certificate among the sections of a PEM file, None when there is none or it is damaged."""
    _, mark, rest = data.partition(BEGIN)
    return certificate(mark + rest.partition(BEGIN)[0]) if mark else None


def key(data: bytes) -> PrivateKeyTypes | None:
    """Return the unencrypted private key of a PKCS#8 PEM file, None when the file is not exactly that."""
    try:
        found = serialization.load_pem_private_key(data, None)
        return found if _private_bytes(found) == data else None
    except UNREADABLE:
        return None


def is_encrypted_key(data: bytes) -> bool:
    """Return whether a file is the PEM of one encrypted PKCS#8 key and of nothing else; it is not opened."""
    lines = data.split(b"\n")
    if (lines[0], lines[-2:]) != (ENCRYPTED[0], [ENCRYPTED[1], b""]):
        return False
    try:
        body = b64encode(b64decode(b"".join(lines[1:-2]), validate=True))
    except ValueError:
        return False
    return lines[1:-2] == [body[start : start + 64] for start in range(0, len(body), 64)]


def _private_bytes(found: PrivateKeyTypes) -> bytes:
    """Encode a private key from its secret numbers alone: a file can hold a public half that is another key's."""
    if isinstance(found, ec.EllipticCurvePrivateKey):
        found = ec.derive_private_key(found.private_numbers().private_value, found.curve)
    return found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def crl(data: bytes, encoding: Encoding) -> x509.CertificateRevocationList | None:
    """Return the one CRL of a PEM or DER file, None when the file is not exactly that."""
    try:
        found = x509.load_pem_x509_crl(data) if encoding is Encoding.PEM else x509.load_der_x509_crl(data)
        _ = found.issuer, found.last_update_utc, found.next_update_utc, found.extensions, found.signature_hash_algorithm
        return found if found.public_bytes(encoding) == data and is_signature_whole(found) else None
    except UNREADABLE:
        return None


def is_signature_whole(
    signed: x509.Certificate | x509.CertificateRevocationList | x509.CertificateSigningRequest,
) -> bool:
    """Return whether the signature has no unused bits (DER, X.690 §8.6): its last part is their number, then its octets.

    `cryptography` ignores the number, OpenSSL verifies no signature where it is not 0.
    """
    return signed.public_bytes(Encoding.DER).endswith(b"\0" + signed.signature)


def is_signed_by(
    found: x509.CertificateRevocationList,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey,
) -> bool:
    """Return whether a key signed a CRL whose parts can all be read."""
    try:
        _ = found.extensions
        return is_signature_whole(found) and found.is_signature_valid(public)
    except UNREADABLE:
        return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's subject and key are those of a certificate's issuer and signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return is_signature_whole(certificate)


# -- records ----------------------------------------------------------------------------------------------------------
