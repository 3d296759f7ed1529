"""A vault as a command opens it: on which drive it is, by which number it is recognised, what else must not be there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from invoke.context import Context

from pki.ceremony import drives, vault_identity
from pki.ceremony.transcript import Transcript
from pki.ceremony.vault import Vault
from pki.ceremony.vault_identity import Identity
from pki.cli.decorator import home_of, now_of, path_of
from pki.common.errors import PkiError
from pki.common.terminal import Screen


@dataclass(frozen=True, slots=True)
class OnDrive:
    """A vault on its drive; `fault` says why that is none, `reason` why it is used all the same."""

    vault: Vault
    identity: Identity
    mount: str
    fault: str
    reason: str

    @property
    def number(self) -> str:
        return self.identity.vault

    def begin(self) -> None:
        """Let the drive be this vault from now on."""
        vault_identity.keep(self.vault, self.identity)

    @property
    def facts(self) -> dict[str, str]:
        """What the transcript says of the drive."""
        return {"vault": self.number, "drive": f"{self.mount}, on {self.vault.folder}"}

    def begin_with(self, transcript: Transcript) -> None:
        """Let the drive be this vault, and admit it, in a transcript that is written at once."""
        self.begin()
        self.admit(transcript)

    def admit(self, transcript: Transcript) -> None:
        """Put into the transcript that this is not a drive, and why it is used all the same."""
        if self.fault:
            text = f"the vault is not on a drive of its own: {self.fault}"
            transcript.record("deviation", text=text, reason=self.reason, on_drive=False)


def on_drive(
    context: Context, folder: str, reason: str, apart: Mapping[str, Path] | None = None, *, may_begin: bool = False
) -> OnDrive:
    """The vault that an operator names. Raises PkiError, before anything is written, where it is not a drive of its own.

    `apart` are folders, by their options, that must not be on it. With a `reason` (--folder-as-vault) any folder will
    do but one of the exchange drive. A drive that is empty becomes a vault when it `may_begin`, and by `begin` only.
    """
    vault, fault = place(context, folder, reason)
    _insist_apart(vault, apart or {}, is_drive=not fault)
    found = vault_identity.recognise(vault, now_of(context), may_begin=may_begin)
    mount = str(drives.mount_of(vault.folder))
    Screen().line(f"vault {found.vault} on {vault.folder}: {mount}")
    return OnDrive(vault, found, mount, fault, reason)


def place(context: Context, folder: str, reason: str) -> tuple[Vault, str]:
    """A folder that may be a vault, whatever is on it, and why it is no drive."""
    vault = Vault(path_of(context, folder))
    if vault.folder.resolve().is_relative_to(home_of(context).resolve()):
        raise PkiError(
            f"{vault.folder}: lies in the project itself, where a root's key must never be", "mount a medium"
        )
    if not vault.folder.is_dir():
        raise PkiError(f"{vault.folder}: is not a folder", f"mkdir -p {vault.folder}, then mount the drive there")
    fault = drives.vault_fault(vault.folder)
    if fault and (not reason or drives.exchange_names(vault.folder)):
        raise _with_removal(vault.folder, fault)
    return vault, fault.message if fault else ""


def _with_removal(folder: Path, fault: PkiError) -> PkiError:
    """A fault with what takes a response away from a drive that is the vault's all the same: it is nowhere lost."""
    names = drives.exchange_names(folder)
    if not names or not (vault_identity.is_vault(folder) or all("response-" in name for name in names)):
        return fault
    removal = shlex.join(["rm", "-r", *(str(folder / name) for name in names)])
    again = "ceremony.sign writes the response to the exchange drive again"
    return PkiError(
        fault.message, f"{fault.hint}\n{again}; is it the second drive of the vault all the same? {removal}"
    )


def _insist_apart(vault: Vault, others: Mapping[str, Path], *, is_drive: bool) -> None:
    """Raise PkiError where a folder that an option names is on the drive of the vault.

    Where the vault is not a drive, neither folder may be in the other.
    """
    for option, folder in others.items():
        one, other = folder.resolve(), vault.folder.resolve()
        is_within = one.is_relative_to(other) or other.is_relative_to(one)
        if is_within or (is_drive and drives.together(drives.mount_of(folder), drives.mount_of(vault.folder))):
            text = f"{option} {folder}: is on the drive of the vault, which holds the root key and nothing else"
            raise PkiError(text, HINTS[option])
        if option == "--cards" and drives.exchange_fault(folder):
            text = f"{option} {folder}: would be on the exchange drive, which goes to the online machine"
            raise PkiError(text, HINTS[option])


def insist_on_output(folder: Path, reason: str) -> None:
    """Raise PkiError where a response would be on a drive of a vault, or stay in the memory of this machine."""
    mount = drives.mount_of(folder)
    places = {one.point for one in drives.mounts() if drives.together(one, mount)}
    places |= {one for one in (folder, *folder.parents) if one.resolve().is_relative_to(mount.point)}
    if any(vault_identity.is_vault(place) for place in places):
        text = f"--output {folder}: is on the drive of a vault, which holds the root key and nothing else"
        raise PkiError(text, HINTS["--output"])
    if folder.is_dir() and not reason and drives.is_in_ram(mount):
        raise PkiError(
            f"--output {folder}: is in the memory of this machine ({mount.kind}), not on a drive",
            drives.mounting(folder),
        )


HINTS = {
    "--output": "name the exchange drive: --output /mnt/exchange",
    "--cards": "name a folder in the memory of this machine: --cards /dev/shm/cards",
    "--to": "name another drive: --to /mnt/copy",
}
