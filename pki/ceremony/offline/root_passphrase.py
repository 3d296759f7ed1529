"""Change the passphrase of a root's key, on the same drive or on a new one, and record it in the transcript."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime

from pki.ceremony import drives
from pki.ceremony.audit import verify
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.transcript import Transcript, versions
from pki.ceremony.vault import Vault, check_writable
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.x509 import keys
from pki.x509.canonical import fingerprint
from pki.x509.keys import PrivateKey


def change_passphrase(
    vault: Vault,
    target: Vault,
    root: str,
    secret_of: Callable[[str], str],
    encrypt: Callable[[PrivateKey], NewKey],
    clock: Callable[[], datetime],
    admit: Callable[[Transcript], None] = lambda _: None,
) -> None:
    """Encrypt the key of `root` again in `target`: the vault itself, or an empty drive to which all of it is copied.

    `secret_of` returns the present passphrase, `encrypt` the key under a new one. `admit` records that the vault is not
    on a drive of its own. Raises PkiError, and leaves the vault unchanged, if the key cannot be opened or the new drive
    cannot be used.
    """
    check_has_passphrase(vault, root)
    check_writable(target.folder)
    if target != vault and drives.contents(target.folder):
        raise PkiError(f"{target.folder}: is not empty", "use an empty drive")
    passphrase = secret_of(root)
    key = vault.open_key(root, passphrase, "the operator")
    encrypted = encrypt(key)
    if target == vault and encrypted.passphrase == passphrase:
        raise PkiError("the new passphrase is the old one", "choose another one, or let it be generated")
    transcript = Transcript(vault.transcript, clock)
    transcript.forbid(encrypted.passphrase)
    transcript.record("opened", what=f"a new passphrase for {root}", versions=versions())
    admit(transcript)
    if target != vault:
        _copy(vault, target, root)
        transcript = Transcript(target.transcript, clock)
        transcript.forbid(encrypted.passphrase)
    filesystem.write(target.folder / root / encrypted.name, encrypted.file, filesystem.SECRET)
    target.open_key(root, encrypted.passphrase, "this ceremony")  # raises if the drive did not keep what was written
    what = "a new passphrase" if target == vault else "a new passphrase and a new drive"
    transcript.record(
        "changed",
        name=root,
        what=what,
        kept=encrypted.storage,
        sha256=fingerprint(vault.roots()[root]),
        key=keys.key_kind(key),
    )


def check_has_passphrase(vault: Vault, root: str) -> None:
    """Raise PkiError when the key of a root is not here, or is in a token and has no passphrase."""
    check_writable(vault.folder)
    if vault.token_of(root):
        raise PkiError(f"{root} is in a token: change its PIN there", "pkcs11-tool --login --change-pin")
    if root not in vault.roots():
        raise PkiError(f"{root} is not in this vault", f"its roots: {', '.join(vault.roots()) or 'none'}")


def _copy(vault: Vault, target: Vault, root: str) -> None:
    """Copy a vault to an empty drive, without the key under its old passphrase: flash memory may keep deleted data."""
    left_out = shutil.ignore_patterns("lost+found", ".*")

    def ignored(folder: str, names: list[str]) -> set[str]:
        old_key = {"key.pem"} if folder == str(vault.folder / root) else set[str]()
        return {*left_out(folder, names), *old_key}

    try:
        shutil.copytree(vault.folder, target.folder, dirs_exist_ok=True, ignore=ignored)
    except (OSError, shutil.Error) as error:
        raise PkiError(f"{target.folder}: cannot be written: {error}", "use another drive") from None
    if target.transcript.exists() and (faults := verify(target.folder).faults):
        raise PkiError(f"{target.folder}: was not copied well: {faults[0]}", "use another drive")
