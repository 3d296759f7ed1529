"""Encrypt files with a passphrase in the age format (age-encryption.org/v1), which the `age` command decrypts too."""

from __future__ import annotations

import os
import re
import shlex
from base64 import b64decode, b64encode

import pyrage
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pki.common.errors import PkiError

VERSION = b"age-encryption.org/v1\n"
ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
MARKS = (VERSION, ARMOR)
# scrypt needs 2^WORK_FACTOR kB of memory to encrypt and to decrypt; the same as the default of the age command
WORK_FACTOR = 18
CHUNK = 1 << 16  # bytes of content that are encrypted at once
STANZA = re.compile(rb"\n-> scrypt [A-Za-z0-9+/]+ ([0-9]+)\n")
DECRYPT_ERRORS = {
    "Decryption failed": ("the passphrase is wrong", "try again"),
    "No matching keys": ("is encrypted for a key, not with a passphrase", "open it with the age command"),
    "Excessive work": ("requires too much work to open", "it was not written by this program"),
}


def encrypt(data: bytes, passphrase: str) -> bytes:
    """Return `data` as an age file. Deriving its key needs 256 MB of memory for about a second.

    The work factor is fixed, because pyrage chooses it by the speed of the machine: a machine with little memory could
    not open the file of a fast one.
    """
    file_key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    scrypt = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << WORK_FACTOR, r=8, p=1)
    wrapped_key = ChaCha20Poly1305(scrypt.derive(passphrase.encode())).encrypt(bytes(12), file_key, None)
    header = b"%s-> scrypt %s %d\n%s\n---" % (VERSION, _base64(salt), WORK_FACTOR, _base64(wrapped_key))
    mac = hmac.HMAC(_derive(file_key, b"", b"header"), hashes.SHA256())
    mac.update(header)
    cipher = ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))
    chunks = [data[offset : offset + CHUNK] for offset in range(0, len(data), CHUNK)] or [b""]
    encrypted_chunks = [
        cipher.encrypt(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, None)
        for number, chunk in enumerate(chunks)
    ]
    return b"".join((header, b" ", _base64(mac.finalize()), b"\n", nonce, *encrypted_chunks))


def _derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def _base64(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _needs_too_much_work(data: bytes) -> bool:
    """Return whether the header of an age file requires a higher work factor than ours. Derives no key."""
    if data.startswith(ARMOR):
        try:
            data = b64decode(b"".join(data[len(ARMOR) : 1 << 12].split(b"\n")[1:33]))  # whole lines
        except ValueError:  # not an age file: pyrage reports it
            return False
    match = STANZA.search(data[:4096])
    return match is not None and (len(match[1]) > 2 or int(match[1]) > WORK_FACTOR)


def decrypt(data: bytes, passphrase: str, name: str) -> bytes:
    """Return the content of an age file; `name` is its name in messages. Raises PkiError."""
    if not data.startswith(MARKS):
        raise PkiError(f"{name}: is not an age file", "name a file that ./run invoke backup wrote")
    if _needs_too_much_work(data):
        file = shlex.quote(name)
        raise PkiError(
            f"{name}: opening it needs more than {(1 << WORK_FACTOR) >> 10} MB of memory",
            f"encrypt it again on a machine with more memory: age -d {file} | age -p -o again.age",
        )
    try:
        content: bytes = pyrage.passphrase.decrypt(data, passphrase)
    except pyrage.DecryptError as error:
        explanations = (error_text for start, error_text in DECRYPT_ERRORS.items() if str(error).startswith(start))
        what, remedy = next(explanations, ("is truncated or was changed", "use another copy of it"))
        raise PkiError(f"{name}: {what}", remedy) from None
    return content
