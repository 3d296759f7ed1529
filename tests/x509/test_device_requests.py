"""Requests of devices, as they write them: only the key is taken, so version, hash and encoding do not matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.errors import PkiError
from pki.x509.device_requests import read_device_key, read_unverified_key
from pki.x509.keys import public_der
from pki.x509.pem_encoding import encode_pem
from tests.support.projects import Home

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
ML_DSA = mldsa.MLDSA65PrivateKey.generate()
SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
MD5 = bytes.fromhex("300d06092a864886f70d0101040500")
SHA1 = bytes.fromhex("300d06092a864886f70d0101050500")
MD4 = bytes.fromhex("300d06092a864886f70d0101030500")
EC_SHA256, EC_SHA1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey


def der(key: Key = RSA, pss: bool = False) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "box.lab.internal")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if pss and isinstance(key, rsa.RSAPrivateKey):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return builder.sign(key, hashes.SHA256(), rsa_padding=scheme).public_bytes(Encoding.DER)
    return builder.sign(key, None if key in (ED, ML_DSA) else hashes.SHA256()).public_bytes(Encoding.DER)


def tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + body


def signed(key: Key, version: int = 0, algorithm: bytes = SHA256, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """A request with a version and an algorithm of its own, signed as such."""
    inner = bytearray(x509.load_der_x509_csr(der(key)).tbs_certrequest_bytes)
    inner[2 + (inner[1] & 0x7F if inner[1] & 0x80 else 0) + 2] = version
    message = bytes(inner)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, padding.PKCS1v15(), digest or hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(digest or hashes.SHA256()))
    else:
        signature = key.sign(message)
    return tlv(0x30, message + algorithm + tlv(0x03, b"\0" + signature))


def as_pem(data: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    return encode_pem(label, data)


ED_ALGORITHM = bytes.fromhex("300506032b6570")
ML_DSA_ALGORITHM = bytes.fromhex("300b0609608648016503040312")
GOOD: dict[str, tuple[Callable[[], bytes], Key]] = {
    "version 2": (lambda: as_pem(signed(RSA, 1)), RSA),
    "version 3, as HP printers": (lambda: as_pem(signed(RSA, 2)), RSA),
    "version 3, P-256": (lambda: as_pem(signed(EC, 2, EC_SHA256)), EC),
    "version 3, Ed25519": (lambda: as_pem(signed(ED, 2, ED_ALGORITHM)), ED),
    "version 3, ML-DSA-65": (lambda: as_pem(signed(ML_DSA, 2, ML_DSA_ALGORITHM)), ML_DSA),
    "DER of ML-DSA-65": (lambda: der(ML_DSA), ML_DSA),
    "SHA-1": (lambda: as_pem(signed(RSA, 0, SHA1, hashes.SHA1())), RSA),  # noqa: S303 - as devices sign
    "MD5": (lambda: as_pem(signed(RSA, 0, MD5, hashes.MD5())), RSA),  # noqa: S303 - as devices sign
    "SHA-1 and P-256": (lambda: as_pem(signed(EC, 0, EC_SHA1, hashes.SHA1())), EC),  # noqa: S303 - as devices sign
    "version 3 and SHA-1": (lambda: signed(RSA, 2, SHA1, hashes.SHA1()), RSA),  # noqa: S303 - as devices sign
    "RSA-PSS": (lambda: as_pem(der(RSA, pss=True)), RSA),
    "DER": (lambda: der(EC), EC),
    "DER of Ed25519": (lambda: der(ED), ED),
    "UTF-16 with a mark": (lambda: as_pem(der()).decode().encode("utf-16"), RSA),
    "UTF-16, big end first": (lambda: b"\xfe\xff" + as_pem(der()).decode().encode("utf-16-be"), RSA),
    "UTF-16 without a mark": (lambda: as_pem(der()).decode().encode("utf-16-le"), RSA),
    "UTF-8 with a mark": (lambda: b"\xef\xbb\xbf" + as_pem(der()), RSA),
    "CR LF": (lambda: as_pem(der()).replace(b"\n", b"\r\n"), RSA),
    "UTF-16 and CR LF": (lambda: as_pem(der()).replace(b"\n", b"\r\n").decode().encode("utf-16"), RSA),
    "NEW, as old Windows": (lambda: as_pem(der(), "NEW CERTIFICATE REQUEST"), RSA),
    "text before it": (lambda: b"Certificate Request:\n    Data:\n" + as_pem(der()), RSA),
}


@pytest.mark.parametrize("kind", GOOD)
def test_the_key_of_a_request_is_taken_however_the_device_writes_it(kind: str) -> None:
    make, key = GOOD[kind]
    assert public_der(read_device_key(make(), "box.csr")) == public_der(key.public_key())


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "another signature of ML-DSA-65": (
        lambda: flipped(der(ML_DSA), -1),
        "box.csr: the request's signature does not verify",
    ),
    "another signature": (lambda: flipped(signed(RSA, 2), -1), "box.csr: the request's signature does not verify"),
    "another version than signed": (
        lambda: signed(RSA, 0).replace(b"\x02\x01\x00", b"\x02\x01\x02", 1),
        "box.csr: the request's signature does not verify",
    ),
    "another key": (
        lambda: der(EC).replace(point(EC), point(ec.generate_private_key(ec.SECP256R1()))),
        "box.csr: the request's signature does not verify",
    ),
    "SHA-1 that is none": (lambda: signed(RSA, 0, SHA1), "box.csr: the request's signature does not verify"),
    "MD4": (lambda: signed(RSA, 0, MD4), "box.csr: the request's signature cannot be checked"),
    "version 4": (lambda: signed(RSA, 3), "box.csr: not a certificate request that can be read"),
    "DER that is cut off": (lambda: der()[:-20], "box.csr: not a certificate request that can be read"),
    "DER with more behind it": (lambda: der() + b"\0", "box.csr: not a certificate request that can be read"),
    "one byte": (lambda: b"0", "box.csr: not a certificate request that can be read"),
    "UTF-16 of nothing": (lambda: "garbage".encode("utf-16"), "box.csr: not a PEM certificate request"),
    "half a character": (lambda: b"\xff\xfe\x00", "box.csr: not a PEM certificate request"),
    "damaged base64": (lambda: as_pem(der()).replace(b"MII", b"M!I"), "its base64 is damaged"),
    "a certificate": (lambda: as_pem(b"", "CERTIFICATE"), "not a PEM certificate request, but a certificate"),
    "a key": (lambda: as_pem(b"", "RSA PRIVATE KEY"), "not a PEM certificate request, but a private key"),
    "RSA of 1024 bits": (
        lambda: signed(rsa.generate_private_key(65537, 1024), 2),  # noqa: S505 - weak on purpose
        "box.csr: an RSA key of 1024 bits",
    ),
    "P-521": (lambda: der(ec.generate_private_key(ec.SECP521R1())), "box.csr: a key of kind ec-p521"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_request_that_cannot_be_used_is_refused_with_the_reason(kind: str) -> None:
    make, said = BAD[kind]
    with pytest.raises(PkiError) as caught:
        read_device_key(make(), "box.csr")
    assert said in caught.value.message
    assert caught.value.hint


def test_a_device_with_an_old_request_gets_its_certificate_once(home: Home) -> None:
    (home.path / "box.csr").write_bytes(as_pem(signed(RSA, 2, SHA1, hashes.SHA1())))  # noqa: S303 - as devices sign
    home.edit("hosts:\n", "hosts:\n  box: {network: av, names: [box.lab.internal], request: box.csr, deliver: none}\n")
    assert home.doit().failed == {}
    cert = x509.load_pem_x509_certificate(home.read("build/certs/box/cert.pem"))
    assert public_der(cert.public_key()) == public_der(RSA.public_key())
    assert home.doit().made == {}
    (home.path / "box.csr").write_bytes(der(EC))
    assert home.doit().made == {"cert:box": "box.csr contained another key"}


def test_a_request_is_compared_whatever_its_signature(tmp_path: Path) -> None:
    assert public_der(read_unverified_key(flipped(der(), -1), str(tmp_path))) == public_der(RSA.public_key())
