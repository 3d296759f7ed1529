"""Certificate requests that devices made: the public key, which is all that is taken of them.

Devices write DER, UTF-16, version numbers that no standard has (HP printers), and signatures with SHA-1 or MD5. The
signature only says that the device has the key: nothing is trusted because of it, so an old hash does no harm.
"""

from __future__ import annotations

from base64 import b64decode

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.common.errors import PkiError
from pki.common.pem import sections
from pki.x509.canonical import UNREADABLE
from pki.x509.keys import insist_on_usable

LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
OTHERS = {b"PRIVATE KEY-----": "a private key", b"BEGIN CERTIFICATE-----": "a certificate", b"PUBLIC KEY-----": "a key"}
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
SEQUENCE, INTEGER = 0x30, 0x02
MAKE_AGAIN = "make the request again on the device: openssl req -new -key KEY -out REQUEST"


def device_key(data: bytes, name: str) -> CertificatePublicKeyTypes:
    """The public key of a request, PEM or DER, whose own signature verifies; `name` is what messages call the file.

    Raises PkiError, also for a key of a kind or size that is not certified.
    """
    request, version, key = _read(data, name)
    try:
        _verify(request, version, key)
    except InvalidSignature:
        raise PkiError(f"{name}: the request's signature does not verify", MAKE_AGAIN) from None
    except UnsupportedAlgorithm:
        oid = request.signature_algorithm_oid.dotted_string
        raise PkiError(f"{name}: the request's signature cannot be checked: algorithm {oid}", MAKE_AGAIN) from None
    insist_on_usable(key, name)
    return key


def requested_key(data: bytes, name: str) -> CertificatePublicKeyTypes:
    """The public key of a request, whatever its signature. Raises PkiError where it cannot be read."""
    return _read(data, name)[2]


def _read(data: bytes, name: str) -> tuple[x509.CertificateSigningRequest, int, CertificatePublicKeyTypes]:
    """The request as if it had version 1, which is the only one (RFC 2986 §4.1); its version number; its key."""
    der = bytearray(_der(data, name))
    try:
        place = _version_place(der)
        version, der[place] = der[place], 0
        request = x509.load_der_x509_csr(bytes(der))
        return request, version, request.public_key()
    except (*UNREADABLE, IndexError):
        kind = "" if data.startswith(bytes([SEQUENCE])) else "PEM "
        raise PkiError(f"{name}: not a {kind}certificate request that can be read", MAKE_AGAIN) from None


def _der(data: bytes, name: str) -> bytes:
    """The DER of a file that holds it, or a PEM section of it, in any encoding that has a byte order mark or NULs."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            data = data.decode(encoding, errors="replace").encode()
    if b"-\0-\0-\0" in data[:4096]:
        data = data.replace(b"\0", b"")
    if data.startswith(bytes([SEQUENCE])):
        return data
    section = next(sections(data, *LABELS), None)
    if section is None:
        other = next((what for mark, what in OTHERS.items() if mark in data), "")
        raise PkiError(f"{name}: not a PEM certificate request{f', but {other}' if other else ''}", MAKE_AGAIN)
    try:
        return b64decode(b"".join(section.body.split()), validate=True)
    except ValueError:
        raise PkiError(f"{name}: not a PEM certificate request: its base64 is damaged", "copy the file again") from None


def _version_place(der: bytearray) -> int:
    """Where the number of the version is: the first value of the first of two nested sequences (RFC 2986 §4.2)."""
    place = 0
    for _ in range(2):
        if der[place] != SEQUENCE:
            raise ValueError("no sequence")
        place += 2 + (der[place + 1] & 0x7F if der[place + 1] & 0x80 else 0)
    if der[place : place + 2] != bytes([INTEGER, 1]) or der[place + 2] > 2:
        raise ValueError("no version")
    return place + 2


def _verify(request: x509.CertificateSigningRequest, version: int, key: CertificatePublicKeyTypes) -> None:
    """Raise InvalidSignature unless a request bears the signature of its key, over the version that it was signed with."""
    signed, signature = bytearray(request.tbs_certrequest_bytes), request.signature
    signed[2 + (signed[1] & 0x7F if signed[1] & 0x80 else 0) + 2] = version
    message = bytes(signed)
    if isinstance(key, ed25519.Ed25519PublicKey):
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
