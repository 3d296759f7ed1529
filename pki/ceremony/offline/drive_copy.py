"""Copy a vault to its second drive: write, flush, read back from the drive and verify."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pki.ceremony import drives, transcript_chain, vault_identity
from pki.ceremony.audit import unused_roots_error, verify
from pki.ceremony.transcript import STEPS_BEFORE_KEYS, Transcript
from pki.ceremony.transcript_chain import Record
from pki.ceremony.vault import Vault, check_writable, overwrite
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName

REASON = "its records are of commands that created nothing"  # for the option --despite in a hint
KEY_FILES = ("key.pem", "key.uri")


def copy_vault(vault: Vault, target: Vault, clock: Callable[[], datetime], despite: str = "") -> tuple[str, str]:
    """Make a second drive equal to a vault. Return the head of their transcript, and which records were given up.

    The target is empty, or an earlier copy of the same vault. Keys and CRLs that were destroyed in the vault are
    destroyed on the target too. The target may have records of its own, of commands that created nothing: they are given
    up if `despite` gives a reason, which is recorded. Raises PkiError, and leaves the target unchanged, if the vault has
    faults or the drives are swapped.
    """
    audit_result = verify(vault.folder)
    if audit_result.faults:
        raise PkiError(
            f"{vault.folder}: has a fault: {audit_result.faults[0]}",
            "nothing was copied; use the other drive as the vault",
        )
    if audit_result.unused_roots:
        raise unused_roots_error(vault.folder, audit_result.unused_roots)
    _check_target(vault, target)
    given_up = _records_to_give_up(vault, target, despite)
    check_writable(target.folder)
    if given_up:
        Transcript(vault.transcript, clock).record("deviation", text=given_up, reason=despite)
    files = _files(vault.folder)
    _write(target.folder, files)
    written_files = _files(target.folder, from_drive=True)
    if written_files != files:
        names = sorted(
            name for name in files.keys() | written_files.keys() if files.get(name) != written_files.get(name)
        )
        raise PkiError(f"{target.folder}: {names[0]} is not what was written to it", "use another drive")
    if faults := verify(target.folder).faults:
        raise PkiError(f"{target.folder}: was not copied well: {faults[0]}", "use another drive")
    return transcript_chain.load(files["transcript.jsonl"], str(target.transcript))[-1].hash, given_up


def _check_target(vault: Vault, target: Vault) -> None:
    """Raise PkiError unless the target is empty, or a copy of the same vault."""
    identity = vault_identity.read_identity(vault.folder)
    target_identity = vault_identity.read_identity(target.folder)
    if target_identity is None and (present := drives.contents(target.folder)):
        raise PkiError(
            f"{target.folder}: is not empty, and not a copy of this vault: {', '.join(present[:4])}", drives.WHICH_DRIVE
        )
    if target_identity is not None and (identity is None or target_identity.vault != identity.vault):
        raise PkiError(f"{target.folder}: is vault {target_identity.vault}, another one", drives.WHICH_DRIVE)


def _records_to_give_up(vault: Vault, target: Vault, despite: str) -> str:
    """Return a description of the records that only the target has, or "" if the vault has all records.

    Raises PkiError that names the right drive, if these records must not be lost or `despite` gives no reason.
    """
    vault_records, target_records = _records(vault), _records(target)
    common = sum(
        vault_record.hash == target_record.hash
        for vault_record, target_record in zip(vault_records, target_records, strict=False)
    )
    only_in_vault, only_in_target = vault_records[common:], target_records[common:]
    if not only_in_target:
        return ""
    copy_to_target, copy_to_vault = _copy_command(vault, target), _copy_command(target, vault)
    if not only_in_vault:
        raise PkiError(
            f"{target.folder}: is newer than {vault.folder}: the two drives are swapped",
            f"the newer one is the vault: {copy_to_vault}",
        )
    common_records = vault_records[:common]
    vault_used_key = _has_used_key(only_in_vault, common_records)
    target_used_key = _has_used_key(only_in_target, common_records)
    both = f"both drives have records of their own: {vault.folder} {_summary(only_in_vault)}; {target.folder} {_summary(only_in_target)}"
    if vault_used_key and target_used_key:
        hint = f"use the drive whose response went to the online machine; seal the other, and mount a new drive there\n{vault.folder} is right: {copy_to_target}\n{target.folder} is right: {copy_to_vault}"
        raise PkiError(f"{both}; on both a key was used", hint)
    if target_used_key:
        raise PkiError(both, f'use {target.folder}, where a key was used: {copy_to_vault} --despite "{REASON}"')
    if not despite:
        where = "where a key was used" if vault_used_key else "on neither a key was used"
        raise PkiError(both, f'use {vault.folder}, {where}: {copy_to_target} --despite "{REASON}"')
    return f"{_summary(only_in_target)} only on the second drive were given up, head {only_in_target[-1].hash[:16]}"


def _records(vault: Vault) -> list[Record]:
    data = filesystem.read(vault.transcript) or b""
    complete = data[: data.rfind(b"\n") + 1]  # without a record whose write was interrupted
    return transcript_chain.load(complete, str(vault.transcript)) if complete else []


def _has_used_key(own_records: list[Record], common_records: list[Record]) -> bool:
    """Return whether the records that only one drive has show the use of a key, or the export of a new response.

    A response that was exported in the common records already may be written again without a key.
    """
    exported_digests = {record.facts.get("sha256") for record in common_records if record.step == "exported"}
    return any(
        record.step not in STEPS_BEFORE_KEYS
        and not (record.step == "exported" and record.facts.get("sha256") in exported_digests)
        for record in own_records
    )


def _summary(records: list[Record]) -> str:
    steps = ", ".join(dict.fromkeys(record.step for record in records))
    return f"{len(records)} record{'s' if len(records) > 1 else ''} ({steps})"


def _copy_command(vault: Vault, target: Vault) -> str:
    folders = (shlex.quote(str(drive.folder)) for drive in (vault, target))
    return "sh run invoke ceremony.copy --vault {} --to {}".format(*folders)


def _files(folder: Path, *, from_drive: bool = False) -> dict[str, bytes]:
    """Return the content of a vault's files by path; with `from_drive`, without the kernel's cache."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and _is_vault_file(name):
            if from_drive:
                _drop_from_cache(path)
            contents[name] = path.read_bytes()
    return contents


def _is_vault_file(name: str) -> bool:
    top, _, rest = name.partition("/")
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return not is_hidden and (name in {vault_identity.FILE, "transcript.jsonl"} or bool(rest and _is_vault_folder(top)))


def _is_vault_folder(name: str) -> bool:
    return name == "ceremonies" or GenerationName.parse(name).is_root


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files, the transcript last; destroy the files of the folder that are not in `files`.

    An old key is overwritten before the new one is written, because a plain write leaves the old bytes on the drive. The
    transcript is last, so that an interrupted copy is noticed.
    """
    present_files = _files(folder)
    try:
        for name in sorted(present_files.keys() - files.keys()):
            overwrite(folder / name)
        for name in sorted(present_files.keys() & files.keys()):
            if name.endswith(KEY_FILES) and present_files[name] != files[name]:
                overwrite(folder / name)
        for name in sorted(files, key=lambda name: (name == "transcript.jsonl", name != vault_identity.FILE, name)):
            mode = filesystem.SECRET if name.endswith(KEY_FILES) else filesystem.PUBLIC
            filesystem.write(folder / name, files[name], mode)
        for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            if _is_vault_folder(place.relative_to(folder).parts[0]):
                with suppress(OSError):  # a folder with files
                    place.rmdir()
    except OSError as error:
        raise PkiError(f"{folder}: cannot be written: {error.strerror}", "use another drive, or free space") from None
    os.sync()


def _drop_from_cache(path: Path) -> None:
    """Drop a file from the kernel's cache, so that the next read is from the drive."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
