"""The times at which doit runs: those of `schedule` in pki.yaml, or assumed ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pki.config.model import Inventory

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs at `times` of every day, local time; without times, one now and one each day at the same time."""

    now: datetime
    times: tuple[time, ...] = ()

    @classmethod
    def of(cls, config: Inventory, now: datetime) -> Runs:
        """Return the runs that pki.yaml schedules."""
        return cls(now, tuple(sorted({time.fromisoformat(text) for text in config.schedule})))

    @property
    def first(self) -> datetime:
        """Return the next run."""
        return self.at(self.now)

    def at(self, moment: datetime) -> datetime:
        """Return the first run at a moment or after it."""
        moment = max(moment, self.now)
        if not self.times:
            return moment + (self.now - moment) % DAY
        local = moment.astimezone()
        days = (local.date(), local.date() + DAY)
        moments = (datetime.combine(day, run_time).astimezone(UTC) for day in days for run_time in self.times)
        return min(run for run in moments if run >= moment)
