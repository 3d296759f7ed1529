"""When a host was last looked at, and since when it does not answer: `build/contacts/<host>.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pki import canonical, store
from pki.deploy.receipt import instant, moment

LOOK = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Contact:
    """`looked_at` is the last good contact; `failing_since` the first bad one after it, with what the last one said."""

    looked_at: str = ""
    failing_since: str = ""
    message: str = ""

    @classmethod
    def load(cls, path: Path) -> Contact:
        """The record at `path`; a damaged one counts as missing."""
        try:
            return cls(**canonical.unsealed(store.read_if_possible(path)) or {})
        except TypeError:
            return cls()

    def save(self, path: Path) -> None:
        store.write(path, canonical.sealed(asdict(self)))

    def well(self, now: datetime) -> Contact:
        return Contact(looked_at=instant(now))

    def failed(self, now: datetime, message: str) -> Contact:
        is_past = self.failing_since and moment(self.failing_since) <= now  # not so after a run with the clock ahead
        return Contact(self.looked_at, self.failing_since if is_past else instant(now), message)

    def is_old(self, now: datetime) -> bool:
        """Whether it is time to look again."""
        return not self.looked_at or not timedelta() <= now - moment(self.looked_at) < LOOK

    def days_failing(self, now: datetime) -> int:
        return (now - moment(self.failing_since)).days if self.failing_since else 0
