"""The format of a backup: a tar of files, and a manifest with the SHA-256 of each."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pki.common import filesystem
from pki.common.errors import PkiError

FORMAT = 1
MANIFEST = "manifest.json"
NEVER = {".git", "build", "offline"}  # never restored, whatever an archive contains


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of a project: its content and its mode."""

    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup as it was read. Its files agree with the digests in the manifest; `about` is the rest of the manifest."""

    about: Mapping[str, Any]
    files: Mapping[str, BackupFile]


def pack(files: Mapping[str, BackupFile], about: Mapping[str, Any], at: datetime) -> bytes:
    """Return a tar of files, after a manifest."""
    digests = {
        name: {"sha256": hashlib.sha256(file.data).hexdigest(), "mode": f"{file.mode:04o}"}
        for name, file in files.items()
    }
    manifest = json.dumps({"format": FORMAT, **about, "files": digests}, indent=1).encode() + b"\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, file in {MANIFEST: BackupFile(manifest, filesystem.SECRET), **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(file.data), file.mode, int(at.timestamp())
            tar.addfile(member, io.BytesIO(file.data))
    return buffer.getvalue()


def unpack(data: bytes, name: str) -> Archive:
    """Read a backup; messages call it `name`.

    Raises PkiError unless the backup contains exactly the files of its manifest, each of them a plain file that a project
    may contain, with the digest in the manifest.
    """
    files: dict[str, BackupFile] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                _check_member(member, name)
                stream = tar.extractfile(member)
                assert stream is not None  # _check_member permits only plain files
                if member.name in files:
                    raise PkiError(f"{name}: contains {member.name!r} twice", "it was not made by this program")
                files[member.name] = BackupFile(stream.read(), member.mode & 0o777)
        manifest = json.loads(files.pop(MANIFEST).data)
        digests = {path: entry["sha256"] for path, entry in manifest["files"].items()}
        is_supported = manifest["format"] == FORMAT
    except (tarfile.TarError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise PkiError(
            f"{name}: is not a backup of a project", "name a file that was written by ./run invoke backup"
        ) from None
    if not is_supported:
        raise PkiError(f"{name}: has a format that this program does not read", "use the program that wrote it")
    altered_paths = [
        path for path, file in files.items() if digests.pop(path, "") != hashlib.sha256(file.data).hexdigest()
    ]
    if altered_paths or digests:
        missing_paths = list(digests)  # of files that are in the manifest only
        raise PkiError(
            f"{name}: {[*altered_paths, *missing_paths][0]} differs from its manifest", "use another copy of the backup"
        )
    return Archive(manifest, files)


def is_restorable(path: str) -> bool:
    """Return whether a restore writes a file of this relative path.

    It writes no hidden file at the top, except .gitignore, and no file that doit creates.
    """
    parts = path.split("/")
    is_hidden = parts[0].startswith(".") and parts != [".gitignore"]
    is_below = not PurePosixPath(path).is_absolute() and not {"", ".", ".."} & set(parts)
    return is_below and not is_hidden and parts[0] not in NEVER and ".git" not in parts and not set("\0\\") & set(path)


def _check_member(member: tarfile.TarInfo, name: str) -> None:
    is_plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse()
    if not is_plain or not is_restorable(member.name):
        raise PkiError(
            f"{name}: contains {member.name!r}, which no project contains", "it was not made by this program"
        )


def ledger_head(data: bytes, name: str) -> dict[str, Any]:
    """Return the number of events and the hash of the newest event of a ledger; messages call the ledger `name`.

    Raises PkiError unless the ledger is intact.
    """
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "ledger.db").write_bytes(data)
        from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - SQLAlchemy takes long to import

        ledger = SqlLedger("sqlite", Path(scratch), is_copy=True)
        try:
            faults, newest = ledger.verify(), ledger.events(last=1)
        except PkiError as error:
            raise PkiError(f"{name}: cannot be read: {error.message}", "restore it from a backup") from None
        finally:
            ledger.close()
    if faults:
        raise PkiError(f"{name}: is not intact: {faults[0]}", "./run invoke ledger.verify")
    return {"events": newest[-1].seq, "head": newest[-1].hash} if newest else {"events": 0, "head": ""}
