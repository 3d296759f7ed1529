"""Receipts: what was deployed on a host, when, with which verification, and what was not done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.deploy.release import File
from pki.deploy.verification import Verification, as_json

FORMAT = 3
OLD_FORMAT = 2  # stored the verification of services as sentences, which are not read


FILE_KEYS = {"path", "sha256", "mode", "owner", "reload"}  # required for each file


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of one delivery to a host.

    `not_done` are sentences about what the transport cannot do (owners not set, commands not run). `verification` is
    the result for each service. `ends` is when the first certificate or CRL on the host expires, "" if there is none.
    `seconds` is the duration of the delivery. `roots` maps the SHA-256 of each root that its certificates lead to, to
    its subject. `held` maps files that the host does not permit before it is bootstrapped again (those with a new
    root) to their SHA-256.
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
    """Return the receipt at `path`, None if there is none or it was changed since it was written."""
    try:
        data = sealed_records.decode_sealed(filesystem.read_if_possible(path)) or {}
        version, verification = data.pop("format", None), data.get("verification")
        if version not in {FORMAT, OLD_FORMAT}:
            return None
        verifications = None
        if verification is not None and version == FORMAT:
            verifications = {name: Verification.from_json(one) for name, one in verification.items()}
        receipt = Receipt(
            **{
                **data,
                "files": tuple(data["files"]),
                "not_done": tuple(data["not_done"]),
                "verification": verifications,
            }
        )
        return receipt if _has_valid_types(receipt) else None
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _has_valid_types(receipt: Receipt) -> bool:
    """Return whether every field has its type: another version of this program may have written the receipt."""
    texts = (receipt.host, receipt.release, receipt.delivered_at, receipt.transport, receipt.ends, *receipt.not_done)
    maps = (*receipt.files, receipt.roots, receipt.held)
    moment(receipt.delivered_at)
    return (
        all(isinstance(one, str) for one in (*texts, *(text for one in maps for text in (*one, *one.values()))))
        and all(one.keys() >= FILE_KEYS for one in receipt.files)
        and isinstance(receipt.seconds, int | float)
    )


def save(path: Path, receipt: Receipt) -> None:
    """Write a receipt, sealed with a digest."""
    record = {field.name: getattr(receipt, field.name) for field in fields(receipt)}
    record["verification"] = None if receipt.verification is None else as_json(receipt.verification)
    filesystem.write(path, sealed_records.encode_sealed({"format": FORMAT, **record}))


def file_record(file: File) -> dict[str, str]:
    """Return what a receipt states about one file; its reload command is needed when the file is removed."""
    record = {"path": file.path, "sha256": file.sha256, "mode": file.mode, "owner": file.owner, "reload": file.reload}
    return {**record, "set": file.set} if file.set else record


def instant(now: datetime) -> str:
    """Return a time as text in UTC, to the second."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the time that `instant` wrote."""
    return datetime.fromisoformat(text)
