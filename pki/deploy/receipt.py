"""A receipt: what a host took, by digest, when, with which proof, and what was not done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.deploy.release import File
from pki.deploy.verification import Verification, as_json

FORMAT = 3
OLD_FORMAT = 2  # said in words what was seen of services: of such a receipt nobody knows it


FILE_KEYS = {"path", "sha256", "mode", "owner", "reload"}  # what is known of each file, at least


@dataclass(frozen=True, slots=True)
class Receipt:
    """`not_done` are sentences about what the transport cannot do: owners that were not set, commands not run.

    `roots` are those that its certificates lead to: the SHA-256 of each, with its subject. `proof` says of every service what was seen of it from outside; `ends` is when the first certificate or CRL on the
    host runs out, empty when there is none; `seconds` is what the delivery took. `held` are files, with the SHA-256 of
    each, that the host does not permit before it is bootstrapped again: those with a new root.
    """

    host: str
    release: str
    delivered_at: str
    transport: str
    files: tuple[Mapping[str, str], ...]
    not_done: tuple[str, ...] = ()
    verification: Mapping[str, Verification] | None = None
    ends: str = ""
    seconds: float = 0.0
    roots: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)


def load(path: Path) -> Receipt | None:
    """The receipt at `path`, None when there is none, or when it is not byte for byte as it was written."""
    try:
        data = sealed_records.unsealed(filesystem.read_if_possible(path)) or {}
        version, verification = data.pop("format", None), data.get("verification")
        if version not in {FORMAT, OLD_FORMAT}:
            return None
        seen = None
        if verification is not None and version == FORMAT:
            seen = {name: Verification.from_json(one) for name, one in verification.items()}
        found = Receipt(
            **{**data, "files": tuple(data["files"]), "not_done": tuple(data["not_done"]), "verification": seen}
        )
        return found if _has_valid_types(found) else None
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _has_valid_types(found: Receipt) -> bool:
    """Return whether every part is of its type: another version of this program may have written a receipt, too."""
    texts = (found.host, found.release, found.delivered_at, found.transport, found.ends, *found.not_done)
    maps = (*found.files, found.roots, found.held)
    moment(found.delivered_at)
    return (
        all(isinstance(one, str) for one in (*texts, *(text for one in maps for text in (*one, *one.values()))))
        and all(one.keys() >= FILE_KEYS for one in found.files)
        and isinstance(found.seconds, int | float)
    )


def save(path: Path, receipt: Receipt) -> None:
    said = {field.name: getattr(receipt, field.name) for field in fields(receipt)}
    said["verification"] = None if receipt.verification is None else as_json(receipt.verification)
    filesystem.write(path, sealed_records.sealed({"format": FORMAT, **said}))


def file_record(file: File) -> dict[str, str]:
    """What a receipt says of one file; its reload command is needed again when the file goes."""
    said = {"path": file.path, "sha256": file.sha256, "mode": file.mode, "owner": file.owner, "reload": file.reload}
    return {**said, "set": file.set} if file.set else said


def instant(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The reverse of `instant`."""
    return datetime.fromisoformat(text)
