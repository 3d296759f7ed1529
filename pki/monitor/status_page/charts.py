"""Dates as positions on the status page, in percent of a time axis, so that the charts need no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from pki.config.identifiers import ALL_AUTHORITIES, AUTHORITIES, PEER_AUTHORITIES, GenerationName
from pki.monitor.status_page.page_data import CertificateRow, PageData
from pki.monitor.timeline.event_kinds import EventKind

WEEKS = 26
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MAX_TICKS = 7
PHONE_GAP, PHONE_END = 36, 66  # percent: the least distance of two labels on a phone, and the place of the last label
NAME_WIDTH = 24  # percent: on a phone, the name of a generation needs a bar of this width
LANE_HEIGHT = 26  # pixels; the bars of an authority alternate between two lanes, so that they do not overlap


class Tick(NamedTuple):
    """A label on the time axis. `fits_phone` means that on a narrow screen it touches neither another label nor the end."""

    place: str
    text: str
    fits_phone: bool = True


class Bar(NamedTuple):
    """Start and width of a bar, in percent; `y` in pixels, for several bars in one chart.

    `label` is where its text starts: after today, so that the line of today does not cross it.
    """

    x: str
    width: str
    y: int = 0
    text: str = ""
    kind: str = ""
    label: str = ""
    is_short: bool = False  # on a phone, the text does not fit into it


class CertificateDays(NamedTuple):
    """The dates of a certificate as text, and the positions of its bar and of its renewal period (`tail`, `rest`)."""

    start: str = ""
    renewal: str = ""
    end: str = ""
    x: str = ""
    width: str = ""
    tail: str = ""
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """A time axis from one day to another; `today` is between them."""

    start: date
    end: date
    today: date

    def at(self, day: date) -> float:
        """Return the position of a day, from 0 to 100."""
        share = 100 * (day - self.start).days / max(1, (self.end - self.start).days)
        return min(100.0, max(0.0, share))

    def place(self, day: date) -> str:
        """Return the position of a day in percent, as SVG expects it."""
        return f"{self.at(day):.1f}%"

    def bar(self, start: date, end: date, y: int = 0, text: str = "", kind: str = "") -> Bar:
        """Return the bar from one day to another; a very short one stays visible."""
        width = max(0.4, self.at(end) - self.at(start))
        label = max(start, self.today)
        is_short = self.at(end) - self.at(label) < NAME_WIDTH
        return Bar(self.place(start), f"{width:.1f}%", y, text, kind, self.place(label), is_short)

    @property
    def ticks(self) -> list[Tick]:
        """Return labels for the first days of months, or of years if there are too many months."""
        firsts = list(self._months())
        step = next(step for step in (1, 2, 3, 6, 12, 24, 60, 120) if len(firsts) / step <= MAX_TICKS)
        chosen = [day for day in firsts if (day.year * 12 + day.month - 1) % step == 0]
        ticks, last_on_phone = list[Tick](), -100.0
        for day in (day for day in chosen if 2 <= self.at(day) <= 88):  # a label at the edge would be cut off
            fits_phone = self.at(day) - last_on_phone >= PHONE_GAP and self.at(day) <= PHONE_END
            last_on_phone = self.at(day) if fits_phone else last_on_phone
            ticks.append(Tick(self.place(day), _month(day, step), fits_phone))
        return ticks

    def _months(self) -> Iterator[date]:
        day = self.start.replace(day=1)
        while day <= self.end:
            if day >= self.start:
                yield day
            day = (day + timedelta(days=32)).replace(day=1)

    def style(self) -> str:
        """Return the CSS rule that draws today and the ticks behind the cells with bars."""
        places = [self.place(self.today), *(tick.place for tick in self.ticks)]
        colours = ["var(--now)", *(["var(--line)"] * len(self.ticks))]
        images = ",".join(f"linear-gradient({colour},{colour})" for colour in colours)
        sizes = ",".join(["2px 100%", *(["1px 100%"] * len(self.ticks))])
        return f".b{{background:{images};background-position:{','.join(f'{place} 0' for place in places)};background-size:{sizes};background-repeat:no-repeat}}\n"


def _month(day: date, step: int) -> str:
    return str(day.year) if step >= 12 or day.month == 1 else MONTHS[day.month - 1]


def axis_of(certificates: Iterable[CertificateRow], today: date) -> Axis:
    """Return the axis for the certificates: from the first start (at most 400 days ago) to the last expiry."""
    dated_events = [
        (certificate.start, certificate.end) for certificate in certificates if certificate.start and certificate.end
    ]
    start = min((start for start, _ in dated_events), default=today)
    end = max((end for _, end in dated_events), default=today)
    return Axis(max(start, today - timedelta(days=400)), max(end, today + timedelta(days=7)), today)


def certificate_days(
    certificates: Iterable[CertificateRow], axis: Axis
) -> dict[tuple[date | None, ...], CertificateDays]:
    """Return dates and bars by combination of dates: among ten thousand certificates, many have the same dates."""
    shown: dict[tuple[date | None, ...], CertificateDays] = {(None, None, None): CertificateDays()}
    for start, renewal, end in {
        (certificate.start, certificate.renewal, certificate.end) for certificate in certificates
    }:
        if start and renewal and end:
            whole, tail = axis.bar(start, max(start, renewal)), axis.bar(max(start, renewal), end)
            dates = (start.isoformat(), renewal.isoformat(), end.isoformat())
            shown[start, renewal, end] = CertificateDays(*dates, whole.x, whole.width, tail.x, tail.width)
    return shown


# -- renewals by week -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RenewalsChart:
    """The number of next renewals in each of the coming weeks; heights in percent."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    highest: int
    busiest: date
    total: int


def renewals_chart(certificates: Sequence[CertificateRow], today: date) -> RenewalsChart | None:
    """Return the chart of renewals by week; None if nothing is renewed in the next half year."""
    weeks = [max(0, (row.renewal - today).days) // 7 for row in certificates if row.renewal and row.end]
    counts = Counter(week for week in weeks if week < WEEKS)
    if not counts:
        return None
    week_count = max(counts) + 1
    axis = Axis(today, today + timedelta(weeks=week_count), today)
    busiest, highest = max(counts.items(), key=lambda item: (item[1], -item[0]))
    bars = [
        Bar(
            f"{100 * week / week_count:.1f}%", f"{90 / week_count:.1f}%", round(100 - 100 * count / highest), str(count)
        )
        for week, count in sorted(counts.items())
    ]
    return RenewalsChart(
        tuple(bars), tuple(axis.ticks), highest, today + timedelta(weeks=busiest), sum(counts.values())
    )


# -- generations of authorities ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuthorityBars:
    """The generations of one authority; `height` in pixels."""

    authority: str
    bars: tuple[Bar, ...]
    height: int


@dataclass(frozen=True, slots=True)
class GenerationsChart:
    """The existing and planned generations, one row for each authority, with ceremonies and today."""

    rows: tuple[AuthorityBars, ...]
    ticks: tuple[Tick, ...]
    ceremonies: tuple[str, ...]
    now: str
    until: date


def generations_chart(facts: PageData) -> GenerationsChart:
    """Return the chart of existing and planned generations."""
    until = facts.ahead.until
    axis = Axis(facts.today - (until - facts.today) / 12, until, facts.today)
    generations = [
        (row.name, row.start, row.end, "")
        for row in facts.authorities
        if GenerationName.parse(row.name).number  # not an adopted CA
    ]
    planned = [(row.name, row.start, row.end or date.max, "planned") for row in facts.ahead.generations]
    rows = []
    shown_authorities = {GenerationName.parse(name).authority for name, *_ in (*generations, *planned)}
    of_clusters = [name for name in PEER_AUTHORITIES if name in shown_authorities]
    for authority in (*AUTHORITIES, *of_clusters, *sorted(shown_authorities - {*ALL_AUTHORITIES})):
        shown = [
            (name, start, end, kind)
            for name, start, end, kind in (*generations, *planned)
            if GenerationName.parse(name).authority == authority and end > axis.start
        ]
        bars = [
            axis.bar(start, min(end, until), 2 + LANE_HEIGHT * (number % 2), name, kind)
            for number, (name, start, end, kind) in enumerate(shown)
        ]
        rows.append(AuthorityBars(authority, tuple(bars), 4 + LANE_HEIGHT * min(2, max(1, len(bars)))))
    ceremonies = [axis.place(event.day) for event in facts.ahead.events if event.what == EventKind.CEREMONY]
    return GenerationsChart(tuple(rows), tuple(axis.ticks), tuple(ceremonies), axis.place(facts.today), until)
