"""Files encrypted with a passphrase, in the age format (age-encryption.org/v1): the `age` command opens them too."""

from __future__ import annotations

import pyrage

from pki.errors import PkiError

MARKS = (b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----")
REASONS = {
    "Decryption failed": ("the passphrase is wrong", "try again"),
    "No matching keys": ("is encrypted for a key, not with a passphrase", "open it with the age command"),
    "Excessive work": ("asks for more work than is sensible", "it was not made by this program"),
}


def seal(data: bytes, passphrase: str) -> bytes:
    """`data` as an age file; the key is derived with scrypt, which takes about a second."""
    sealed: bytes = pyrage.passphrase.encrypt(data, passphrase)
    return sealed


def unseal(data: bytes, passphrase: str, name: str) -> bytes:
    """The content of an age file; `name` is what messages call it."""
    if not data.startswith(MARKS):
        raise PkiError(f"{name}: is not an age file", "name a file that ./run invoke backup wrote")
    try:
        opened: bytes = pyrage.passphrase.decrypt(data, passphrase)
    except pyrage.DecryptError as error:
        found = (said for start, said in REASONS.items() if str(error).startswith(start))
        what, remedy = next(found, ("is cut short or was altered", "take another copy of it"))
        raise PkiError(f"{name}: {what}", remedy) from None
    return opened
