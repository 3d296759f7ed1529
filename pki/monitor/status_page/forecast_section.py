"""The coming years on the status page: the events of the timeline, condensed, and cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

from pki.common.cache import digest_of, file_state
from pki.common.errors import PkiError
from pki.common.timestamps import parse_day
from pki.monitor.checks.check_context import CheckedProject
from pki.monitor.timeline.calendar import authority_files
from pki.monitor.timeline.event_kinds import EventKind

YEARS = 5
SHOWN = set(EventKind) - {EventKind.PRESIGNED_CRL}


@dataclass(frozen=True, slots=True)
class ForecastEvent:
    """One event of the timeline, or several on the same day with the same text."""

    day: date
    what: str
    subject: str
    text: str
    is_problem: bool


@dataclass(frozen=True, slots=True)
class PlannedGeneration:
    """A generation that is planned: from the day of its ceremony to its expiry, or None beyond the forecast."""

    name: str
    start: date
    end: date | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The planned events and generations; `until` is the last day of the forecast."""

    until: date
    events: tuple[ForecastEvent, ...]
    generations: tuple[PlannedGeneration, ...]


def cached(checked: CheckedProject) -> Any:
    """Return the cached forecast if ledger, pki.yaml, authorities and month are the same; else None."""
    return checked.project.ledger_view.recall("page ahead", _cache_key(checked))


def read_forecast(checked: CheckedProject) -> Forecast:
    """Return the forecast from today on."""
    today = checked.project.now.date()
    try:
        until, events, generations = checked.project.ledger_view.cached(
            "page ahead", _cache_key(checked), lambda: _planned(checked)
        )
    except PkiError as error:  # a damaged ledger, for example
        return Forecast(today, (ForecastEvent(today, "unforeseen", "timeline", error.message, is_problem=True),), ())
    days = [ForecastEvent(date.fromisoformat(day), *rest) for day, *rest in events]
    return Forecast(
        date.fromisoformat(until),
        tuple(event for event in days if event.day >= today),
        tuple(PlannedGeneration(name, date.fromisoformat(start), parse_day(end)) for name, start, end in generations),
    )


def files(checked: CheckedProject) -> list[str]:
    """Return the files that the forecast depends on, besides the ledger: pki.yaml, authorities, ceremony requests."""
    store = checked.project.store
    return [str(store.home / "pki.yaml"), *authority_files(checked.project.inventory, store)]


def _cache_key(checked: CheckedProject) -> str:
    """Return the cache key; it changes every month, because the years of the forecast move on."""
    return digest_of(f"{checked.project.now:%Y-%m}", file_state(files(checked)))


def _planned(checked: CheckedProject) -> list[Any]:
    """Return the forecast as the cache stores it: last day, events, planned generations."""
    from pki.monitor.timeline.events import timeline  # noqa: PLC0415 - slow to import

    result = timeline(checked.project, checked.plan, YEARS)
    ceremony_dates = {name: ceremony.performed for ceremony in result.ceremonies for name in ceremony.generations}
    ends = {event.subject: event.at for event in result.events if event.what is EventKind.EXPIRY}
    generations = [[name, _text(at), _text(ends[name]) if name in ends else ""] for name, at in ceremony_dates.items()]
    return [_text(result.end), list(_condensed(result.events)), generations]


def _condensed(events: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield the events that the page shows; those with the same text on one day as one."""
    shown = (event for event in events if event.what in SHOWN)
    for (day, what, text, is_problem), group in groupby(
        shown, key=lambda event: (event.at, event.what, event.text, event.is_problem)
    ):
        names = [event.subject for event in group]
        subjects = ", ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
        yield [_text(day), what.value, subjects, text, is_problem]


def _text(moment: Any) -> str:
    """Return a moment as a date, as the cache stores it."""
    return f"{moment:%Y-%m-%d}"
