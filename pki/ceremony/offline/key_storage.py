"""Storage of a root's key: under a passphrase on paper, under shares of custodians, or in a token.

The share rule is in the key file, above the PEM text (RFC 7468 §2 permits text there), so that key and rule change in
one rename.
"""

from __future__ import annotations

from pki.ceremony import root_key_file, shares, word_correction, words
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.vault import Vault
from pki.common import filesystem
from pki.x509 import keys, pkcs11
from pki.x509.keys import PrivateKey


def key_file(key: PrivateKey, passphrase: str, rule: str = "") -> bytes:
    """Return the content of key.pem; `rule` is the share rule, such as `2of3`, when the passphrase is split."""
    return root_key_file.key_file_content(
        keys.encrypted_pem(key, passphrase), rule, "" if rule else word_correction.check_words(passphrase)
    )


def share_rule(vault: Vault, root: str) -> tuple[int, int] | None:
    """Return how many shares open a root's key and how many shares there are; None if the passphrase is not split."""
    rule = root_key_file.header_value(filesystem.read(vault.folder / root / "key.pem") or b"", root_key_file.SHARES)
    return shares.parse_rule(rule) if rule else None


def is_generated(vault: Vault, root: str) -> bool:
    """Return whether the passphrase was generated, so that its words can be counted and checked."""
    return bool(
        root_key_file.header_value(filesystem.read(vault.folder / root / "key.pem") or b"", root_key_file.CHECK)
    )


def passphrase_fault(vault: Vault, root: str, passphrase: str) -> str:
    """Return what is wrong with the words of a typed passphrase, or "" when only opening the key can tell.

    A word is quoted only for a generated passphrase: a passphrase that the operator chose is never shown.
    """
    check = root_key_file.header_value(filesystem.read(vault.folder / root / "key.pem") or b"", root_key_file.CHECK)
    typed_words = words.split(passphrase)
    if not check:
        return ""
    if len(typed_words) != words.PASSPHRASE_WORDS:
        count = "1 word was" if len(typed_words) == 1 else f"{len(typed_words)} words were"
        return f"{count} typed, the passphrase has {words.PASSPHRASE_WORDS}"
    return words.misspelt(typed_words) or word_correction.passphrase_fault(typed_words, check)


def store_in_file(key: PrivateKey, passphrase: str, rule: str = "") -> NewKey:
    """Return a new key for storage in an encrypted file on the drive."""
    protection = f"{rule} shares open it" if rule else "under one passphrase"
    storage = f"encrypted on the drive, {protection}"
    return NewKey(key, passphrase, "key.pem", key_file(key, passphrase, rule), storage)


def generate_in_token(name: str, kind: str, address: pkcs11.TokenUri, pin: str, source: str) -> NewKey:
    """Create a key in a token, which never leaves it. Raises PkiError."""
    uri = address.with_object(name)
    key = pkcs11.generate(uri, pin, kind, source)
    return NewKey(key, pin, "key.uri", f"{uri}\n".encode(), f"in the token {uri.token}, not to be extracted")
