"""What is worth a message: decided from what was told before and what health says now, for one channel at a time.

New, worse, nearer to its end, solved: each is told once. What comes and goes is told at most once in twenty hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pki.monitor.check_result import Finding, Level

DAY = timedelta(days=1)
MARKS = (30, 14, 7, 3, 1, 0)  # days before an end at which it is told again
AGAIN = timedelta(hours=20)  # a daily job is never punctual to the second
WEEK = timedelta(days=7) - timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Told:
    """What was last said of one thing: at which level, when, at which mark, and what it was; solved ones are `OK`."""

    level: Level
    at: datetime
    mark: int | None
    since: datetime
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class News:
    """One thing that is worth a message; `kind` is new, worse, nearer or solved."""

    kind: str
    check: Finding


@dataclass(frozen=True, slots=True)
class Past:
    """What a channel was told: of each thing, and when the last weekly digest went out."""

    told: Mapping[str, Told] = field(default_factory=dict)
    digest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell now, and what the channel will have been told then."""

    news: tuple[News, ...]
    is_digest: bool
    after: Past

    @property
    def is_worth_it(self) -> bool:
        return bool(self.news) or self.is_digest


def decide(past: Past, checks: Iterable[Finding], looked_at: Callable[[str], bool], now: datetime) -> Decision:
    """What a channel is told now. `looked_at` says of a check's key whether this run would have found it again."""
    present, news, after = _worst_of_each(checks), list[News](), dict[str, Told]()
    for key, check in present.items():
        before, mark = past.told.get(key), _mark(check, now)
        if kind := _kind(before, check, mark, now):
            news.append(News(kind, check))
            after[key] = _told(check, mark, before, now)
        elif before:
            after[key] = _still(before, check, mark, now)
    for key, before in sorted(past.told.items(), key=lambda one: -one[1].level):
        if key in present:
            continue
        if before.level and looked_at(key):
            news.append(News("solved", Finding(before.subject, Level.OK, before.message, since=before.since)))
            after[key] = replace(before, level=Level.OK, at=now)
        elif before.level or _within(before.at, now, AGAIN):
            after[key] = before
    is_digest = not _within(past.digest, now, WEEK)
    ordered = tuple(sorted(news, key=lambda one: -one.check.level))
    return Decision(ordered, is_digest, Past(after, now if is_digest else past.digest))


def _worst_of_each(checks: Iterable[Finding]) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    for check in checks:
        if check.level and (check.key not in found or check.level > found[check.key].level):
            found[check.key] = check
    return found


def _mark(check: Finding, now: datetime) -> int | None:
    """The nearest of the marks that the time left has fallen to."""
    if check.until is None:
        return None
    left = math.ceil((check.until - now) / DAY)
    return min((mark for mark in MARKS if left <= mark), default=None)


def _kind(before: Told | None, check: Finding, mark: int | None, now: datetime) -> str:
    """What is new about something; empty when it was told, or told not long ago."""
    if before is None:
        return "new"
    if before.level is Level.OK:
        return "" if _within(before.at, now, AGAIN) else "new"
    if check.level > before.level:
        return "worse"
    is_nearer = mark is not None and (before.mark is None or mark < before.mark)
    return "nearer" if is_nearer else ""


def _told(check: Finding, mark: int | None, before: Told | None, now: datetime) -> Told:
    since = before.since if before and before.level else check.since or now
    level = Level.OK if check.passing else check.level
    return Told(level, now, mark, since, check.subject, check.message)


def _still(before: Told, check: Finding, mark: int | None, now: datetime) -> Told:
    """What is as it was told, or better: a level that was just told is kept for a while, so that none is told twice."""
    if before.level is Level.OK:
        return before
    level = before.level if _within(before.at, now, AGAIN) else check.level
    return replace(before, level=level, mark=mark, message=check.message)


def _within(at: datetime | None, now: datetime, span: timedelta) -> bool:
    """Whether something is less than a span ago; a moment to come is a clock that was set back, and is not."""
    return at is not None and timedelta() <= now - at < span
