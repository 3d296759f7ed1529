"""Detect weak and compromised public keys in certificate requests (CA/B BR 6.1.1.3).

The tests are those of the badkeys package. Its list of compromised keys is used if it was downloaded with
`badkeys --update-bl`.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.utils import CryptographyDeprecationWarning

from pki.common.errors import PkiError

LEAST_EXPONENT = 65537
MOST_EXPONENT = 1 << 256  # CA/B BR 6.1.6
TESTS = ("fermat", "roca", "rsainvalid", "rsapoly", "sharedprimes", "smalld", "smallfactors")
MEANINGS = {
    "fermat": "its two primes are so close that anybody can compute them (Fermat)",
    "roca": "it was made by a chip whose keys can be computed (ROCA, CVE-2017-15361)",
    "rsapoly": "its modulus has a pattern by which it can be factored",
    "sharedprimes": "one of its primes is in other keys too",
    "smalld": "its private exponent is so small that anybody can compute it (Wiener)",
    "smallfactors": "its modulus has a small factor",
}
LIST_FILES = ("badkeysdata.json", "blocklist.dat")
# Ed25519 points whose order divides 8, without the sign bit: a signature under such a key proves nothing (RFC 8032 §8.7)
SMALL_ORDER = {
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    *((2**255 - 19 + n).to_bytes(32, "little") for n in (-1, 0, 1)),
}


def find_weakness(key: CertificatePublicKeyTypes) -> str:
    """Return why a public key must not be certified, as a clause, or "" if no weakness is known.

    Raises PkiError if the downloaded list of compromised keys cannot be read.
    """
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        fault = _exponent_fault(numbers.e)
        if fault:
            return fault
        if import_module("gmpy2").is_prime(numbers.n):
            return "its modulus is a prime, so its private key can be computed"
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes_raw()
        if raw[:31] + bytes([raw[31] & 0x7F]) in SMALL_ORDER:
            return "it is a point of small order: anybody can sign for it"
    return _by_badkeys(key)


def _exponent_fault(exponent: int) -> str:
    if exponent < LEAST_EXPONENT:
        return (
            f"its exponent is {exponent}, expected at least {LEAST_EXPONENT}: that is stricter than the CA/B rule, "
            "which permits 3 and recommends 65537 (BR 6.1.6)"
        )
    if exponent % 2 == 0:
        return f"its exponent is even, expected {LEAST_EXPONENT}"
    if exponent >= MOST_EXPONENT:
        return f"its exponent is longer than 256 bits, expected {LEAST_EXPONENT}"
    return ""


def _by_badkeys(key: CertificatePublicKeyTypes) -> str:
    """Return the first weakness that badkeys finds, as a clause, or ""."""
    tests = [*TESTS, "blocklist"] if _has_list() else [*TESTS]
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        with warnings.catch_warnings():  # for a key of a newer kind, badkeys also asks whether it is Diffie-Hellman
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            results: dict[str, Any] = import_module("badkeys.checks").checkpubkey(pem.decode(), tests)["results"]
    except (SystemExit, OSError, ValueError, KeyError, TypeError):  # the list is incomplete or damaged
        raise PkiError(
            f"{_list_folder()}: the list of compromised keys cannot be read", "./run badkeys --update-bl"
        ) from None
    for test, result in results.items():
        if test == "blocklist":
            return f"it is on a list of keys that are not secret any more ({result.get('subtest', 'badkeys')})"
        return MEANINGS.get(test, f"it fails the test {test} of badkeys")
    return ""


def _list_folder() -> Path:
    """Return the folder in which badkeys stores its list."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "badkeys"


def _has_list() -> bool:
    return all(os.access(_list_folder() / name, os.R_OK) for name in LIST_FILES)
