"""The command timeline."""

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
from pki.config.time_fields import format_duration
from pki.monitor.timeline import events as ahead
from pki.monitor.timeline.events import Rhythm, Timeline, TimelineEvent
from pki.pipeline import plan

LONGEST = 40
YEAR = timedelta(days=365)
NO_PROBLEM = "no problem found: every certificate, root CRL and authority is replaced before it expires"
FEW = 12  # rhythms of one kind that get a line each; more of them share one line


@command_with()
def show_timeline(context: Context, years: str = "10", no_ceremonies: bool = False, json: bool = False) -> None:
    """Show the renewals, CRLs, ceremonies and expiries of the next --years, and the problems to expect.

    Assumes that each ceremony is performed two weeks after doit requests it, outside the `holidays` of pki.yaml; with
    --no-ceremonies, that no further ceremony is performed. --json is for programs.
    """
    if not years.isdecimal() or not 1 <= int(years) <= LONGEST:
        raise PkiError(f"--years {years}: expected a number from 1 to {LONGEST}", "./run invoke timeline --years 3")
    project = project_as_it_is(context)
    timeline = ahead.timeline(project, plan.plan(project), int(years), with_ceremonies=not no_ceremonies)
    screen = Screen()
    if json:
        _print_json(timeline, project.now)
    else:
        title = f"{'SANDBOX ' if project.inventory.sandbox else ''}{project.inventory.organisation}"
        _show(screen, timeline, title, _assumption(is_sandbox=project.inventory.sandbox, no_ceremonies=no_ceremonies))
    project.close(run_succeeded=False)
    if timeline.problems:
        raise Exit(code=2)


# -- at a terminal -----------------------------------------------------------------------------------------------------


def _assumption(*, is_sandbox: bool, no_ceremonies: bool) -> str:
    """Return what the timeline assumes, as one line."""
    ceremony = "each ceremony is performed two weeks after its request"
    if no_ceremonies:
        ceremony = "no further ceremony is performed"
    elif is_sandbox:
        ceremony = "it performs each ceremony itself (sandbox)"
    return f"assumed: doit runs as scheduled; {ceremony}"


def _show(screen: Screen, timeline: Timeline, title: str, assumption: str) -> None:
    screen.line(f"{title}, {_day(timeline.start)} to {_day(timeline.end)}")
    screen.line(assumption)
    if timeline.problems:
        screen.heading("problems")
        for event in _grouped(timeline.problems):
            screen.dated(_day(event.at), event.subject, event.text, is_problem=True)
    screen.heading("regularly")
    for subject, text in _rhythms(timeline):
        screen.dated("", subject, text)
    if busiest := timeline.busiest():
        day, most, leaves = busiest
        screen.dated("", "most at once", f"{most} of {leaves} certificates, on {_day(day)}")
    for year, events in groupby(
        (event for event in timeline.events if not event.is_problem), key=lambda event: event.at.year
    ):
        screen.heading(str(year))
        for event in events:
            screen.dated(_day(event.at), event.subject, event.text)
    screen.line("")
    screen.line(f"{count} problem{'s' if count > 1 else ''}" if (count := len(timeline.problems)) else NO_PROBLEM)


def _grouped(events: Iterable[TimelineEvent]) -> Iterator[TimelineEvent]:
    """Combine events of one day with the same text into one."""
    for _, group in groupby(events, key=lambda event: (event.at, event.what, event.text)):
        same = list(group)
        first = same[0]
        names = (
            ", ".join(event.subject for event in same) if len(same) < 3 else f"{first.subject} and {len(same) - 1} more"
        )
        yield TimelineEvent(first.at, first.what, names, first.text, first.is_problem)


def _rhythms(timeline: Timeline) -> Iterator[tuple[str, str]]:
    """Yield one line for each rhythm, or one for all of a kind if there are many; CRLs only within a year."""
    near = [rhythm for rhythm in timeline.rhythms if rhythm.kind != "CRLs" or rhythm.next <= timeline.start + YEAR]
    for kind, group in groupby(sorted(near, key=_kind, reverse=True), key=_kind):
        alike = list(group)
        if len(alike) <= FEW:
            yield from ((rhythm.subject, _when(rhythm)) for rhythm in alike)
            continue
        first, last = min(rhythm.next for rhythm in alike), max(rhythm.next for rhythm in alike)
        when = _day(first) if first.date() == last.date() else f"from {_day(first)} to {_day(last)}"
        least, most = min(rhythm.every for rhythm in alike), max(rhythm.every for rhythm in alike)
        (shortest, longest), unit = in_common_unit(least, most)
        span = f"{shortest} to {longest} {unit}".rstrip() if least < most else in_words(most)
        yield f"{len(alike)} {kind}", f"every {span}, next {when}"


def _kind(rhythm: Rhythm) -> str:
    return rhythm.kind


def _when(rhythm: Rhythm) -> str:
    if rhythm.times == 1:
        return f"once, on {_day(rhythm.next)}"
    return f"every {in_words(rhythm.every) if rhythm.every != DAY else 'day'}, next {_day(rhythm.next)}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


# -- for programs -----------------------------------------------------------------------------------------------------


def _print_json(timeline: Timeline, now: datetime) -> None:
    TimelineOutput(
        at=now,
        start=timeline.start,
        until=timeline.end,
        problems=len(timeline.problems),
        rhythms=[
            RhythmRow(**{**asdict(rhythm), "every": format_duration(rhythm.every)}) for rhythm in timeline.rhythms
        ],
        events=[EventRow(**asdict(event)) for event in timeline.events],
        renewals={name: [at for at, _ in leaf.issued] for name, leaf in timeline.renewals.items()},
    ).show()
