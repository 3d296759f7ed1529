"""Strict readers of certificates, keys and CRLs that this program wrote.

PEM and DER parsers differ in what they tolerate (RFC 7468 §2), so one program can read a damaged file that another one
refuses. These readers accept a file only if its content, encoded again, gives the same bytes.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.utils import CryptographyDeprecationWarning

UNREADABLE = (  # what `cryptography` raises for a damaged file
    *(ValueError, TypeError, OverflowError, UnsupportedAlgorithm, InternalError),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    CryptographyDeprecationWarning,  # where warnings are errors: a serial number that is not positive, RFC 5280 §4.1.2.2
)
ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END ENCRYPTED PRIVATE KEY-----")
BEGIN = b"-----BEGIN CERTIFICATE-----"


def split_bundle(bundle: bytes) -> dict[str, bytes]:
    """Split the PEM bundle of a leaf into its files: file name → PEM bytes.

    The bundle contains the key (optional), the leaf and the intermediate, in this order.
    """
    key, _, rest = bundle.partition(BEGIN)
    leaf, _, chain = rest.partition(BEGIN)
    parts = {"cert.pem": BEGIN + leaf, "chain.pem": BEGIN + chain}
    if key:  # without a key, the bundle itself is fullchain.pem
        parts |= {"key.pem": key, "fullchain.pem": BEGIN + rest}
    return parts


def read_certificate(data: bytes) -> x509.Certificate | None:
    """Return the certificate of a PEM file, or None if the file is not exactly one certificate."""
    try:
        certificate = x509.load_pem_x509_certificate(data)
        return certificate if _is_readable(certificate) and certificate.public_bytes(Encoding.PEM) == data else None
    except UNREADABLE:
        return None


def read_foreign_certificate(data: bytes) -> x509.Certificate | None:
    """Return the first certificate of a PEM file that another program wrote, or None if a part of it cannot be parsed."""
    try:
        certificate = x509.load_pem_x509_certificate(data)
        return certificate if _is_readable(certificate) else None
    except UNREADABLE:
        return None


def read_certificates(data: bytes) -> list[x509.Certificate] | None:
    """Return the certificates of a PEM file, or None if the file contains anything else."""
    try:
        certificates = x509.load_pem_x509_certificates(data)
        is_all = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates) == data
        return certificates if is_all and all(map(_is_readable, certificates)) else None
    except UNREADABLE:
        return None


def _is_readable(certificate: x509.Certificate) -> bool:
    """Parse every field, because `cryptography` parses lazily. Raises one of UNREADABLE."""
    _ = (
        certificate.version,
        certificate.serial_number,
        certificate.subject,
        certificate.issuer,
        certificate.public_key(),
        certificate.extensions,
    )
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_hash_algorithm
    return has_whole_signature(certificate)


def read_first_certificate(data: bytes) -> x509.Certificate | None:
    """Return the first certificate of a PEM file with any sections, or None if it has none or the first is damaged."""
    _, begin, rest = data.partition(BEGIN)
    first, _, _ = rest.partition(BEGIN)
    return read_certificate(begin + first) if begin else None


def read_key(data: bytes) -> PrivateKeyTypes | None:
    """Return the key of a PEM file, or None if the file is not exactly one unencrypted PKCS#8 key (RFC 5958)."""
    try:
        private_key = serialization.load_pem_private_key(data, None)
        return private_key if _private_bytes(private_key) == data else None
    except UNREADABLE:
        return None


def is_encrypted_key(data: bytes) -> bool:
    """Return whether a file is exactly one encrypted PKCS#8 key in PEM. Does not decrypt it."""
    lines = data.split(b"\n")
    if (lines[0], lines[-2:]) != (ENCRYPTED[0], [ENCRYPTED[1], b""]):
        return False
    try:
        body = b64encode(b64decode(b"".join(lines[1:-2]), validate=True))
    except ValueError:
        return False
    return lines[1:-2] == [body[start : start + 64] for start in range(0, len(body), 64)]


def _private_bytes(private_key: PrivateKeyTypes) -> bytes:
    """Encode a private key from its private number alone: the public key in the file may belong to another key."""
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        private_key = ec.derive_private_key(private_key.private_numbers().private_value, private_key.curve)
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_crl(data: bytes, encoding: Encoding) -> x509.CertificateRevocationList | None:
    """Return the CRL of a PEM or DER file, or None if the file is not exactly one CRL."""
    try:
        crl = x509.load_pem_x509_crl(data) if encoding is Encoding.PEM else x509.load_der_x509_crl(data)
        _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.extensions, crl.signature_hash_algorithm
        return crl if crl.public_bytes(encoding) == data and has_whole_signature(crl) else None
    except UNREADABLE:
        return None


def has_whole_signature(
    signed: x509.Certificate | x509.CertificateRevocationList | x509.CertificateSigningRequest,
) -> bool:
    """Return whether the signature is a BIT STRING without unused bits (DER, X.690 §8.6).

    `cryptography` ignores the number of unused bits; OpenSSL refuses a signature if it is not 0.
    """
    return signed.public_bytes(Encoding.DER).endswith(b"\0" + signed.signature)


def is_signed_by(
    crl: x509.CertificateRevocationList,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey,
) -> bool:
    """Return whether `public` signed the CRL. False if an extension cannot be parsed."""
    try:
        _ = crl.extensions
        return has_whole_signature(crl) and crl.is_signature_valid(public)
    except UNREADABLE:
        return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer` signed the certificate: the issuer name matches and the signature verifies."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return has_whole_signature(certificate)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def is_ca(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is that of a CA (RFC 5280 §4.2.1.9)."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
