"""How a root's key is kept: under a passphrase on paper, under shares with custodians, or in a token.

Which of these it is stands in the key file itself, above the PEM text (RFC 7468 lets explanatory text stand there), so
that key and custody are one file and change in one rename.
"""

from __future__ import annotations

from pki.ceremony import root_key_file, shares, word_correction, words
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.vault import Vault
from pki.common import filesystem
from pki.x509 import keys, pkcs11
from pki.x509.keys import PrivateKey


def key_file(key: PrivateKey, passphrase: str, rule: str = "") -> bytes:
    """The content of key.pem; `rule` such as `2of3` when the passphrase is split."""
    return root_key_file.content(
        keys.encrypted_pem(key, passphrase), rule, "" if rule else word_correction.check_of(passphrase)
    )


def rule_of(vault: Vault, root: str) -> tuple[int, int] | None:
    """How many shares of how many open a root's key; None when it is not split."""
    rule = root_key_file.line(filesystem.read(vault.folder / root / "key.pem") or b"", root_key_file.SHARES)
    return shares.parse_rule(rule) if rule else None


def is_generated(vault: Vault, root: str) -> bool:
    """Whether the words of the passphrase were generated, and can be counted and checked."""
    return bool(root_key_file.line(filesystem.read(vault.folder / root / "key.pem") or b"", root_key_file.CHECK))


def slip(vault: Vault, root: str, passphrase: str) -> str:
    """What is wrong with a typed passphrase, as far as its words tell; empty where the key must be tried.

    A word is named only where a generated passphrase is expected: one that a person chose is never shown.
    """
    check = root_key_file.line(filesystem.read(vault.folder / root / "key.pem") or b"", root_key_file.CHECK)
    given = words.split(passphrase)
    if not check:
        return ""
    if len(given) != words.PASSPHRASE_WORDS:
        count = "1 word was" if len(given) == 1 else f"{len(given)} words were"
        return f"{count} typed, the passphrase has {words.PASSPHRASE_WORDS}"
    return words.misspelt(given) or word_correction.in_passphrase(given, check)


def in_file(key: PrivateKey, passphrase: str, rule: str = "") -> NewKey:
    """A new key that is to lie encrypted on the drive."""
    kept = f"encrypted on the drive, {f'{rule} shares open it' if rule else 'under one passphrase'}"
    return NewKey(key, passphrase, "key.pem", key_file(key, passphrase, rule), kept)


def in_token(name: str, kind: str, address: pkcs11.TokenUri, pin: str, source: str) -> NewKey:
    """A new key, made in a token, that never leaves it."""
    uri = address.with_object(name)
    key = pkcs11.generate(uri, pin, kind, source)
    return NewKey(key, pin, "key.uri", f"{uri}\n".encode(), f"in the token {uri.token}, not to be extracted")
