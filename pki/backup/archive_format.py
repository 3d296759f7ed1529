"""What is in a backup: a tar of files, and a manifest that names the digest of each."""

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
NEVER = {".git", "build", "offline"}  # whatever an archive says, these are not put in place


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a project."""

    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup as it was read: every file stands in the manifest, with its digest."""

    about: Mapping[str, Any]
    files: Mapping[str, Kept]


def pack(files: Mapping[str, Kept], about: Mapping[str, Any], at: datetime) -> bytes:
    """A tar with a manifest in front."""
    digests = {
        name: {"sha256": hashlib.sha256(kept.data).hexdigest(), "mode": f"{kept.mode:04o}"}
        for name, kept in files.items()
    }
    manifest = json.dumps({"format": FORMAT, **about, "files": digests}, indent=1).encode() + b"\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kept in {MANIFEST: Kept(manifest, filesystem.SECRET), **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(kept.data), kept.mode, int(at.timestamp())
            tar.addfile(member, io.BytesIO(kept.data))
    return buffer.getvalue()


def unpack(data: bytes, name: str) -> Archive:
    """Read a backup; `name` is what messages call it.

    Raises PkiError unless it holds plain files alone, all below one folder, each as its manifest says, and no others.
    """
    found: dict[str, Kept] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                _check_member(member, name)
                stream = tar.extractfile(member)
                assert stream is not None
                if member.name in found:
                    raise PkiError(f"{name}: holds {member.name!r} twice", "it was not made by this program")
                found[member.name] = Kept(stream.read(), member.mode & 0o777)
        manifest = json.loads(found.pop(MANIFEST).data)
        wanted = {path: entry["sha256"] for path, entry in manifest["files"].items()}
        known = manifest["format"] == FORMAT
    except (tarfile.TarError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise PkiError(f"{name}: is no backup of a project", "name a file that ./run invoke backup wrote") from None
    if not known:
        raise PkiError(f"{name}: is of another format than this program reads", "use the program that wrote it")
    wrong = [path for path, kept in found.items() if wanted.pop(path, "") != hashlib.sha256(kept.data).hexdigest()]
    if wrong or wanted:
        raise PkiError(f"{name}: {[*wrong, *wanted][0]} is not as its manifest says", "take another copy of it")
    return Archive(manifest, found)


def _check_member(member: tarfile.TarInfo, name: str) -> None:
    path = PurePosixPath(member.name)
    parts = member.name.split("/")
    plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse()
    below = not path.is_absolute() and not {"", ".", ".."} & set(parts) and not any(c in member.name for c in "\0\\")
    hidden = parts[0].startswith(".") and parts != [".gitignore"]
    if not plain or not below or hidden or parts[0] in NEVER or ".git" in parts:
        raise PkiError(f"{name}: holds {member.name!r}, which no project holds", "it was not made by this program")


def ledger_head(data: bytes, name: str) -> dict[str, Any]:
    """Number of events and hash of the newest, of a ledger that is whole; `name` is what messages call it."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "ledger.db").write_bytes(data)
        from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - SQLAlchemy takes long to import

        ledger = SqlLedger("sqlite", Path(scratch), is_copy=True)
        try:
            faults, newest = ledger.verify(), ledger.events(last=1)
        except PkiError as error:
            raise PkiError(f"{name}: cannot be read: {error.message}", "put it back from a backup") from None
        finally:
            ledger.close()
    if faults:
        raise PkiError(f"{name}: is not whole: {faults[0]}", "./run invoke ledger.verify")
    return {"events": newest[-1].seq, "head": newest[-1].hash} if newest else {"events": 0, "head": ""}
