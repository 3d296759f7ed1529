"""The second drive of a vault: made equal to the first, flushed, read back from the drive and verified."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pki import store
from pki.ceremony import chain, drives, identity
from pki.ceremony.vault import Vault, overwrite, probe
from pki.ceremony.verifying import unsigned, verify
from pki.errors import PkiError

KEYS = ("key.pem", "key.uri")


def copy(vault: Vault, target: Vault) -> str:
    """Make a second drive equal to a vault; returns the head of their transcript.

    The target is empty, or an earlier copy of the same vault. What was destroyed in the vault is destroyed there too.
    Raises PkiError with the target as it was when the vault is not sound, or the two are taken for each other.
    """
    verdict = verify(vault.folder)
    if verdict.faults:
        raise PkiError(
            f"{vault.folder}: is not sound: {verdict.faults[0]}",
            "nothing was copied; take the other drive as the vault",
        )
    if verdict.waiting:
        raise unsigned(vault.folder, verdict.waiting)
    files = _files(vault.folder)
    _insist_on_target(vault, target)
    probe(target.folder)
    _write(target.folder, files)
    there = _files(target.folder, from_drive=True)
    if there != files:
        names = sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))
        raise PkiError(f"{target.folder}: {names[0]} is not what was written to it", "take another drive")
    if faults := verify(target.folder).faults:
        raise PkiError(f"{target.folder}: was not copied well: {faults[0]}", "take another drive")
    return chain.load(files["transcript.jsonl"], str(target.transcript))[-1].hash


def _insist_on_target(vault: Vault, target: Vault) -> None:
    """The target is empty, or an earlier state of the same vault."""
    own, other = identity.read(vault.folder), identity.read(target.folder)
    if other is None and (there := drives.contents(target.folder)):
        raise PkiError(
            f"{target.folder}: is not empty, and not a copy of this vault: {', '.join(there[:4])}", drives.WHICH
        )
    if other is not None and (own is None or other.vault != own.vault):
        raise PkiError(f"{target.folder}: is vault {other.vault}, another one", drives.WHICH)
    kept, carried = (store.read(one.transcript) or b"" for one in (vault, target))
    if not kept.startswith(carried[: carried.rfind(b"\n") + 1]):
        raise PkiError(
            f"{target.folder}: knows more than {vault.folder}: the two drives are taken for each other",
            f"the newer one is the vault: --vault {target.folder} --to {vault.folder}",
        )


def _files(folder: Path, *, from_drive: bool = False) -> dict[str, bytes]:
    """Everything of a vault by its path; `from_drive` reads past what the kernel remembers."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and _is_ours(name):
            if from_drive:
                _forget(path)
            found[name] = path.read_bytes()
    return found


def _is_ours(name: str) -> bool:
    top, _, rest = name.partition("/")
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return not is_hidden and (name in {identity.FILE, "transcript.jsonl"} or bool(rest and _is_folder(top)))


def _is_folder(name: str) -> bool:
    return name == "ceremonies" or name.startswith("root-")


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write what differs, the transcript last; destroy what the vault does not have any more."""
    there = _files(folder)
    try:
        for name in sorted(there.keys() - files.keys()):
            overwrite(folder / name)
        for name in sorted(there.keys() & files.keys()):
            if name.endswith(KEYS) and there[name] != files[name]:
                overwrite(folder / name)
        for name in sorted(files, key=lambda name: (name == "transcript.jsonl", name != identity.FILE, name)):
            mode = store.SECRET if name.endswith(KEYS) else store.PUBLIC
            store.write(folder / name, files[name], mode)
        for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            if _is_folder(place.relative_to(folder).parts[0]):
                with suppress(OSError):  # the folders that are needed are not empty
                    place.rmdir()
    except OSError as error:
        raise PkiError(f"{folder}: cannot be written: {error.strerror}", "take another drive, or make room") from None
    os.sync()


def _forget(path: Path) -> None:
    """Have the kernel forget what it remembers of a file, so that the next read asks the drive."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
