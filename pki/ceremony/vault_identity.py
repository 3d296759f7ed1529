"""The identity of a vault: the number in `vault.yaml`, which is the same on both drives."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pki.ceremony import drives, transcript_chain
from pki.ceremony.request_response import Instant
from pki.ceremony.vault import Vault
from pki.common import filesystem, yaml_text
from pki.common.errors import PkiError
from pki.config.strict_model import StrictModel

FILE = "vault.yaml"
HEADER = (
    "# A vault of doit-pki: the root key is on this drive. Keep it sealed, and never in a machine with a network.\n"
)


class VaultIdentity(StrictModel):
    """The content of `vault.yaml`; the number `vault` is also written on the envelope."""

    format: Literal["doit-pki vault 1"]
    vault: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    made: Instant


def read_identity(folder: Path) -> VaultIdentity | None:
    """Return the identity of a drive, or None when it has none. Raises PkiError when the file is damaged."""
    path = folder / FILE
    data = filesystem.read(path)
    if data is None:
        return None
    try:
        identity = VaultIdentity.model_validate(yaml_text.load(data.decode(), FILE))
    except (UnicodeDecodeError, ValidationError, PkiError):
        raise _damaged(path) from None
    if _content(identity) != data:
        raise _damaged(path)
    return identity


def recognise(vault: Vault, at: datetime, *, may_begin: bool) -> VaultIdentity:
    """Return the identity of a vault. Returns a new identity for an empty drive if a vault `may_begin` there. Writes nothing.

    A vault of an earlier version, which has a transcript and no identity, gets a new identity too. Raises PkiError for
    any other drive.
    """
    path = vault.folder / FILE
    identity = read_identity(vault.folder)
    if identity is None:
        _check_may_become_vault(vault, may_begin=may_begin)
        return VaultIdentity(format="doit-pki vault 1", vault=secrets.token_hex(4), made=at)
    if (recorded_number := _recorded_number(vault)) and recorded_number != identity.vault:
        raise PkiError(
            f"{path}: has the vault number {identity.vault}, the transcript has {recorded_number}",
            "use the other drive",
        )
    return identity


def write_identity(vault: Vault, identity: VaultIdentity) -> None:
    """Write the identity of a vault to its drive, unless it has one."""
    if read_identity(vault.folder) is None:
        filesystem.write(vault.folder / FILE, _content(identity))


def is_vault(folder: Path) -> bool:
    """Return whether a drive is a vault, or has a root key."""
    return (folder / FILE).exists() or bool(list(folder.glob("root-*/key.*")))


def _check_may_become_vault(vault: Vault, *, may_begin: bool) -> None:
    """Raise PkiError for a drive without an identity that cannot become a vault."""
    folder, files = vault.folder, drives.contents(vault.folder)
    if not files and not may_begin:
        raise PkiError(
            f"{folder}: is empty: is this the vault? the root key is on another drive, or that drive is not mounted",
            f"{drives.WHICH_DRIVE}\nthen: umount {folder}; mount LABEL=vault {folder}\nand repeat the command",
        )
    if files and not vault.transcript.exists():
        shown = ", ".join(files[:4]) + (f" and {len(files) - 4} more" if len(files) > 4 else "")
        raise PkiError(
            f"{folder}: is not a vault, and not empty: {shown}",
            f"{drives.WHICH_DRIVE}\nthe vault of the first ceremony is an empty drive, later ones have {FILE}",
        )


def _recorded_number(vault: Vault) -> str:
    """Return the vault number in the transcript, or "" when there is none."""
    data = filesystem.read(vault.transcript) or b""
    complete = data[: data.rfind(b"\n") + 1]  # without a record whose write was interrupted
    records = transcript_chain.load(complete, str(vault.transcript)) if complete else []
    return next((str(record.facts["vault"]) for record in reversed(records) if "vault" in record.facts), "")


def _content(identity: VaultIdentity) -> bytes:
    return (HEADER + yaml_text.dump(identity.model_dump(mode="json"))).encode()


def _damaged(path: Path) -> PkiError:
    return PkiError(f"{path}: is damaged", "use the other drive: it has the same content")
