"""The second drive of a vault: made equal to the first, flushed, read back from the drive and verified."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pki.ceremony import drives, transcript_chain, vault_identity
from pki.ceremony.audit import unsigned, verify
from pki.ceremony.transcript import BEFORE, Transcript
from pki.ceremony.transcript_chain import Record
from pki.ceremony.vault import Vault, overwrite, probe
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName

REASON = "its records are of commands that made nothing"
KEYS = ("key.pem", "key.uri")


def copy(vault: Vault, target: Vault, clock: Callable[[], datetime], despite: str = "") -> tuple[str, str]:
    """Make a second drive equal to a vault; returns the head of their transcript, and what was given up for it.

    The target is empty, or an earlier copy of the same vault. What was destroyed in the vault is destroyed there too.
    Records that the target alone has, of commands that made nothing, are given up `despite` them, on record.
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
    _insist_on_target(vault, target)
    given_up = _given_up(vault, target, despite)
    probe(target.folder)
    if given_up:
        Transcript(vault.transcript, clock).record("deviation", text=given_up, reason=despite)
    files = _files(vault.folder)
    _write(target.folder, files)
    there = _files(target.folder, from_drive=True)
    if there != files:
        names = sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))
        raise PkiError(f"{target.folder}: {names[0]} is not what was written to it", "take another drive")
    if faults := verify(target.folder).faults:
        raise PkiError(f"{target.folder}: was not copied well: {faults[0]}", "take another drive")
    return transcript_chain.load(files["transcript.jsonl"], str(target.transcript))[-1].hash, given_up


def _insist_on_target(vault: Vault, target: Vault) -> None:
    """The target is empty, or an earlier state of the same vault."""
    own, other = vault_identity.read(vault.folder), vault_identity.read(target.folder)
    if other is None and (there := drives.contents(target.folder)):
        raise PkiError(
            f"{target.folder}: is not empty, and not a copy of this vault: {', '.join(there[:4])}", drives.WHICH
        )
    if other is not None and (own is None or other.vault != own.vault):
        raise PkiError(f"{target.folder}: is vault {other.vault}, another one", drives.WHICH)


def _given_up(vault: Vault, target: Vault, despite: str) -> str:
    """What is lost with the records that the target alone has, empty where it has none.

    Raises PkiError that names the drive to believe where they are not to be lost, or not without a reason.
    """
    kept, carried = _records(vault), _records(target)
    common = sum(one.hash == other.hash for one, other in zip(kept, carried, strict=False))
    here, there = kept[common:], carried[common:]
    if not there:
        return ""
    forth, back = (_line(*pair) for pair in ((vault, target), (target, vault)))
    if not here:
        raise PkiError(
            f"{target.folder}: knows more than {vault.folder}: the two drives are taken for each other",
            f"the newer one is the vault: {back}",
        )
    has_made, has_made_there = (_has_made(own, kept[:common]) for own in (here, there))
    both = f"both drives have records of their own: {vault.folder} {_told(here)}; {target.folder} {_told(there)}"
    if has_made and has_made_there:
        hint = f"believe the drive whose response went to the online machine; seal the other, and mount a new drive there\n{vault.folder} is right: {forth}\n{target.folder} is right: {back}"
        raise PkiError(f"{both}; on both a key was used", hint)
    if has_made_there:
        raise PkiError(both, f'believe {target.folder}, where a key was used: {back} --despite "{REASON}"')
    if not despite:
        where = "where a key was used" if has_made else "on neither a key was used"
        raise PkiError(both, f'believe {vault.folder}, {where}: {forth} --despite "{REASON}"')
    return f"{_told(there)} of the second drive alone were given up, head {there[-1].hash[:16]}"


def _records(vault: Vault) -> list[Record]:
    data = filesystem.read(vault.transcript) or b""
    whole = data[: data.rfind(b"\n") + 1]
    return transcript_chain.load(whole, str(vault.transcript)) if whole else []


def _has_made(own: list[Record], before: list[Record]) -> bool:
    """Whether records tell of a key that was touched, or of a response that was not handed out `before`."""
    known = {one.facts.get("sha256") for one in before if one.step == "exported"}
    return any(
        one.step not in BEFORE and not (one.step == "exported" and one.facts.get("sha256") in known) for one in own
    )


def _told(records: list[Record]) -> str:
    steps = ", ".join(dict.fromkeys(one.step for one in records))
    return f"{len(records)} record{'s' if len(records) > 1 else ''} ({steps})"


def _line(vault: Vault, target: Vault) -> str:
    folders = (shlex.quote(str(one.folder)) for one in (vault, target))
    return "sh run invoke ceremony.copy --vault {} --to {}".format(*folders)


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
    return not is_hidden and (name in {vault_identity.FILE, "transcript.jsonl"} or bool(rest and _is_folder(top)))


def _is_folder(name: str) -> bool:
    return name == "ceremonies" or GenerationName.parse(name).is_root


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write what differs, the transcript last; destroy what the vault does not have any more."""
    there = _files(folder)
    try:
        for name in sorted(there.keys() - files.keys()):
            overwrite(folder / name)
        for name in sorted(there.keys() & files.keys()):
            if name.endswith(KEYS) and there[name] != files[name]:
                overwrite(folder / name)
        for name in sorted(files, key=lambda name: (name == "transcript.jsonl", name != vault_identity.FILE, name)):
            mode = filesystem.SECRET if name.endswith(KEYS) else filesystem.PUBLIC
            filesystem.write(folder / name, files[name], mode)
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
