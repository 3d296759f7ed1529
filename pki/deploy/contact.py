"""When a host was last looked at, and since when it does not answer: `build/contacts/<host>.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.common.errors import ErrorCode, PkiError
from pki.common.reasons import Reason, Why
from pki.common.visible import shorten
from pki.deploy.drift import reasons_from_json as drifted
from pki.deploy.protocol import HostRefusal, ServiceRefusal, Step
from pki.deploy.receipt import instant, moment

MESSAGE_LENGTH = 2000  # characters that are kept of a message
CHECK_INTERVAL = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Contact:
    """`looked_at` is the last good contact; `failing_since` the first bad one after it, with what the last one said.

    `code` is that of the error, `refusal` the reason of a host that refused what was delivered, `services` those that disproved it.
    `drift` is what a look found there that is not as it was deployed, and that nothing repaired since.
    `writable` are the folders on the way to its files that others than root can write: only its administrator closes them.
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
        """The record at `path`; a damaged one counts as missing."""
        try:
            data = sealed_records.unsealed(filesystem.read_if_possible(path)) or {}
            services = tuple(data.get("services", ()))
            found = {name: drifted(data.get(name)) for name in ("drift", "writable")}
            refusal = Reason.from_json(data["refusal"]) if data.get("refusal") else None
            return cls(**{**data, "services": services, "refusal": refusal, **found})
        except (TypeError, ValueError, KeyError):
            return cls()

    def save(self, path: Path) -> None:
        found = {"drift": self.drift, "writable": self.writable}
        told = {name: [one.as_json() for one in reasons] for name, reasons in found.items()}
        refusal = self.refusal.as_json() if self.refusal else None
        filesystem.write(path, sealed_records.sealed({**asdict(self), "refusal": refusal, **told}))

    def succeeded(self, now: datetime, writable: tuple[Reason, ...] = ()) -> Contact:
        return Contact(checked_at=instant(now), writable=writable)

    @property
    def is_unreached(self) -> bool:
        """Whether the host did not answer the last time."""
        return bool(self.failing_since) and self.code == ErrorCode.UNREACHABLE

    def failed_at(self, step: Step) -> str:
        """The name of the command that failed on the host at a step the last time; empty where none did."""
        data = dict(self.refusal.data) if self.refusal and self.failing_since else {}
        return str(data["command"]) if data.get("step") == step else ""

    def failed(self, now: datetime, error: PkiError) -> Contact:
        is_past = self.failing_since and moment(self.failing_since) <= now  # not so after a run with the clock ahead
        since = self.failing_since if is_past else instant(now)
        services = error.services if isinstance(error, ServiceRefusal) else ()
        message, refusal = shorten(error.message, MESSAGE_LENGTH), None
        if isinstance(error, HostRefusal):
            refusal = Why.REFUSED_BY_HOST(why=message, step=error.step.value, command=error.command)
        known = replace(self, failing_since=since, message=message, code=error.code.value, refusal=refusal)
        return replace(known, services=tuple(services))

    def is_old(self, now: datetime) -> bool:
        """Whether it is time to look again."""
        return not self.checked_at or not timedelta() <= now - moment(self.checked_at) < CHECK_INTERVAL

    def days_failing(self, now: datetime) -> int:
        return (now - moment(self.failing_since)).days if self.failing_since else 0
