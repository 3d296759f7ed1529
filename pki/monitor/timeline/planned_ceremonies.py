"""Planned ceremonies: when doit will request them, by when they are due, and what they create."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pki.ceremony.online import ceremony_archive, make_request, needs
from pki.ceremony.online.needs import COMPANION_PERIOD, Requirement
from pki.config.identifiers import ALL_AUTHORITIES, ROOTS, GenerationName
from pki.config.model import Inventory
from pki.config.time_fields import holiday_dates
from pki.monitor.timeline.planned_hierarchy import PlannedHierarchy
from pki.monitor.timeline.runs import DAY, Runs
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.x509.certificate_signing import SECOND

ASSUMED_DELAY = timedelta(days=14)  # between the request and the ceremony
MAX_IN_A_YEAR = 6  # ceremonies: more are the result of unusual lifetimes in pki.yaml


@dataclass(frozen=True, slots=True)
class Ceremony:
    """One ceremony. It is due `by`; `performed` is the assumed day; `remark` is an obstacle to that day, or ""."""

    requested: datetime
    by: datetime
    performed: datetime
    needs: tuple[Requirement, ...]
    remark: str
    by_doit: bool

    @property
    def generations(self) -> tuple[GenerationName, ...]:
        """Return the new generations, without those that only get new CRLs."""
        return tuple(needs.new_generations(self.needs))

    @property
    def new_keys(self) -> str:
        """Return what the servers of external authorities must do before the ceremony, as a sentence; "" if nothing."""
        names = ", ".join(dict.fromkeys(name.authority for name in self.generations if name.is_external))
        return f"before it, the server of {names} must make a new key and request" if names else ""

    @property
    def products(self) -> tuple[str, ...]:
        """Return the new generations and CRL series: `server-2`, `root-1 CRLs`."""
        return tuple(need.what for need in self.needs)


def ceremonies(
    hierarchy: PlannedHierarchy,
    runs: Runs,
    until: datetime,
    waiting_since: Callable[[PlannedHierarchy], datetime | None],
) -> Iterator[tuple[Ceremony, PlannedHierarchy]]:
    """Yield every ceremony that doit will request, with the hierarchy after it.

    `waiting_since` returns when the open request was prepared, None without one (`open_request_date`).
    """
    limit = MAX_IN_A_YEAR * ((until - runs.now) // timedelta(days=365) + 1)
    for _ in range(limit):
        requested = _next(hierarchy, runs, until)
        if requested is None:
            return
        hierarchy = hierarchy.at(requested)
        prepared = performed = requested
        remark = ""
        if not hierarchy.inventory.sandbox:
            by = _by(needs.find_requirements(hierarchy))
            if requested == runs.first:  # the request may be open already
                requested = waiting_since(hierarchy) or requested
            performed, remark = _planned_day(hierarchy, runs, requested, by)
            prepared = _prepared(hierarchy, runs, requested, performed)
        requirements = needs.find_requirements(hierarchy.at(max(prepared, runs.now)))
        ceremony = Ceremony(
            requested, _by(requirements), performed, tuple(requirements), remark, hierarchy.inventory.sandbox
        )
        hierarchy = hierarchy.after_ceremony(needs.new_generations(requirements), prepared, performed)
        yield ceremony, hierarchy


def _by(requirements: list[Requirement]) -> datetime:
    """Return when the first requirement is due."""
    return min(requirement.by for requirement in requirements)


def _next(hierarchy: PlannedHierarchy, runs: Runs, until: datetime) -> datetime | None:
    """Return the first run that requests a ceremony, None if there is none up to `until`."""
    for moment in sorted({runs.at(at) for at in (hierarchy.now, *_thresholds(hierarchy)) if at >= hierarchy.now}):
        if moment > until:
            return None
        if _is_requested(hierarchy.at(moment)):
            return moment
    return None


def _is_requested(hierarchy: PlannedHierarchy) -> bool:
    """Return whether doit requests a ceremony. In a sandbox, new names in pki.yaml alone cause no ceremony."""
    return any(
        not (need.has_no_deadline and hierarchy.inventory.sandbox) for need in needs.find_requirements(hierarchy)
    )


def _thresholds(hierarchy: PlannedHierarchy) -> Iterator[datetime]:
    """Yield moments at which a ceremony may become necessary."""
    for authority in (*ALL_AUTHORITIES, *hierarchy.inventory.authorities.externals):
        if issuing := hierarchy.issuing(authority):
            yield needs.signing_period_end(hierarchy, issuing)
            yield needs.signing_period_end(hierarchy, issuing) - COMPANION_PERIOD
    for root in (name for authority in ROOTS for name in hierarchy.generations(authority)):
        if end := needs.series_end(hierarchy, root):
            yield end - needs.crl_series_lead_time(hierarchy)


def open_request_date(
    inventory: Inventory, store: Store, now: datetime, authorities: Authorities, hierarchy: PlannedHierarchy
) -> datetime | None:
    """Return when the open request was prepared, None if there is none or doit will replace it."""
    requests, requirements = ceremony_archive.open_requests(store), needs.find_requirements(hierarchy)
    if not requests or make_request.outdated_reasons(inventory, store, now, authorities, requirements):
        return None
    return requests[-1].request.prepared


def _prepared(hierarchy: PlannedHierarchy, runs: Runs, requested: datetime, performed: datetime) -> datetime:
    """Return the date of the request that the ceremony answers.

    Until the ceremony, doit replaces a request that is too old, or that lacks a new requirement.
    """
    prepared, names = requested, _names(hierarchy.at(max(requested, runs.now)))
    while True:
        moments = {runs.at(at) for at in (*_thresholds(hierarchy), prepared + make_request.REQUEST_MAX_AGE + SECOND)}
        for moment in sorted(candidate for candidate in moments if max(prepared, runs.now) < candidate < performed):
            if moment - prepared > make_request.REQUEST_MAX_AGE or _names(hierarchy.at(moment)) - names:
                prepared, names = moment, _names(hierarchy.at(moment))
                break
        else:
            return prepared


def _names(hierarchy: PlannedHierarchy) -> set[str]:
    return {need.what for need in needs.find_requirements(hierarchy)}


# -- the day ----------------------------------------------------------------------------------------------------------


def _planned_day(hierarchy: PlannedHierarchy, runs: Runs, requested: datetime, by: datetime) -> tuple[datetime, str]:
    """Return the assumed day, two weeks after the request and no holiday, and an obstacle to that, or ""."""
    holidays = [holiday_dates(holiday) for holiday in hierarchy.inventory.holidays]
    last = _before(by, holidays)
    earliest = max(requested + DAY, runs.now)
    if by <= requested:
        return runs.at(_after(earliest, holidays)), ""
    day = _after(max(requested + ASSUMED_DELAY, runs.now), holidays)
    if day > by:
        day = max(last, earliest) if last >= requested else _after(earliest, holidays)
    if day > by:
        remark = f"no day between {requested:%Y-%m-%d} and {by:%Y-%m-%d} is free of holidays"
    elif last.date() != by.date():
        remark = f"its last day, {by:%Y-%m-%d}, is a holiday: perform it by {last:%Y-%m-%d}"
    else:
        remark = ""
    return runs.at(day), remark


def _is_holiday(day: date, holidays: list[tuple[date, date]]) -> bool:
    return any(first <= day <= last for first, last in holidays)


def _after(moment: datetime, holidays: list[tuple[date, date]]) -> datetime:
    while _is_holiday(moment.date(), holidays):
        moment += DAY
    return moment


def _before(moment: datetime, holidays: list[tuple[date, date]]) -> datetime:
    while _is_holiday(moment.date(), holidays):
        moment -= DAY
    return moment
