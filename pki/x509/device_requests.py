"""Read the public key of a certificate request (RFC 2986) that a device made. Nothing else of the request is used.

Devices write DER, UTF-16, version numbers that no standard defines (HP printers), and signatures with SHA-1 or MD5. The
signature only proves that the device has the private key, so an old hash is no risk.
"""

from __future__ import annotations

from base64 import b64decode
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.common.errors import PkiError
from pki.common.pem import sections
from pki.x509.canonical import UNREADABLE
from pki.x509.keys import require_certifiable_key

LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
OTHERS = {b"PRIVATE KEY-----": "a private key", b"BEGIN CERTIFICATE-----": "a certificate", b"PUBLIC KEY-----": "a key"}
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
SEQUENCE, INTEGER = 0x30, 0x02
MAKE_AGAIN = "make the request again on the device: openssl req -new -key KEY -out REQUEST"


class _DeviceRequest(NamedTuple):
    """A request with its version set to 0 (v1, the only one: RFC 2986 §4.1), the version that it had, and its key."""

    request: x509.CertificateSigningRequest
    version: int
    key: CertificatePublicKeyTypes


def read_device_key(data: bytes, name: str) -> CertificatePublicKeyTypes:
    """Return the public key of a PEM or DER request after verifying the request's signature.

    `name` is the name of the file in messages. Raises PkiError if the request cannot be read, its signature does not
    verify, or its key is of a kind or size that this program does not certify.
    """
    request, version, key = _read(data, name)
    try:
        _verify(request, version, key)
    except InvalidSignature:
        raise PkiError(f"{name}: the request's signature does not verify", MAKE_AGAIN) from None
    except UnsupportedAlgorithm:
        oid = request.signature_algorithm_oid.dotted_string
        raise PkiError(f"{name}: the request's signature cannot be checked: algorithm {oid}", MAKE_AGAIN) from None
    require_certifiable_key(key, name)
    return key


def read_unverified_key(data: bytes, name: str) -> CertificatePublicKeyTypes:
    """Return the public key of a request without verifying its signature. Raises PkiError if it cannot be read."""
    return _read(data, name).key


def _read(data: bytes, name: str) -> _DeviceRequest:
    der = bytearray(_der(data, name))
    try:
        offset = _version_offset(der)
        version, der[offset] = der[offset], 0
        request = x509.load_der_x509_csr(bytes(der))
        return _DeviceRequest(request, version, request.public_key())
    except (*UNREADABLE, IndexError):
        kind = "" if data.startswith(bytes([SEQUENCE])) else "PEM "
        raise PkiError(f"{name}: not a {kind}certificate request that can be read", MAKE_AGAIN) from None


def _der(data: bytes, name: str) -> bytes:
    """Return the DER of a request in DER, or in PEM as UTF-8 or UTF-16. Raises PkiError for anything else."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            data = data.decode(encoding, errors="replace").encode()
    if b"-\0-\0-\0" in data[:4096]:
        data = data.replace(b"\0", b"")
    if data.startswith(bytes([SEQUENCE])):
        return data
    section = next(sections(data, *LABELS), None)
    if section is None:
        other_kind = next((what for mark, what in OTHERS.items() if mark in data), "")
        raise PkiError(
            f"{name}: not a PEM certificate request{f', but {other_kind}' if other_kind else ''}", MAKE_AGAIN
        )
    try:
        return b64decode(b"".join(section.body.split()), validate=True)
    except ValueError:
        raise PkiError(f"{name}: not a PEM certificate request: its base64 is damaged", "copy the file again") from None


def _version_offset(der: bytearray) -> int:
    """Return the offset of the version number: the first value in the inner one of two sequences (RFC 2986 §4.2)."""
    offset = 0
    for _ in range(2):
        if der[offset] != SEQUENCE:
            raise ValueError("no sequence")
        offset += _header_size(der, offset)
    if der[offset : offset + 2] != bytes([INTEGER, 1]) or der[offset + 2] > 2:
        raise ValueError("no version")
    return offset + 2


def _header_size(der: bytearray, offset: int) -> int:
    """Return the size of the type and length of a DER value (X.690 §8.1.3)."""
    is_long_form = der[offset + 1] & 0x80
    return 2 + (der[offset + 1] & 0x7F if is_long_form else 0)


def _verify(request: x509.CertificateSigningRequest, version: int, key: CertificatePublicKeyTypes) -> None:
    """Raise InvalidSignature unless `key` signed the request with its own version number."""
    signed_bytes, signature = bytearray(request.tbs_certrequest_bytes), request.signature
    signed_bytes[_header_size(signed_bytes, 0) + 2] = version  # after type and length of the version
    message = bytes(signed_bytes)
    if isinstance(key, ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey):  # they hash the message themselves
        key.verify(signature, message)
        return
    digest, parameters = request.signature_hash_algorithm, request.signature_algorithm_parameters
    if isinstance(key, rsa.RSAPublicKey) and digest:
        scheme = parameters if isinstance(parameters, padding.PSS) else padding.PKCS1v15()
        key.verify(signature, message, scheme, digest)
    elif isinstance(key, ec.EllipticCurvePublicKey) and digest:
        key.verify(signature, message, ec.ECDSA(digest))
    elif not request.is_signature_valid:
        raise InvalidSignature
