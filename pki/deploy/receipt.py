"""A receipt: what a host took, by digest, when, and what was not done there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from pki import store
from pki.deploy.release import File

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """`not_done` are sentences about what the transport cannot do: owners that were not set, commands not run."""

    host: str
    release: str
    delivered_at: str
    transport: str
    files: tuple[Mapping[str, str], ...]
    not_done: tuple[str, ...]


def load(path: Path) -> Receipt | None:
    """The receipt at `path`, None when there is none or it cannot be read."""
    try:
        data = json.loads(store.read(path) or b"{}")
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            return None
        return Receipt(**{**data, "files": tuple(data["files"]), "not_done": tuple(data["not_done"])})
    except (ValueError, TypeError, KeyError):
        return None


def save(path: Path, receipt: Receipt) -> None:
    store.write(
        path,
        json.dumps(
            {"format": FORMAT, **{field.name: getattr(receipt, field.name) for field in fields(receipt)}}
        ).encode()
        + b"\n",
    )


def taken(file: File) -> dict[str, str]:
    """What a receipt says of one file."""
    return {"path": file.path, "sha256": file.sha256, "mode": file.mode, "owner": file.owner}


def instant(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
