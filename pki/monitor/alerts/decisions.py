"""Decide which findings are sent through one channel (mail, ntfy, …) now.

A finding is sent when it is new, when it gets worse, when its deadline comes closer (30, 14, 7, 3, 1, 0 days), and when
it is solved. A finding that appears and disappears is sent at most once in 20 hours. All findings are sent once a week.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pki.monitor.check_result import Finding, Level

DAY = timedelta(days=1)
REMINDERS = (30, 14, 7, 3, 1, 0)  # days before the deadline at which a finding is sent again
PAUSE = timedelta(hours=20)  # between messages about one finding; a daily job does not start at the same second
WEEK = timedelta(days=7) - timedelta(hours=4)  # shorter than a week, for the same reason


@dataclass(frozen=True, slots=True)
class Notified:
    """The last message about one finding.

    `level` is OK once it was solved; `mark` is the smallest of REMINDERS that its deadline had reached, None before the
    first; `since` is when the finding was first sent.
    """

    level: Level
    at: datetime
    mark: int | None
    since: datetime
    subject: str
    message: str


class Cause(StrEnum):
    """Why a finding is sent now."""

    NEW = "new"
    WORSE = "worse"  # its level has risen
    NEARER = "nearer"  # its deadline has reached the next of REMINDERS
    SOLVED = "solved"


@dataclass(frozen=True, slots=True)
class Notification:
    """One finding to send, and why it is sent."""

    cause: Cause
    finding: Finding


@dataclass(frozen=True, slots=True)
class ChannelHistory:
    """What was sent through a channel: the last message about each finding (by its key), and the last weekly message."""

    notified: Mapping[str, Notified] = field(default_factory=dict)
    weekly_sent: datetime | None = None


@dataclass(frozen=True, slots=True)
class AlertDecision:
    """What to send now: notifications, the weekly message (all findings), or both; and the history `after` that."""

    notifications: tuple[Notification, ...]
    is_weekly: bool
    after: ChannelHistory

    @property
    def is_worth_sending(self) -> bool:
        """Return whether there is anything to send."""
        return bool(self.notifications) or self.is_weekly


def decide(
    history: ChannelHistory, findings: Iterable[Finding], is_checked: Callable[[str], bool], now: datetime
) -> AlertDecision:
    """Return what to send to a channel now.

    `is_checked` takes a finding's key and returns whether this run made the check that reports it. A finding that is
    missing in `findings` counts as solved only then; otherwise nothing is known about it, and its record stays.
    """
    notifications, after = list[Notification](), dict[str, Notified]()
    present = _worst_by_key(findings)
    for key, finding in present.items():
        earlier, mark = history.notified.get(key), _mark(finding, now)
        if cause := _cause(earlier, finding, mark, now):
            notifications.append(Notification(cause, finding))
            after[key] = _sent(finding, mark, earlier, now)
        elif earlier:
            after[key] = _unchanged(earlier, finding, mark, now)
    for key, earlier in sorted(history.notified.items(), key=lambda item: -item[1].level):
        if key in present:
            continue
        if earlier.level and is_checked(key):
            notifications.append(
                Notification(Cause.SOLVED, Finding(earlier.subject, Level.OK, earlier.message, since=earlier.since))
            )
            after[key] = replace(earlier, level=Level.OK, at=now)
        elif earlier.level or _within(earlier.at, now, PAUSE):
            after[key] = earlier
    is_weekly = not _within(history.weekly_sent, now, WEEK)
    ordered = tuple(sorted(notifications, key=lambda item: -item.finding.level))
    return AlertDecision(ordered, is_weekly, ChannelHistory(after, now if is_weekly else history.weekly_sent))


def _worst_by_key(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the worst finding for each key, without those at level OK."""
    worst: dict[str, Finding] = {}
    for finding in findings:
        if finding.level and (finding.key not in worst or finding.level > worst[finding.key].level):
            worst[finding.key] = finding
    return worst


def _mark(finding: Finding, now: datetime) -> int | None:
    """Return the smallest of REMINDERS that the deadline has reached; None without a deadline or before the first."""
    if finding.until is None:
        return None
    left = math.ceil((finding.until - now) / DAY)
    return min((mark for mark in REMINDERS if left <= mark), default=None)


def _cause(earlier: Notified | None, finding: Finding, mark: int | None, now: datetime) -> Cause | None:
    """Return why a finding is sent now, None if it is not sent."""
    if earlier is None:
        return Cause.NEW
    if earlier.level is Level.OK:
        return None if _within(earlier.at, now, PAUSE) else Cause.NEW
    if finding.level > earlier.level:
        return Cause.WORSE
    is_nearer = mark is not None and (earlier.mark is None or mark < earlier.mark)
    return Cause.NEARER if is_nearer else None


def _sent(finding: Finding, mark: int | None, earlier: Notified | None, now: datetime) -> Notified:
    """Return the record of a finding that is sent now."""
    since = earlier.since if earlier and earlier.level else finding.since or now
    level = (
        Level.OK if finding.is_over else finding.level
    )  # an event that has passed is sent once, and needs no solution
    return Notified(level, now, mark, since, finding.subject, finding.message)


def _unchanged(earlier: Notified, finding: Finding, mark: int | None, now: datetime) -> Notified:
    """Return the record of a finding that is not sent now.

    Within PAUSE after a message, the record keeps the level that was sent: a finding whose level falls and rises again
    is not sent twice.
    """
    if earlier.level is Level.OK:
        return earlier
    level = earlier.level if _within(earlier.at, now, PAUSE) else finding.level
    return replace(earlier, level=level, mark=mark, message=finding.message)


def _within(at: datetime | None, now: datetime, span: timedelta) -> bool:
    """Return whether `at` is less than `span` ago. A time in the future, after the clock was set back, is not."""
    return at is not None and timedelta() <= now - at < span
