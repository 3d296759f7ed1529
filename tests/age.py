"""Files sealed as `sealing.seal` seals them, the age format (age-encryption.org/v1), with a key that costs nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pki import sealing

REAL_SEAL = sealing.seal  # as it is for users: scrypt with 2^18 rounds or more, which takes a second
FACTOR = 1  # two rounds
CHUNK = 1 << 16


def seal(data: bytes, passphrase: str) -> bytes:
    """`data` as an age file that `sealing.unseal` and the age command open, at once."""
    key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    labelled = b"age-encryption.org/v1/scrypt" + salt
    wrapping = hashlib.scrypt(passphrase.encode(), salt=labelled, n=1 << FACTOR, r=8, p=1, dklen=32)
    wrapped = ChaCha20Poly1305(wrapping).encrypt(bytes(12), key, None)
    header = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (_text(salt), FACTOR, _text(wrapped))
    mac = hmac.digest(_derived(key, b"", b"header"), header, "sha256")
    stream = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)] or [b""]
    last = len(chunks) - 1
    sealed = (
        stream.encrypt(number.to_bytes(11, "big") + bytes([number == last]), chunk, None)
        for number, chunk in enumerate(chunks)
    )
    return b"%s %s\n%s%s" % (header, _text(mac), nonce, b"".join(sealed))


def _text(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=purpose).derive(key)
