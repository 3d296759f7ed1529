"""Who is notified, and of what they were notified last: `ca/.alerts.json`.

This is a file of its own and not a table of the ledger, because it is needed when the ledger is broken, or when pki.yaml
is so invalid that the place of the ledger is unknown. If the file is lost, one message is sent a second time.
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
from pki.common.timestamps import instant, moment
from pki.config.model import Alerts, Inventory
from pki.config.secret_sources import Secrets
from pki.monitor.alerts.decisions import PAUSE, ChannelHistory, NotifiedFinding
from pki.monitor.check_result import Finding, Level
from pki.project import layout

FORMAT = 1
SENT_UNSAVED = 0o400  # mode of the file after a message was sent that a full disk could not record


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where messages go, and where their secrets are; stored for the day on which pki.yaml cannot be read."""

    organisation: str
    alerts: Alerts
    secrets: Secrets
    is_sandbox: bool = False

    @classmethod
    def of(cls, config: Inventory) -> Addresses:
        """Return the addresses that pki.yaml declares."""
        return cls(config.organisation, config.alerts, config.secrets, config.sandbox)

    @property
    def any_configured(self) -> bool:
        """Return whether there is any channel."""
        return self.alerts.email is not None or bool(self.alerts.notify)

    def as_json(self) -> dict[str, Any]:
        """Return the addresses as the file stores them."""
        return {
            "organisation": self.organisation,
            "alerts": self.alerts.model_dump(mode="json", by_alias=True, exclude_none=True),
            "secrets": self.secrets.model_dump(mode="json", exclude_none=True),
            "sandbox": self.is_sandbox,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Addresses:
        """Read the addresses from the file. Raises ValueError, KeyError or TypeError."""
        alerts, secrets = Alerts.model_validate(data["alerts"]), Secrets.model_validate(data["secrets"])
        return cls(data["organisation"], alerts, secrets, data.get("sandbox") is True)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: what was sent through it, what is still owed since it failed, and why it fails."""

    history: ChannelHistory = field(default_factory=ChannelHistory)
    owed: tuple[Finding, ...] = ()
    failing_since: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NotificationHistory:
    """The whole file.

    `is_resting`: a message was sent within the last 20 hours and could not be recorded, so nothing is sent now.
    """

    addresses: Addresses | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)
    is_resting: bool = False

    def since(self, key: str) -> datetime | None:
        """Return when a finding was first sent to any channel; None if it was not sent, or was solved."""
        dates = (channel.history.notified.get(key) for channel in self.channels.values())
        return min((record.since for record in dates if record and record.level), default=None)

    @classmethod
    def load(cls, ca: Path, now: datetime) -> NotificationHistory:
        """Load the file; one that is missing or damaged counts as empty."""
        path = ca / layout.ALERTS
        try:
            data = sealed_records.decode_sealed(filesystem.read_if_possible(path)) or {}
            if data["format"] != FORMAT:
                return cls()
            addresses = Addresses.from_json(data["addresses"])
            channels = {name: _channel(entry) for name, entry in data["channels"].items()}
        except (ValueError, KeyError, TypeError):
            addresses, channels = None, {}
        return cls(addresses, channels, _is_resting(path, now))

    def save(self, ca: Path, now: datetime) -> None:
        """Save the file. On a full disk, record at least that a message was sent, in the mode and time of the file.

        Raises PkiError if the file cannot be written.
        """
        path = ca / layout.ALERTS
        data = {
            "format": FORMAT,
            "addresses": self.addresses.as_json() if self.addresses else None,
            "channels": {name: _as_json(channel) for name, channel in self.channels.items()},
        }
        try:
            filesystem.write(path, sealed_records.encode_sealed(data, indent=1), filesystem.SECRET)
        except PkiError:
            with suppress(OSError):
                with os.fdopen(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NONBLOCK, SENT_UNSAVED)) as file:
                    give_to_folder_owner(file.fileno(), ca)
                path.chmod(SENT_UNSAVED)
                os.utime(path, (now.timestamp(), now.timestamp()))
            raise


def _is_resting(path: Path, now: datetime) -> bool:
    """Return whether the mode and time of the file say that an unrecorded message was sent recently."""
    if filesystem.mode_of(path) != SENT_UNSAVED:
        return False
    sent = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    return -PAUSE < now - sent < PAUSE


def _channel(data: Mapping[str, Any]) -> Channel:
    notified = {
        key: NotifiedFinding(Level(level), moment(at), reminder, moment(since), subject, message)
        for key, (level, at, reminder, since, subject, message) in data["told"].items()
    }
    weekly_sent = moment(data["digest"]) if data["digest"] else None
    owed = tuple(
        Finding(subject, Level(level), message, remedy, topic=topic, is_over=True)
        for subject, level, message, remedy, topic in data["owed"]
    )
    return Channel(
        ChannelHistory(notified, weekly_sent), owed, data["failing_since"], data["message"], data.get("hint", "")
    )


def _as_json(channel: Channel) -> dict[str, Any]:
    notified = {
        key: [
            int(record.level),
            instant(record.at),
            record.reminder,
            instant(record.since),
            record.subject,
            record.message,
        ]
        for key, record in channel.history.notified.items()
    }
    return {
        "told": notified,
        "digest": instant(channel.history.weekly_sent) if channel.history.weekly_sent else "",
        "owed": [
            [record.subject, int(record.level), record.message, str(record.remedy), record.topic]
            for record in channel.owed
        ],
        "failing_since": channel.failing_since,
        "message": channel.message,
        "hint": channel.hint,
    }
