"""How a root's key is kept: under a passphrase on paper, under shares with custodians, or in a token.

Which of these it is stands in the key file itself, above the PEM text (RFC 7468 lets explanatory text stand there), so
that key and custody are one file and change in one rename.
"""

from __future__ import annotations

from pki import issue, store
from pki.ceremony import shares
from pki.ceremony.vault import Vault
from pki.errors import PkiError
from pki.issue import PrivateKey

MARK = b"shares: "


def key_file(key: PrivateKey, passphrase: str, rule: str = "") -> bytes:
    """The content of key.pem; `rule` such as `2of3` when the passphrase is split."""
    head = MARK + rule.encode() + b"\n" if rule else b""
    return head + issue.encrypted_pem(key, passphrase)


def rule_of(vault: Vault, root: str) -> tuple[int, int] | None:
    """How many shares of how many open a root's key; None when it is not split."""
    data = store.read(vault.folder / root / "key.pem") or b""
    return shares.parse_rule(data.splitlines()[0][len(MARK) :].decode()) if data.startswith(MARK) else None


def is_in_token(vault: Vault, root: str) -> bool:
    return (vault.folder / root / "key.uri").exists()


def token_of(vault: Vault, root: str) -> str:
    """The PKCS#11 address of a root's key."""
    data = store.read(vault.folder / root / "key.uri")
    if data is None:
        raise PkiError(f"{root} does not live in a token")
    return data.decode().strip()
