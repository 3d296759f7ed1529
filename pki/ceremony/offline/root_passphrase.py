"""A new passphrase for a root's key, on the same medium or on a new one, on record in the vault's transcript."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime

from pki.ceremony import drives
from pki.ceremony.audit import verify
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.transcript import Transcript, versions
from pki.ceremony.vault import Vault, fingerprint, probe
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.x509 import keys
from pki.x509.keys import PrivateKey


def change_passphrase(
    vault: Vault,
    target: Vault,
    root: str,
    secret_of: Callable[[str], str],
    wrapped: Callable[[PrivateKey], NewKey],
    clock: Callable[[], datetime],
    admit: Callable[[Transcript], None] = lambda _: None,
) -> None:
    """Encrypt the key of `root` again, in `target`: the vault itself, or an empty medium that the whole of it goes to.

    `admit` records that a vault is not on a drive. Raises PkiError, with the vault as it was, when the key cannot be
    opened or the new medium is not fit.
    """
    check(vault, root)
    probe(target.folder)
    if target != vault and drives.contents(target.folder):
        raise PkiError(f"{target.folder}: is not empty", "take a fresh drive")
    passphrase = secret_of(root)
    key = vault.open_key(root, passphrase, "the operator")
    made = wrapped(key)
    if target == vault and made.passphrase == passphrase:
        raise PkiError("this is the passphrase that it has", "give another one, or let it be generated")
    transcript = Transcript(vault.transcript, clock)
    transcript.forbid(made.passphrase)
    transcript.record("opened", what=f"a new passphrase for {root}", versions=versions())
    admit(transcript)
    if target != vault:
        _copy(vault, target, root)
        transcript = Transcript(target.transcript, clock)
        transcript.forbid(made.passphrase)
    filesystem.write(target.folder / root / made.name, made.file, filesystem.SECRET)
    target.open_key(root, made.passphrase, "this ceremony")
    what = "a new passphrase" if target == vault else "a new passphrase and a new drive"
    transcript.record(
        "changed",
        name=root,
        what=what,
        kept=made.kept,
        sha256=fingerprint(vault.roots()[root]),
        key=keys.key_kind(key),
    )


def check(vault: Vault, root: str) -> None:
    """Raise PkiError when a root has no passphrase here that could be another one."""
    probe(vault.folder)
    if vault.token_of(root):
        raise PkiError(f"{root} lives in a token: its PIN is changed there", "pkcs11-tool --login --change-pin")
    if root not in vault.roots():
        raise PkiError(f"{root} is not in this vault", f"there are: {', '.join(vault.roots()) or 'none'}")


def _copy(vault: Vault, target: Vault, root: str) -> None:
    """Everything of a vault onto an empty medium but the key under its old passphrase, which flash would remember."""
    left_out = shutil.ignore_patterns("lost+found", ".*")

    def ignored(folder: str, names: list[str]) -> set[str]:
        old_key = {"key.pem"} if folder == str(vault.folder / root) else set[str]()
        return {*left_out(folder, names), *old_key}

    try:
        shutil.copytree(vault.folder, target.folder, dirs_exist_ok=True, ignore=ignored)
    except (OSError, shutil.Error) as error:
        raise PkiError(f"{target.folder}: cannot be written: {error}", "take another drive") from None
    if target.transcript.exists() and (faults := verify(target.folder).faults):
        raise PkiError(f"{target.folder}: was not copied well: {faults[0]}", "take another drive")
