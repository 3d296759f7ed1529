"""Open a vault for a command: check its drive and its identity, and that no other folder of the command is on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from invoke.context import Context

from pki.ceremony import drives, vault_identity
from pki.ceremony.transcript import Transcript
from pki.ceremony.vault import Vault
from pki.ceremony.vault_identity import VaultIdentity
from pki.cli.decorator import now_of, path_of
from pki.common.errors import PkiError
from pki.common.terminal import Screen


@dataclass(frozen=True, slots=True)
class MountedVault:
    """A vault on its mounted drive; `fault` is why it is not on a drive, `reason` why it is used anyway."""

    vault: Vault
    identity: VaultIdentity
    mount: str
    fault: str
    reason: str

    @property
    def number(self) -> str:
        """Return the number of the vault."""
        return self.identity.vault

    def begin(self) -> None:
        """Write the identity to the drive, which makes it this vault."""
        vault_identity.write_identity(self.vault, self.identity)

    @property
    def facts(self) -> dict[str, str]:
        """Return the facts about the drive for the transcript."""
        return {"vault": self.number, "drive": f"{self.mount}, on {self.vault.folder}"}

    def begin_with(self, transcript: Transcript) -> None:
        """Write the identity, and record a deviation in a transcript that is written at once."""
        self.begin()
        self.admit(transcript)

    def admit(self, transcript: Transcript) -> None:
        """Record the deviation that the vault is not on a drive, with the reason."""
        if self.fault:
            text = f"the vault is not on a drive of its own: {self.fault}"
            transcript.record("deviation", text=text, reason=self.reason, on_drive=False)


def open_vault(
    context: Context,
    folder: str,
    reason: str,
    other_folders: Mapping[str, Path] | None = None,
    *,
    may_begin: bool = False,
) -> MountedVault:
    """Return the vault that the operator names. Raises PkiError, before any write, when it is not a drive of its own.

    `other_folders` are folders, by their options, that must not be on that drive. With a `reason` (--folder-as-vault) any folder is
    permitted, except on the exchange drive. An empty drive is accepted when it `may_begin`; `begin` makes it a vault.
    """
    vault, fault = vault_folder(context, folder, reason)
    _check_not_on_vault(vault, other_folders or {}, is_drive=not fault)
    identity = vault_identity.recognise(vault, now_of(context), may_begin=may_begin)
    mount = str(drives.mount_of(vault.folder))
    Screen().line(f"vault {identity.vault} on {vault.folder}: {mount}")
    return MountedVault(vault, identity, mount, fault, reason)


def vault_folder(context: Context, folder: str, reason: str) -> tuple[Vault, str]:
    """Return a folder that may be a vault, and why it is not a drive ("" when it is). Raises PkiError."""
    vault = Vault(path_of(context, folder))
    home = context.config.pki_home  # none at an offline machine
    if home and vault.folder.resolve().is_relative_to(Path(home).resolve()):
        raise PkiError(f"{vault.folder}: is in the project folder, where a root's key must never be", "mount a drive")
    if not vault.folder.is_dir():
        raise PkiError(f"{vault.folder}: is not a folder", f"mkdir -p {vault.folder}, then mount the drive there")
    fault = drives.vault_fault(vault.folder)
    if fault and (not reason or drives.exchange_names(vault.folder)):
        raise _with_removal(vault.folder, fault)
    return vault, fault.message if fault else ""


def _with_removal(folder: Path, fault: PkiError) -> PkiError:
    """Return the fault, with a hint to delete response files from a vault: `ceremony.sign` can write them again."""
    names = drives.exchange_names(folder)
    if not names or not (vault_identity.is_vault(folder) or all("response-" in name for name in names)):
        return fault
    removal = shlex.join(["rm", "-r", *(str(folder / name) for name in names)])
    again = "ceremony.sign writes the response to the exchange drive again"
    return PkiError(
        fault.message, f"{fault.hint}\n{again}; is this nevertheless the second drive of the vault? {removal}"
    )


def _check_not_on_vault(vault: Vault, others: Mapping[str, Path], *, is_drive: bool) -> None:
    """Raise PkiError when a folder of another option is on the drive of the vault.

    When the vault is not a drive, neither folder may be in the other.
    """
    for option, folder in others.items():
        output_folder, vault_folder = folder.resolve(), vault.folder.resolve()
        is_within = output_folder.is_relative_to(vault_folder) or vault_folder.is_relative_to(output_folder)
        if is_within or (is_drive and drives.is_same_drive(drives.mount_of(folder), drives.mount_of(vault.folder))):
            text = f"{option} {folder}: is on the drive of the vault, which is only for the root key"
            raise PkiError(text, HINTS[option])
        if option == "--cards" and drives.exchange_fault(folder):
            text = f"{option} {folder}: would be on the exchange drive, which goes to the online machine"
            raise PkiError(text, HINTS[option])


def check_output_folder(folder: Path, reason: str) -> None:
    """Raise PkiError when a response would be on the drive of a vault, or in the memory of this machine."""
    mount = drives.mount_of(folder)
    places = {drive.point for drive in drives.mounts() if drives.is_same_drive(drive, mount)}
    places |= {parent for parent in (folder, *folder.parents) if parent.resolve().is_relative_to(mount.point)}
    if any(vault_identity.is_vault(place) for place in places):
        text = f"--output {folder}: is on the drive of a vault, which is only for the root key"
        raise PkiError(text, HINTS["--output"])
    if folder.is_dir() and not reason and drives.is_in_ram(mount):
        raise PkiError(
            f"--output {folder}: is in the memory of this machine ({mount.kind}), not on a drive",
            drives.mount_hint(folder),
        )


HINTS = {
    "--output": "name the exchange drive: --output /mnt/exchange",
    "--cards": "name a folder in the memory of this machine: --cards /dev/shm/cards",
    "--to": "name another drive: --to /mnt/copy",
}
