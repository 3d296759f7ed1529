"""Looking years ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import groupby

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.decorator import command_with, project_as_it_is
from pki.cli.json_output import EventRow, RhythmRow, TimelineOutput
from pki.common.durations import DAY, in_common_unit, in_words
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.fields import format_duration
from pki.monitor.timeline import events as ahead
from pki.monitor.timeline.events import Event, Rhythm, Timeline
from pki.pipeline import plan

LONGEST = 40
YEAR = timedelta(days=365)
FEW = 12  # rhythms that stand on a line of their own; more of one kind share one


@command_with()
def show_timeline(context: Context, years: str = "10", no_ceremonies: bool = False, json: bool = False) -> None:
    """Play the inventory forward: renewals, CRLs, ceremonies and ends of the next --years, and what goes wrong in them.

    Supposes that each ceremony is held two weeks after doit asks for it, past the `holidays` of pki.yaml; with
    --no-ceremonies, that nobody ever holds the next one. --json is for programs. Exit status 2 when something is wrong.
    """
    if not years.isdecimal() or not 1 <= int(years) <= LONGEST:
        raise PkiError(f"--years {years}: expected a number from 1 to {LONGEST}", "./run invoke timeline --years 3")
    project = project_as_it_is(context)
    found = ahead.timeline(project, plan.plan(project), int(years), held=not no_ceremonies)
    screen = Screen()
    if json:
        _print_json(found, project.now)
    else:
        title = f"{project.inventory.organisation}{' (sandbox)' if project.inventory.sandbox else ''}"
        _show(screen, found, title)
    project.close(settled=False)
    if found.wrong:
        raise Exit(code=2)


# -- for people -------------------------------------------------------------------------------------------------------


def _show(screen: Screen, found: Timeline, title: str) -> None:
    screen.line(f"{title}, {_day(found.start)} to {_day(found.end)}")
    if found.wrong:
        screen.heading("what goes wrong")
        for event in _gathered(found.wrong):
            screen.dated(_day(event.at), event.subject, event.text, is_wrong=True)
    screen.heading("again and again")
    for subject, text in _rhythms(found):
        screen.dated("", subject, text)
    if busiest := found.busiest():
        day, most, leaves = busiest
        screen.dated("", "most at once", f"{most} of {leaves} certificates, on {_day(day)}")
    for year, events in groupby((one for one in found.events if not one.is_wrong), key=lambda event: event.at.year):
        screen.heading(str(year))
        for event in events:
            screen.dated(_day(event.at), event.subject, event.text)
    wrong = len(found.wrong)
    screen.line("")
    screen.line(f"{wrong} {'things go' if wrong > 1 else 'thing goes'} wrong" if wrong else "nothing goes wrong")


def _gathered(events: Iterable[Event]) -> Iterator[Event]:
    """Those of one day that say the same of many things, in one."""
    for _, found in groupby(events, key=lambda event: (event.at, event.what, event.text)):
        same = list(found)
        first = same[0]
        names = ", ".join(one.subject for one in same) if len(same) < 3 else f"{first.subject} and {len(same) - 1} more"
        yield Event(first.at, first.what, names, first.text, first.is_wrong)


def _rhythms(found: Timeline) -> Iterator[tuple[str, str]]:
    """A line for each, or, of many, one for all of a kind; of CRLs those that come within a year."""
    near = [one for one in found.rhythms if one.kind != "CRLs" or one.next <= found.start + YEAR]
    for kind, group in groupby(sorted(near, key=_kind, reverse=True), key=_kind):
        alike = list(group)
        if len(alike) <= FEW:
            yield from ((one.subject, _said(one)) for one in alike)
            continue
        first, last = min(one.next for one in alike), max(one.next for one in alike)
        when = _day(first) if first.date() == last.date() else f"from {_day(first)} to {_day(last)}"
        least, most = min(one.every for one in alike), max(one.every for one in alike)
        (shortest, longest), unit = in_common_unit(least, most)
        span = f"{shortest} to {longest} {unit}".rstrip() if least < most else in_words(most)
        yield f"{len(alike)} {kind}", f"every {span}, next {when}"


def _kind(rhythm: Rhythm) -> str:
    return rhythm.kind


def _said(rhythm: Rhythm) -> str:
    if rhythm.times == 1:
        return f"once, on {_day(rhythm.next)}"
    return f"every {in_words(rhythm.every) if rhythm.every != DAY else 'day'}, next {_day(rhythm.next)}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


# -- for programs -----------------------------------------------------------------------------------------------------


def _print_json(found: Timeline, now: datetime) -> None:
    TimelineOutput(
        at=now,
        start=found.start,
        until=found.end,
        wrong=len(found.wrong),
        rhythms=[RhythmRow(**{**asdict(one), "every": format_duration(one.every)}) for one in found.rhythms],
        events=[EventRow(**asdict(one)) for one in found.events],
        renewals={name: [at for at, _ in one.issued] for name, one in found.renewals.items()},
    ).show()
