"""The record of the last contact to a host, and of failures since: `build/contacts/<host>.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.common.errors import ErrorCode, PkiError
from pki.common.reasons import Reason, Why
from pki.common.timestamps import instant, moment
from pki.common.visible import shorten
from pki.deploy.drift import reasons_from_json
from pki.deploy.protocol import HostRefusal, ServiceRefusal, Step

MESSAGE_LENGTH = 2000  # characters of a message that are recorded
CHECK_INTERVAL = timedelta(hours=12)  # shorter than a day: each daily run checks every host


@dataclass(frozen=True, slots=True)
class Contact:
    """The last contacts to a host.

    `checked_at` is the time of the last successful contact, and `failing_since` that of the first failed contact after
    it. `message` and `code` are those of the last error. `refusal` is why the host refused a change. `services` are the
    services that failed verification. `drift` is what a check found and nothing has repaired since. `writable` are
    folders above the deployed files that users other than root can write.
    """

    checked_at: str = ""
    failing_since: str = ""
    message: str = ""
    code: str = ErrorCode.OTHER
    refusal: Reason | None = None
    services: tuple[str, ...] = ()
    drift: tuple[Reason, ...] = ()
    writable: tuple[Reason, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Contact:
        """Return the record at `path`; a damaged one counts as missing."""
        try:
            data = sealed_records.decode_sealed(filesystem.read_if_possible(path)) or {}
            services = tuple(data.get("services", ()))
            reasons = {name: reasons_from_json(data.get(name)) for name in ("drift", "writable")}
            refusal = Reason.from_json(data["refusal"]) if data.get("refusal") else None
            return cls(**{**data, "services": services, "refusal": refusal, **reasons})
        except (TypeError, ValueError, KeyError):
            return cls()

    def save(self, path: Path) -> None:
        """Write the record, sealed with a digest."""
        reasons = {"drift": self.drift, "writable": self.writable}
        lists = {name: [reason.as_json() for reason in items] for name, items in reasons.items()}
        refusal = self.refusal.as_json() if self.refusal else None
        filesystem.write(path, sealed_records.encode_sealed({**asdict(self), "refusal": refusal, **lists}))

    def succeeded(self, now: datetime, writable: tuple[Reason, ...] = ()) -> Contact:
        """Return the record after a successful contact."""
        return Contact(checked_at=instant(now), writable=writable)

    @property
    def is_unreached(self) -> bool:
        """Return whether the last contact failed because the host did not answer."""
        return bool(self.failing_since) and self.code == ErrorCode.UNREACHABLE

    def failed_at(self, step: Step) -> str:
        """Return the name of the command that failed on the host at `step` with the last contact, "" if none did."""
        data = dict(self.refusal.data) if self.refusal and self.failing_since else {}
        return str(data["command"]) if data.get("step") == step else ""

    def failed(self, now: datetime, error: PkiError) -> Contact:
        """Return the record after a failed contact."""
        is_past = self.failing_since and moment(self.failing_since) <= now  # false after a run with the clock ahead
        message, refusal = shorten(error.message, MESSAGE_LENGTH), None
        if isinstance(error, HostRefusal):
            refusal = Why.REFUSED_BY_HOST(why=message, step=error.step.value, command=error.command)
        return replace(
            self,
            failing_since=self.failing_since if is_past else instant(now),
            message=message,
            code=error.code.value,
            refusal=refusal,
            services=tuple(error.services) if isinstance(error, ServiceRefusal) else (),
        )

    def is_old(self, now: datetime) -> bool:
        """Return whether the next check is due. A last contact in the future (the clock was ahead) does not count."""
        return not self.checked_at or not timedelta() <= now - moment(self.checked_at) < CHECK_INTERVAL

    def days_failing(self, now: datetime) -> int:
        """Return for how many whole days the host has been failing."""
        return (now - moment(self.failing_since)).days if self.failing_since else 0
