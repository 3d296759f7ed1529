"""Who is told, and what was told last: `ca/.alerts.json`.

A small file and no table of the ledger: it must be there when the ledger is what is broken, and when pki.yaml is so
wrong that nobody knows where the ledger is. Losing it costs one message that was sent before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.errors import PkiError
from pki.common.filesystem import give_to_folder_owner
from pki.config.model import Alerts, Inventory, Secrets
from pki.deploy.receipt import instant, moment
from pki.monitor.alerts.decisions import AGAIN, Past, Told
from pki.monitor.check_result import Finding, Level
from pki.project import layout

FORMAT = 1
SENT_UNKEPT = 0o400  # the mode of the file while something was sent that no disk had room to keep


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where messages go, and where the secrets for that are: remembered for the day on which pki.yaml is wrong."""

    organisation: str
    alerts: Alerts
    secrets: Secrets
    is_sandbox: bool = False

    @classmethod
    def of(cls, said: Inventory) -> Addresses:
        return cls(said.organisation, said.alerts, said.secrets, said.sandbox)

    @property
    def are_there(self) -> bool:
        return self.alerts.email is not None or bool(self.alerts.notify)

    def as_json(self) -> dict[str, Any]:
        return {
            "organisation": self.organisation,
            "alerts": self.alerts.model_dump(mode="json", by_alias=True, exclude_none=True),
            "secrets": self.secrets.model_dump(mode="json", exclude_none=True),
            "sandbox": self.is_sandbox,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Addresses:
        alerts, secrets = Alerts.model_validate(data["alerts"]), Secrets.model_validate(data["secrets"])
        return cls(data["organisation"], alerts, secrets, data.get("sandbox") is True)


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to a person: what went that way, what is owed since it failed, and why."""

    past: Past = field(default_factory=Past)
    owed: tuple[Finding, ...] = ()
    failing_since: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """The whole file. `is_resting`: something was sent lately that could not be kept, so nothing is sent again now."""

    addresses: Addresses | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)
    is_resting: bool = False

    def since(self, key: str) -> datetime | None:
        """Since when something is so that somebody was told of."""
        found = (channel.past.told.get(key) for channel in self.channels.values())
        return min((one.since for one in found if one and one.level), default=None)

    @classmethod
    def load(cls, ca: Path, now: datetime) -> Record:
        path = ca / layout.ALERTS
        try:
            data = sealed_records.decode_sealed(filesystem.read_if_possible(path)) or {}
            if data["format"] != FORMAT:
                return cls()
            addresses = Addresses.from_json(data["addresses"])
            channels = {name: _channel(one) for name, one in data["channels"].items()}
        except (ValueError, KeyError, TypeError):
            addresses, channels = None, {}
        return cls(addresses, channels, _is_resting(path, now))

    def save(self, ca: Path, now: datetime) -> None:
        """Keep it. On a full disk at least that something was sent: by mode and time of the file, which take no room."""
        path = ca / layout.ALERTS
        data = {
            "format": FORMAT,
            "addresses": self.addresses.as_json() if self.addresses else None,
            "channels": {name: _as_json(one) for name, one in self.channels.items()},
        }
        try:
            filesystem.write(path, sealed_records.encode_sealed(data, indent=1), filesystem.SECRET)
        except PkiError:
            with suppress(OSError):
                with os.fdopen(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NONBLOCK, SENT_UNKEPT)) as file:
                    give_to_folder_owner(file.fileno(), ca)
                path.chmod(SENT_UNKEPT)
                os.utime(path, (now.timestamp(), now.timestamp()))
            raise


def _is_resting(path: Path, now: datetime) -> bool:
    if filesystem.mode_of(path) != SENT_UNKEPT:
        return False
    sent = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    return -AGAIN < now - sent < AGAIN


def _channel(data: Mapping[str, Any]) -> Channel:
    told = {
        key: Told(Level(level), moment(at), mark, moment(since), subject, message)
        for key, (level, at, mark, since, subject, message) in data["told"].items()
    }
    digest = moment(data["digest"]) if data["digest"] else None
    owed = tuple(
        Finding(subject, Level(level), message, remedy, topic=topic, passing=True)
        for subject, level, message, remedy, topic in data["owed"]
    )
    return Channel(Past(told, digest), owed, data["failing_since"], data["message"], data.get("hint", ""))


def _as_json(channel: Channel) -> dict[str, Any]:
    told = {
        key: [int(one.level), instant(one.at), one.mark, instant(one.since), one.subject, one.message]
        for key, one in channel.past.told.items()
    }
    return {
        "told": told,
        "digest": instant(channel.past.digest) if channel.past.digest else "",
        "owed": [[one.subject, int(one.level), one.message, str(one.remedy), one.topic] for one in channel.owed],
        "failing_since": channel.failing_since,
        "message": channel.message,
        "hint": channel.hint,
    }
