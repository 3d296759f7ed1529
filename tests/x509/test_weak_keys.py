"""Weak keys in requests: whoever could compute or already knows a private key gets no certificate for it."""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64decode
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import gmpy2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pki.common.errors import PkiError
from pki.x509 import weak_keys
from pki.x509.keys import read_request_key
from pki.x509.pem_encoding import encode_pem
from pki.x509.weak_keys import find_weakness
from tests.support.projects import Home

HALF = 1 << 1023
SEED = gmpy2.random_state(20261123)
DEVICE = '  device: {network: av, names: [device.lab.internal], request: "device.csr", deliver: none}\n'


def prime(bits: int = 1024) -> int:
    return int(gmpy2.next_prime((3 << bits - 2) | int(gmpy2.mpz_urandomb(SEED, bits - 2))))


def close_primes() -> int:
    first = prime()
    return first * int(gmpy2.next_prime(first + (1 << 400)))


def roca() -> int:
    """As Infineon's chips made them: each prime is k * M + (65537^a mod M), with M a product of small primes."""
    product = math.prod(p for p in range(2, 702) if gmpy2.is_prime(p))

    def one(power: int) -> int:
        base, step = pow(65537, power, product), (3 << 1022) // product
        return next(p for k in range(step, step + 100_000) if gmpy2.is_prime(p := k * product + base))

    return one(12345) * one(67890)


def small_private_exponent() -> tuple[int, int]:
    p, q = prime(), prime()
    secret = int(gmpy2.next_prime(1 << 200))
    return p * q, pow(secret, -1, (p - 1) * (q - 1))


def public(modulus: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def sparse() -> int:
    """A modulus of primes whose bits are nearly all zero, from a random number generator that gave little."""
    first = gmpy2.next_prime((1 << 1023) + (5 << 640) + (9 << 128))
    return int(first * gmpy2.next_prime((1 << 1023) + (3 << 512) + (7 << 128)))


WEAK: dict[str, tuple[Any, str]] = {
    "exponent 3": (
        lambda: public(prime() * prime(), 3),
        "its exponent is 3, expected at least 65537: that is stricter",
    ),
    "exponent 17": (
        lambda: public(prime() * prime(), 17),
        "its exponent is 17, expected at least 65537: that is stricter",
    ),
    "exponent 65535": (lambda: public(prime() * prime(), 65535), "its exponent is 65535"),
    "long exponent": (lambda: public(prime() * prime(), (1 << 256) + 1), "its exponent is longer than 256 bits"),
    "small factor": (lambda: public(65521 * prime(2032)), "its modulus has a small factor"),
    "factor 3": (lambda: public(3 * prime(2046)), "its modulus has a small factor"),
    "prime modulus": (lambda: public(prime(2048)), "its modulus is a prime"),
    "square": (lambda: public(prime() ** 2), "its two primes are so close"),
    "close primes": (lambda: public(close_primes()), "its two primes are so close"),
    "ROCA": (lambda: public(roca()), "it was made by a chip whose keys can be computed (ROCA"),
    "small private exponent": (lambda: public(*small_private_exponent()), "its exponent is longer than 256 bits"),
    "sparse primes": (lambda: public(sparse()), "its modulus has a pattern"),
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_key_is_known_as_such(kind: str) -> None:
    make, sentence = WEAK[kind]
    assert find_weakness(make()).startswith(sentence)


def test_wieners_attack_is_known_where_the_exponent_is_not_too_long_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weak_keys, "MOST_EXPONENT", 1 << 4096)
    assert find_weakness(public(*small_private_exponent())).startswith("its private exponent is so small")


@pytest.mark.parametrize("value", sorted(weak_keys.SMALL_ORDER))
@pytest.mark.parametrize("sign", [0, 0x80])
def test_an_ed25519_key_for_which_anybody_can_sign_is_known_as_such(value: bytes, sign: int) -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes(value[:31] + bytes([value[31] | sign]))
    assert find_weakness(key) == "it is a point of small order: anybody can sign for it"


@pytest.mark.parametrize(
    "make",
    [
        *(lambda bits=bits: rsa.generate_private_key(65537, bits) for bits in (2048, 3072)),
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
        mldsa.MLDSA65PrivateKey.generate,
    ],
)
def test_nothing_is_said_against_an_ordinary_key(make: Any) -> None:
    assert find_weakness(make().public_key()) == ""


# -- the list of compromised keys -------------------------------------------------------------------------------------


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which badkeys keeps its list, empty; what it read of another one is forgotten before and after."""
    folder = tmp_path / "cache/badkeys"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    block, utils = import_module("badkeys.allkeys.block"), import_module("badkeys.utils")
    for name in ("_blmeta", "_bldata"):
        monkeypatch.setattr(block, name, False)
    utils._cachedir.cache_clear()  # noqa: SLF001
    yield folder
    utils._cachedir.cache_clear()  # noqa: SLF001


def listed_number(key: CertificatePublicKeyTypes) -> int:
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_numbers().n
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_numbers().x
    assert isinstance(key, ed25519.Ed25519PublicKey)
    return int.from_bytes(key.public_bytes_raw())


def put_list(folder: Path, *keys: CertificatePublicKeyTypes) -> None:
    """As `badkeys --update-bl` leaves it: sorted, 15 bytes of each digest and the number of the list."""
    numbers = [listed_number(key) for key in keys]
    digests = sorted(hashlib.sha256(n.to_bytes((n.bit_length() + 7) // 8)).digest()[:15] for n in numbers)
    (folder / "blocklist.dat").write_bytes(b"".join(digest + b"\1" for digest in digests))
    (folder / "badkeysdata.json").write_text(json.dumps({"blocklists": [{"id": 1, "name": "debianssl"}]}))


def test_a_key_on_the_list_is_refused_where_the_list_is_there(listing: Path) -> None:
    keys = [
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ]
    assert [find_weakness(key) for key in keys] == [""] * 3
    put_list(listing, *keys)
    assert [find_weakness(key) for key in keys] == [
        "it is on a list of keys that are not secret any more (debianssl)"
    ] * 3
    assert find_weakness(ec.generate_private_key(ec.SECP256R1()).public_key()) == ""


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"blocklists": [{}]}'])
def test_a_list_that_is_damaged_says_how_to_get_it_again(listing: Path, damage: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    put_list(listing, key)
    (listing / "badkeysdata.json").write_bytes(damage)
    with pytest.raises(PkiError, match="the list of compromised keys cannot be read") as caught:
        find_weakness(key)
    assert caught.value.hint == "./run badkeys --update-bl"


# -- in requests ------------------------------------------------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8 or 1)
    return bytes([tag]) + (length if len(body) < 128 else bytes([0x80 | len(length)]) + length) + body


def request(modulus: int, secret: int, exponent: int = 65537) -> bytes:
    """A request that is well signed, whatever its key is worth: RSA by hand, PKCS #1 v1.5 with SHA-256."""
    key = public(modulus, exponent).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = tlv(0x30, b"\2\1\0", tlv(0x30), key, tlv(0xA0))
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    size = (modulus.bit_length() + 7) // 8
    digest = prefix + hashlib.sha256(info).digest()
    padded = b"\0\1" + b"\xff" * (size - 3 - len(digest)) + b"\0" + digest
    signature = pow(int.from_bytes(padded), secret, modulus).to_bytes(size)
    algorithm = tlv(0x30, bytes.fromhex("06092a864886f70d01010b0500"))
    return encode_pem("CERTIFICATE REQUEST", tlv(0x30, info, algorithm, tlv(3, b"\0", signature)))


def weak_request(kind: str) -> bytes:
    if kind == "exponent 3":
        p, q = (next(p for p in iter(prime, 0) if p % 3 == 2) for _ in range(2))
        return request(p * q, pow(3, -1, (p - 1) * (q - 1)), 3)
    if kind == "prime modulus":
        p = prime(2048)
        return request(p, pow(65537, -1, p - 1))
    p = 65521
    q = prime(2032)
    return request(p * q, pow(65537, -1, (p - 1) * (q - 1)))


@pytest.mark.parametrize("kind", ["exponent 3", "prime modulus", "small factor"])
def test_a_request_with_a_weak_key_fails_its_own_leaf_and_keeps_the_certificate_of_the_good_one(
    home: Home, kind: str
) -> None:
    p, q = prime(), prime()
    (home.path / "device.csr").write_bytes(request(p * q, pow(65537, -1, (p - 1) * (q - 1))))
    home.edit("hosts:\n", f"hosts:\n{DEVICE}")
    assert home.doit().status == 0
    before = home.read("build/certs/device/fullchain.pem")
    (home.path / "device.csr").write_bytes(weak_request(kind))
    assert read_request_key(weak_request(kind), "") is not None  # nothing else is wrong with it
    report = home.doit()
    assert set(report.failed) == {"cert:device"}
    assert report.failed["cert:device"].startswith(f"device.csr: its key is weak: {WEAK[kind][1]}")
    assert "make a new key and request on the device" in report.failed["cert:device"]
    assert home.read("build/certs/device/fullchain.pem") == before


def test_the_key_of_a_client_is_looked_at_in_the_same_way(home: Home) -> None:
    (home.path / "phone.csr").write_bytes(weak_request("exponent 3"))
    home.edit("clients:\n", "clients:\n  phone: {email: phone@lab.internal, request: phone.csr}\n")
    report = home.doit()
    assert set(report.failed) == {"cert:client-phone"}
    assert "its exponent is 3" in report.failed["cert:client-phone"]


def test_a_request_that_is_known_loads_no_tests(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = prime(), prime()
    (home.path / "device.csr").write_bytes(request(p * q, pow(65537, -1, (p - 1) * (q - 1))))
    home.edit("hosts:\n", f"hosts:\n{DEVICE}")
    assert home.doit().status == 0
    monkeypatch.setattr(weak_keys, "import_module", lambda _: pytest.fail("is loaded for nothing"))
    assert home.doit().made == {}


def test_the_request_by_hand_is_one(tmp_path: Path) -> None:
    p, q = prime(), prime()
    found = request(p * q, pow(65537, -1, (p - 1) * (q - 1)))
    assert b64decode(b"".join(found.split(b"\n")[1:-2]))[0] == 0x30
    assert read_request_key(found, str(tmp_path)) is not None
