"""What runs did and found, as the status page may say it all day long: one that has nothing to do changes none of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from pki.config.identifiers import ArtifactId
from pki.monitor.check_result import Finding
from pki.monitor.checks.check_context import CheckContext, LastRun

NAMED = 12  # of the things that a run made for one reason
KINDS = 40  # reasons that are told apart
ROOM = "there is room for the next runs"  # how much, is another number in each of them


@dataclass(frozen=True, slots=True)
class Made:
    """What one run made for one reason: how many, and the names of some."""

    why: str
    count: int
    names: tuple[str, ...]


MadeOn = tuple[date | None, tuple[Made, ...]]


@dataclass(frozen=True, slots=True)
class RunsSection:
    """What the last run did, as it may be said all day long. `made` is of `made_on`: of the last run that made something."""

    day: date
    result: str
    asked: tuple[str, ...]
    failed: tuple[tuple[str, str, str], ...]
    unmet: tuple[tuple[str, str], ...]
    made_on: date | None
    made: tuple[Made, ...]

    @classmethod
    def of(cls, run: LastRun, made: MadeOn) -> RunsSection:
        assert run.at is not None
        return cls(
            day=run.at.date(),
            result=run.result,
            asked=tuple(sorted(run.asked)),
            failed=tuple((name, one.message, one.hint) for name, one in run.failed.items()),
            unmet=tuple(run.unmet.items()),
            made_on=made[0],
            made=made[1],
        )


def made(context: CheckContext) -> MadeOn:
    """What the last run that made something made, and its day: this one, or one before it."""
    if context.run.made:
        groups: dict[tuple[str, str], list[str]] = {}
        for name, outcome in context.run.made.items():
            groups.setdefault((ArtifactId.parse(name).kind, str(outcome)), []).append(name)
        kept = [[why, len(names), names[:NAMED]] for (_, why), names in list(groups.items())[:KINDS]]
        rest = list(groups.values())[KINDS:]
        kept += [["for other reasons", sum(map(len, rest)), []]] if rest else []
        context.project.cache.remember("page made", "", [], [f"{context.project.now:%Y-%m-%d}", kept])
    found = context.project.cache.recall("page made", "")
    if found is None:
        return None, ()
    day, rows = found
    return date.fromisoformat(day), tuple(Made(why, count, tuple(names)) for why, count, names in rows)


def calm(check: Finding, today: date) -> Finding:
    """A check in days, and without what moves while nothing happens. That it is so since today needs no saying."""
    is_known = check.since and check.since.date() < today
    return Finding(
        subject=check.subject,
        level=check.level,
        what=ROOM if check.topic == "disk" and not check.level else check.message,
        remedy=check.remedy,
        since=_noon(check.since) if is_known else None,
        until=_noon(check.until),
        topic=check.topic,
    )


def _noon(moment: datetime | None) -> datetime | None:
    return moment.replace(hour=12, minute=0, second=0) if moment else None
