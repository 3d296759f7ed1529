"""A machine without chance: keys, serial numbers, salts and signatures follow from a counter.

Everything is patched in the libraries, never in `pki`, so that moving our code changes nothing here.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import pwd
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from importlib.metadata import Distribution
from itertools import count
from typing import Any

import cryptography
import pytest
from cryptography import x509
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pki.common import state_format
from pki.ledger import actor
from pki.project import version_change

BUILDERS = (x509.CertificateBuilder, x509.CertificateSigningRequestBuilder, x509.CertificateRevocationListBuilder)


class Stream:
    """Bytes that follow from the part of the story, a label, and how often both were asked for any."""

    def __init__(self) -> None:
        self._part = ""
        self._counts: dict[str, Iterator[int]] = {}

    def begin(self, part: str) -> None:
        """Begin a part of the story. What the part before it drew last, and threw away, has no effect on this one."""
        self._part = part

    def __call__(self, label: str, length: int) -> bytes:
        label = f"{self._part} {label}"
        number = next(self._counts.setdefault(label, count()))
        blocks = (hashlib.sha256(f"{label} {number} {i}".encode()).digest() for i in range(length // 32 + 1))
        return b"".join(blocks)[:length]


@contextmanager
def fixed() -> Iterator[Stream]:
    """Let nothing depend on chance, on the account, on the name of the machine or on versions."""
    stream = Stream()
    derive = ec.derive_private_key

    def key(curve: ec.EllipticCurve, *_: Any) -> ec.EllipticCurvePrivateKey:
        return derive(int.from_bytes(stream("key", curve.key_size // 8 - 1)) + 1, curve)

    def named(_uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd(("operator", "x", 1000, 1000, "", "/", "/bin/sh"))

    def drawn(length: int) -> bytes:
        return stream("random", length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ec, "generate_private_key", key)
        patch.setattr(
            ed25519.Ed25519PrivateKey,
            "generate",
            lambda: ed25519.Ed25519PrivateKey.from_private_bytes(stream("key", 32)),
        )
        patch.setattr(x509, "random_serial_number", lambda: int.from_bytes(stream("serial", 20)) >> 1)
        for builder in BUILDERS:
            patch.setattr(builder, "sign", partialmethod(builder.sign, ecdsa_deterministic=True))
        patch.setattr(os, "urandom", drawn)
        patch.setattr(random, "_urandom", drawn)
        patch.setattr(pwd, "getpwuid", named)
        patch.setattr(getpass, "getuser", lambda: "operator")
        patch.setattr(socket, "gethostname", lambda: "machine")
        patch.setattr(platform, "node", lambda: "machine")
        patch.setattr(Distribution, "version", property(lambda _: "1.0"))
        patch.setattr(cryptography, "__version__", "1.0")
        for module in (actor, state_format, version_change):
            patch.setattr(module, "__version__", "1.0")
        patch.setattr(type(backend), "openssl_version_text", lambda _: "OpenSSL 1.0")
        for name in ("python_version", "system", "release"):
            patch.setattr(platform, name, lambda: "1.0")
        for name in ("SUDO_USER", "PKI_ACTOR"):
            patch.delenv(name, raising=False)
        yield stream
