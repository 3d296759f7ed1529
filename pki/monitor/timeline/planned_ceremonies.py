"""Ceremonies to come: when doit will ask for them, by when they are due, and what they bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pki.ceremony.online import ceremony_archive, make_request, needs
from pki.ceremony.online.needs import TOGETHER, Need
from pki.config.fields import days_of
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.monitor.timeline.runs import DAY, Runs
from pki.monitor.timeline.supposed import Supposed
from pki.project.project import Project
from pki.x509.certificate_signing import SECOND

NOTICE = timedelta(days=14)  # from the day on which one is asked for to the day on which it is supposed to be held
MOST = 6  # ceremonies a year: a project that needs more has rules that its owner should look at


@dataclass(frozen=True, slots=True)
class Ceremony:
    """One ceremony. `held` is a supposition; `asked` and `by` are not. `remark` is what stands in its way, or empty."""

    asked: datetime
    by: datetime
    held: datetime
    needs: tuple[Need, ...]
    remark: str
    by_doit: bool

    @property
    def generations(self) -> tuple[GenerationName, ...]:
        """The new generations, without those that only get new CRLs."""
        return tuple(needs.new_generations(self.needs))

    @property
    def brings(self) -> tuple[str, ...]:
        return tuple(need.what for need in self.needs)


def ceremonies(real: Project, project: Supposed, runs: Runs, until: datetime) -> Iterator[Ceremony]:
    """Every ceremony that doit will ask for, each held in `project` after it was yielded."""
    most = MOST * ((until - runs.now) // timedelta(days=365) + 1)
    for _ in range(most):
        asked = _next(project, runs, until)
        if asked is None:
            return
        prepared = held = asked
        remark = ""
        if not project.inventory.sandbox:
            by = _by(needs.needs(project))
            asked = (_waiting(real, project) if asked == runs.first else None) or asked
            held, remark = _supposed_day(project, runs, asked, by)
            prepared = _prepared(project, runs, asked, held)
        wanted = needs.needs(project.at(max(prepared, runs.now)))
        yield Ceremony(asked, _by(wanted), held, tuple(wanted), remark, project.inventory.sandbox)
        project.hold(needs.new_generations(wanted), prepared, held)


def _by(found: list[Need]) -> datetime:
    return min(need.by for need in found)


def _next(project: Supposed, runs: Runs, until: datetime) -> datetime | None:
    """The first run that finds something which only a ceremony can bring; the project's clock stands there then."""
    for moment in sorted({runs.at(at) for at in (project.now, *_thresholds(project)) if at >= project.now}):
        if moment > until:
            return None
        if _is_asked(project.at(moment)):
            return moment
    return None


def _is_asked(project: Supposed) -> bool:
    """The sandbox holds no ceremony for what merely grew."""
    return any(not (need.is_growth and project.inventory.sandbox) for need in needs.needs(project))


def _thresholds(project: Supposed) -> Iterator[datetime]:
    """Moments at which something may begin to be needed."""
    for authority in AUTHORITIES:
        if found := project.issuing(authority):
            yield needs.usable_until(project, found)
            yield needs.usable_until(project, found) - TOGETHER
    for root in project.store.generations("root"):
        if end := needs.series_end(project, root):
            yield end - needs.series_alarm(project)


def _waiting(real: Project, project: Supposed) -> datetime | None:
    """When the request was prepared that waits on disk, if doit will leave it as it is."""
    found = ceremony_archive.open_requests(real)
    return found[-1].request.prepared if found and not make_request.uncovered(real, needs.needs(project)) else None


def _prepared(project: Supposed, runs: Runs, asked: datetime, held: datetime) -> datetime:
    """The moment whose dates the request bears that is answered: it is made again when it is old, or more is needed."""
    prepared, names = asked, _names(project.at(max(asked, runs.now)))
    while True:
        moments = {runs.at(at) for at in (*_thresholds(project), prepared + make_request.REFRESH + SECOND)}
        for moment in sorted(one for one in moments if max(prepared, runs.now) < one < held):
            if moment - prepared > make_request.REFRESH or _names(project.at(moment)) - names:
                prepared, names = moment, _names(project.at(moment))
                break
        else:
            return prepared


def _names(project: Supposed) -> set[str]:
    return {need.what for need in needs.needs(project)}


# -- the day ----------------------------------------------------------------------------------------------------------


def _supposed_day(project: Supposed, runs: Runs, asked: datetime, by: datetime) -> tuple[datetime, str]:
    """A run on a day that is nobody's holiday, two weeks after the ceremony was asked for, and what stands in its way."""
    closed = [days_of(one) for one in project.inventory.holidays]
    last = _before(by, closed)
    earliest = max(asked + DAY, runs.now)
    if by <= asked:
        return runs.at(_after(earliest, closed)), ""
    day = _after(max(asked + NOTICE, runs.now), closed)
    if day > by:
        day = max(last, earliest) if last >= asked else _after(earliest, closed)
    if day > by:
        remark = f"no day between {asked:%Y-%m-%d} and {by:%Y-%m-%d} is free of holidays"
    elif last.date() != by.date():
        remark = f"its last day, {by:%Y-%m-%d}, is a holiday: hold it by {last:%Y-%m-%d}"
    else:
        remark = ""
    return runs.at(day), remark


def _is_closed(day: date, closed: list[tuple[date, date]]) -> bool:
    return any(first <= day <= last for first, last in closed)


def _after(moment: datetime, closed: list[tuple[date, date]]) -> datetime:
    while _is_closed(moment.date(), closed):
        moment += DAY
    return moment


def _before(moment: datetime, closed: list[tuple[date, date]]) -> datetime:
    while _is_closed(moment.date(), closed):
        moment -= DAY
    return moment
