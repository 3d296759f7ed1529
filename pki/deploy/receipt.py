"""Receipts: what was deployed on a host, when, with which verification, and what was not done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from pki.common import filesystem, sealed_records
from pki.common.timestamps import moment
from pki.deploy.record_shape import is_file_record
from pki.deploy.release import File
from pki.deploy.verification import Verification

FORMAT = 3
OLD_FORMAT = 2  # of version 0.1.0: without a digest, and with sentences about the verification, which are not read
OLD_KEYS = ("format", "host", "release", "delivered_at", "transport", "files", "not_done", "proof", "ends", "seconds")

FILE_KEYS = {"path", "sha256", "mode", "owner", "reload"}  # required for each file


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of one delivery to a host.

    `not_done` are sentences about what the transport cannot do (owners not set, commands not run). `verification` is
    the result for each service. `first_expiry` is when the first certificate or CRL of the release expires, "" without any.
    `seconds` is the duration of the delivery. `roots` maps the SHA-256 of each root that its certificates lead to, to
    its subject. `held_back` maps files that the host does not permit before it is bootstrapped again (those with
    a new root) to their SHA-256.
    """

    host: str
    release: str
    delivered_at: str
    transport: str
    files: tuple[Mapping[str, str], ...]
    not_done: tuple[str, ...] = ()
    verification: Mapping[str, Verification] | None = None
    first_expiry: Annotated[str, Field(alias="ends")] = ""  # the name in the file of formats 2 and 3
    seconds: float = 0.0
    roots: Mapping[str, str] = field(default_factory=dict)
    held_back: Annotated[Mapping[str, str], Field(alias="held")] = field(default_factory=dict)


@cache
def _adapter() -> TypeAdapter[Receipt]:
    return TypeAdapter(Receipt)


def load(path: Path) -> Receipt | None:
    """Return the receipt at `path`, None if there is none or it was changed since it was written."""
    data = sealed_records.decode_record(filesystem.read_if_possible(path), OLD_KEYS) or {}
    version = data.pop("format", None)
    if version not in {FORMAT, OLD_FORMAT}:
        return None
    if version == OLD_FORMAT:
        data |= {"verification": None}
        data.pop("proof", None)
    try:
        receipt = _adapter().validate_python(data)
        moment(receipt.delivered_at)
    except ValueError:
        return None
    is_known = all(file.keys() >= FILE_KEYS and is_file_record(file["path"], file["mode"]) for file in receipt.files)
    return receipt if is_known else None


def save(path: Path, receipt: Receipt) -> None:
    """Write a receipt, sealed with a digest."""
    record = _adapter().dump_python(receipt, mode="json", by_alias=True)
    filesystem.write(path, sealed_records.encode_sealed({"format": FORMAT, **record}))


def file_record(file: File) -> dict[str, str]:
    """Return what a receipt states about one file; its reload command is needed when the file is removed."""
    record = {"path": file.path, "sha256": file.sha256, "mode": file.mode, "owner": file.owner, "reload": file.reload}
    return {**record, "set": file.set} if file.set else record
