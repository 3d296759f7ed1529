"""The years to come for the status page: what `timeline` foresees, condensed, and remembered while it stays so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

from pki.common.cache import digest_of, signature
from pki.common.errors import PkiError
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.timeline.calendar import authority_files

YEARS = 5
SHOWN = {"request", "ceremony", "holiday", "turn", "end", "gap", "short"}


@dataclass(frozen=True, slots=True)
class Event:
    day: date
    what: str
    subject: str
    text: str
    is_wrong: bool


@dataclass(frozen=True, slots=True)
class Life:
    """A generation that is supposed to come: from the day of its ceremony to its end, or beyond what is foreseen."""

    name: str
    start: date
    end: date | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """`until` is how far it was looked."""

    until: date
    events: tuple[Event, ...]
    lives: tuple[Life, ...]


def remembered(context: CheckContext) -> Any:
    """What was foreseen, if ledger, pki.yaml and authorities are as they were then, and the month is; None otherwise."""
    return context.project.recall_from_ledger("page ahead", _known(context))


def ahead(context: CheckContext) -> Ahead:
    """What is foreseen from today on."""
    found, today = remembered(context), context.project.now.date()
    if found is None:
        try:
            found = _planned(context)
        except PkiError as error:  # of a ledger that is damaged, say
            return Ahead(today, (Event(today, "unforeseen", "timeline", error.message, is_wrong=True),), ())
        context.project.remember_from_ledger("page ahead", _known(context), found)
    until, events, lives = found
    days = [Event(date.fromisoformat(day), *rest) for day, *rest in events]
    return Ahead(
        date.fromisoformat(until),
        tuple(one for one in days if one.day >= today),
        tuple(Life(name, date.fromisoformat(start), _day(end)) for name, start, end in lives),
    )


def files(context: CheckContext) -> list[str]:
    """What it follows from besides the ledger: pki.yaml, the authorities, and what was asked of ceremonies."""
    place = context.project.store
    return [str(place.home / "pki.yaml"), *authority_files(place)]


def _known(context: CheckContext) -> str:
    """Anew each month, as the years in it move on."""
    return digest_of(f"{context.project.now:%Y-%m}", signature(files(context)))


def _planned(context: CheckContext) -> list[Any]:
    """As the memo keeps it: until when, events, generations to come."""
    from pki.monitor.timeline.events import timeline  # noqa: PLC0415 - what asks for ceremonies takes long to import

    found = timeline(context.project, context.plan, YEARS)
    held = {name: one.held for one in found.ceremonies for name in one.generations}
    ends = {event.subject: event.at for event in found.events if event.what == "end"}
    lives = [[name, _text(at), _text(ends[name]) if name in ends else ""] for name, at in held.items()]
    return [_text(found.end), list(_condensed(found.events)), lives]


def _condensed(events: Sequence[Any]) -> Iterator[list[Any]]:
    """Those that a person may want to know of; those that say the same of many things on one day, in one."""
    shown = (one for one in events if one.what in SHOWN)
    for (day, what, text, is_wrong), same in groupby(shown, key=lambda one: (one.at, one.what, one.text, one.is_wrong)):
        names = [one.subject for one in same]
        said = ", ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
        yield [_text(day), what, said, text, is_wrong]


def _text(moment: Any) -> str:
    return f"{moment:%Y-%m-%d}"


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
