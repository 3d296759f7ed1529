"""The identity of a vault: a number in `vault.yaml`, the same on both drives, by which a drive is recognised."""

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
from pki.config.model import StrictModel

FILE = "vault.yaml"
HEADER = (
    "# A vault of doit-pki: the root key is on this drive. Keep it sealed, and never in a machine with a network.\n"
)


class Identity(StrictModel):
    """What a drive says of itself; `vault` is the number that stands on its envelope too."""

    format: Literal["doit-pki vault 1"]
    vault: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    made: Instant


def read(folder: Path) -> Identity | None:
    """The identity of a drive, None when it has none. Raises PkiError when it is not as it was written."""
    path = folder / FILE
    data = filesystem.read(path)
    if data is None:
        return None
    try:
        found = Identity.model_validate(yaml_text.load(data.decode(), FILE))
    except (UnicodeDecodeError, ValidationError, PkiError):
        raise _damaged(path) from None
    if _content(found) != data:
        raise _damaged(path)
    return found


def recognise(vault: Vault, at: datetime, *, may_begin: bool) -> Identity:
    """The identity of a vault, or what an empty drive is given by `keep` when it `may_begin`. Writes nothing.

    A vault of an earlier version, which has a transcript and no identity, is given one too. Raises PkiError for any
    other drive.
    """
    path = vault.folder / FILE
    found = read(vault.folder)
    if found is None:
        _refuse(vault, may_begin=may_begin)
        return Identity(format="doit-pki vault 1", vault=secrets.token_hex(4), made=at)
    if (said := _recorded(vault)) and said != found.vault:
        raise PkiError(f"{path}: says vault {found.vault}, the transcript says {said}", "take the other drive")
    return found


def keep(vault: Vault, identity: Identity) -> None:
    """Write the identity of a vault to its drive, unless it is there."""
    if read(vault.folder) is None:
        filesystem.write(vault.folder / FILE, _content(identity))


def is_vault(folder: Path) -> bool:
    """Whether a vault, or what was one, is on a drive."""
    return (folder / FILE).exists() or bool(list(folder.glob("root-*/key.*")))


def _refuse(vault: Vault, *, may_begin: bool) -> None:
    folder, there = vault.folder, drives.contents(vault.folder)
    if not there and not may_begin:
        raise PkiError(
            f"{folder}: is empty: is this the vault? the root key is on another drive, or that drive is not mounted",
            f"{drives.WHICH}\nthen: umount {folder}; mount LABEL=vault {folder}\nand the same line again",
        )
    if there and not vault.transcript.exists():
        shown = ", ".join(there[:4]) + (f" and {len(there) - 4} more" if len(there) > 4 else "")
        raise PkiError(
            f"{folder}: is not a vault, and not empty: {shown}",
            f"{drives.WHICH}\nthe vault of the first ceremony is an empty drive, later ones have {FILE}",
        )


def _recorded(vault: Vault) -> str:
    """The number of the vault in its transcript, empty where none is recorded."""
    data = filesystem.read(vault.transcript) or b""
    whole = data[: data.rfind(b"\n") + 1]
    records = transcript_chain.load(whole, str(vault.transcript)) if whole else []
    return next((str(one.facts["vault"]) for one in reversed(records) if "vault" in one.facts), "")


def _content(identity: Identity) -> bytes:
    return (HEADER + yaml_text.dump(identity.model_dump(mode="json"))).encode()


def _damaged(path: Path) -> PkiError:
    return PkiError(f"{path}: is not as it was written", "take the other drive: it has the same vault")
