"""The moments at which doit runs, as pki.yaml says, or as they are supposed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pki.config.model import Inventory

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs at `times` of every day, local time; where none are said, a first run now and one each day at that time."""

    now: datetime
    times: tuple[time, ...] = ()

    @classmethod
    def of(cls, said: Inventory, now: datetime) -> Runs:
        return cls(now, tuple(sorted({time.fromisoformat(one) for one in said.schedule})))

    @property
    def first(self) -> datetime:
        return self.at(self.now)

    def at(self, moment: datetime) -> datetime:
        """The first run at a moment or after it."""
        moment = max(moment, self.now)
        if not self.times:
            return moment + (self.now - moment) % DAY
        local = moment.astimezone()
        days = (local.date(), local.date() + DAY)
        there = (datetime.combine(day, one).astimezone(UTC) for day in days for one in self.times)
        return min(run for run in there if run >= moment)
