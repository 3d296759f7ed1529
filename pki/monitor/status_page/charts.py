"""Days as places on the status page: percent of an axis, so that no picture needs a script or a style of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.monitor.status_page.page_data import Certificate, Facts

WEEKS = 26
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MOST_TICKS = 7
LANE = 26  # pixels from one bar of an authority to the next


class Tick(NamedTuple):
    place: str
    text: str


class Bar(NamedTuple):
    """Where a bar begins and how long it is, in percent; `y` in pixels, where there are several in one picture.

    `label` is where its text begins: after today, whose line would cross it.
    """

    x: str
    width: str
    y: int = 0
    text: str = ""
    kind: str = ""
    label: str = ""


class Days(NamedTuple):
    """A certificate's days as text, and where they are: its bar, and the rest of it in which it is renewed."""

    start: str = ""
    renewal: str = ""
    end: str = ""
    x: str = ""
    width: str = ""
    tail: str = ""
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """From one day to another; `today` lies between them."""

    start: date
    end: date
    today: date

    def at(self, day: date) -> float:
        """The place of a day, from 0 to 100."""
        share = 100 * (day - self.start).days / max(1, (self.end - self.start).days)
        return min(100.0, max(0.0, share))

    def place(self, day: date) -> str:
        return f"{self.at(day):.1f}%"

    def bar(self, start: date, end: date, y: int = 0, text: str = "", kind: str = "") -> Bar:
        width = max(0.4, self.at(end) - self.at(start))
        return Bar(self.place(start), f"{width:.1f}%", y, text, kind, self.place(max(start, self.today)))

    @property
    def ticks(self) -> list[Tick]:
        """The first days of months, of so many that they have room; of years where those are too many."""
        firsts = list(self._months())
        step = next(step for step in (1, 2, 3, 6, 12, 24, 60, 120) if len(firsts) / step <= MOST_TICKS)
        chosen = [one for one in firsts if (one.year * 12 + one.month - 1) % step == 0]
        return [Tick(self.place(one), _month(one, step)) for one in chosen if 2 <= self.at(one) <= 88]

    def _months(self) -> Iterator[date]:
        day = self.start.replace(day=1)
        while day <= self.end:
            if day >= self.start:
                yield day
            day = (day + timedelta(days=32)).replace(day=1)

    def style(self) -> str:
        """Lines behind the cells with bars: today, and the axis's days."""
        places = [self.place(self.today), *(tick.place for tick in self.ticks)]
        colours = ["var(--now)", *(["var(--line)"] * len(self.ticks))]
        images = ",".join(f"linear-gradient({colour},{colour})" for colour in colours)
        sizes = ",".join(["2px 100%", *(["1px 100%"] * len(self.ticks))])
        return f".b{{background:{images};background-position:{','.join(f'{one} 0' for one in places)};background-size:{sizes};background-repeat:no-repeat}}\n"


def _month(day: date, step: int) -> str:
    return str(day.year) if step >= 12 or day.month == 1 else MONTHS[day.month - 1]


def axis_of(found: Iterable[Certificate], today: date) -> Axis:
    """From the first day of any certificate, but not from long ago, to the last day of any."""
    dated = [(one.start, one.end) for one in found if one.start and one.end]
    start = min((start for start, _ in dated), default=today)
    end = max((end for _, end in dated), default=today)
    return Axis(max(start, today - timedelta(days=400)), max(end, today + timedelta(days=7)), today)


def bars(found: Iterable[Certificate], axis: Axis) -> dict[tuple[date | None, ...], Days]:
    """What is shown of the days of each certificate, by its days: of ten thousand, many have the same."""
    shown: dict[tuple[date | None, ...], Days] = {(None, None, None): Days()}
    for start, renewal, end in {(one.start, one.renewal, one.end) for one in found}:
        if start and renewal and end:
            whole, tail = axis.bar(start, max(start, renewal)), axis.bar(max(start, renewal), end)
            said = (start.isoformat(), renewal.isoformat(), end.isoformat())
            shown[start, renewal, end] = Days(*said, whole.x, whole.width, tail.x, tail.width)
    return shown


# -- renewals by week -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weeks:
    """How many certificates are renewed for the next time in each of the coming weeks; heights in percent."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    most: int
    busiest: date
    total: int


def weeks(found: Sequence[Certificate], today: date) -> Weeks | None:
    """None when nothing is renewed in the next half year."""
    coming = [max(0, (one.renewal - today).days) // 7 for one in found if one.renewal and one.end]
    counts = Counter(week for week in coming if week < WEEKS)
    if not counts:
        return None
    last = max(counts) + 1
    axis = Axis(today, today + timedelta(weeks=last), today)
    busiest, most = max(counts.items(), key=lambda one: (one[1], -one[0]))
    bars = [
        Bar(f"{100 * week / last:.1f}%", f"{90 / last:.1f}%", round(100 - 100 * count / most), str(count))
        for week, count in sorted(counts.items())
    ]
    return Weeks(tuple(bars), tuple(axis.ticks), most, today + timedelta(weeks=busiest), sum(counts.values()))


# -- authorities through the years ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lives:
    """One authority's generations; `height` in pixels."""

    authority: str
    bars: tuple[Bar, ...]
    height: int


@dataclass(frozen=True, slots=True)
class Years:
    lives: tuple[Lives, ...]
    ticks: tuple[Tick, ...]
    ceremonies: tuple[str, ...]
    now: str
    until: date


def years(facts: Facts) -> Years:
    """The generations that there are and those that are foreseen, one row for each authority."""
    until = facts.ahead.until
    axis = Axis(facts.today - (until - facts.today) / 12, until, facts.today)
    there = [
        (one.name, one.start, one.end, "")
        for one in facts.authorities
        if GenerationName.parse(one.name).authority in AUTHORITIES
    ]
    coming = [(one.name, one.start, one.end or date.max, "planned") for one in facts.ahead.lives]
    lives = []
    for authority in AUTHORITIES:
        shown = [
            one
            for one in (*there, *coming)
            if GenerationName.parse(one[0]).authority == authority and one[2] > axis.start
        ]
        bars = [
            axis.bar(start, min(end, until), 2 + LANE * (number % 2), name, kind)
            for number, (name, start, end, kind) in enumerate(shown)
        ]
        lives.append(Lives(authority, tuple(bars), 4 + LANE * min(2, max(1, len(bars)))))
    held = [axis.place(one.day) for one in facts.ahead.events if one.what == "ceremony"]
    return Years(tuple(lives), tuple(axis.ticks), tuple(held), axis.place(facts.today), until)
