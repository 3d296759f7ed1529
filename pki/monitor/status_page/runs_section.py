"""The last run on the status page, in a form that a run with nothing to do does not change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from pki.config.identifiers import ArtifactId
from pki.monitor.check_result import Finding
from pki.monitor.checks.check_context import CheckedProject, LastRun

NAMED = 12  # artifacts that are listed for one reason
KINDS = 40  # reasons that are listed
ENOUGH_SPACE = "enough space is free"  # the figure would change with every run


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """What one run changed for one reason: how many artifacts, and the first names."""

    why: str
    count: int
    names: tuple[str, ...]


class LastChanges(NamedTuple):
    """What the last run that changed anything changed, and its day; None before any such run."""

    day: date | None
    groups: tuple[ChangeGroup, ...]


@dataclass(frozen=True, slots=True)
class RunsSection:
    """What the last run did. `changed` belongs to `changed_on`, the last run that changed anything."""

    day: date
    result: str
    requested: tuple[str, ...]
    failed: tuple[tuple[str, str, str], ...]
    blocked: tuple[tuple[str, str], ...]
    changed_on: date | None
    changed: tuple[ChangeGroup, ...]

    @classmethod
    def of(cls, run: LastRun, changes: LastChanges) -> RunsSection:
        """Return the section for a run, and for the last run that changed anything."""
        assert run.at is not None
        return cls(
            day=run.at.date(),
            result=run.result,
            requested=tuple(sorted(run.requested)),
            failed=tuple((name, failure.message, failure.hint) for name, failure in run.failed.items()),
            blocked=tuple(run.blocked.items()),
            changed_on=changes.day,
            changed=changes.groups,
        )


def last_changes(checked: CheckedProject) -> LastChanges:
    """Return what the last run that changed anything changed, and its day; remembered in the cache."""
    if checked.run.changed:
        groups: dict[tuple[str, str], list[str]] = {}
        for name, outcome in checked.run.changed.items():
            groups.setdefault((ArtifactId.parse(name).kind, str(outcome)), []).append(name)
        rows = [[why, len(names), names[:NAMED]] for (_, why), names in list(groups.items())[:KINDS]]
        rest = list(groups.values())[KINDS:]
        rows += [["other reasons", sum(map(len, rest)), []]] if rest else []
        checked.project.cache.remember("page made", "", [], [f"{checked.project.now:%Y-%m-%d}", rows])
    stored = checked.project.cache.recall("page made", "")
    if stored is None:
        return LastChanges(None, ())
    day, rows = stored
    changes = tuple(ChangeGroup(why, count, tuple(names)) for why, count, names in rows)
    return LastChanges(date.fromisoformat(day), changes)


def without_changing_figures(finding: Finding, today: date) -> Finding:
    """Return a finding with dates in days, and without figures that change in each run although nothing happened."""
    is_earlier = finding.since and finding.since.date() < today
    return Finding(
        subject=finding.subject,
        level=finding.level,
        what=ENOUGH_SPACE if finding.topic == "disk" and not finding.level else finding.message,
        remedy=finding.remedy,
        since=_noon(finding.since) if is_earlier else None,
        until=_noon(finding.until),
        topic=finding.topic,
    )


def _noon(moment: datetime | None) -> datetime | None:
    return moment.replace(hour=12, minute=0, second=0) if moment else None
