"""Decide which findings are sent through one channel (mail, ntfy, …) now.

A finding is sent when it is new, when it gets worse, when its deadline comes closer (30, 14, 7, 3, 1, 0 days), and when
it is solved. A finding that disappears and comes back is sent at most once in 20 hours. All findings are sent once a week.
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
class NotifiedFinding:
    """The last message about one finding.

    `level` is OK once the finding was solved. `reminder` is the smallest of REMINDERS that its deadline had reached, None
    before the first of them. `since` is when the finding was first sent.
    """

    level: Level
    at: datetime
    reminder: int | None
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

    notified: Mapping[str, NotifiedFinding] = field(default_factory=dict)
    weekly_sent: datetime | None = None


@dataclass(frozen=True, slots=True)
class AlertDecision:
    """What to send now: notifications, the weekly message (all findings), or both; and the history once that was sent."""

    notifications: tuple[Notification, ...]
    is_weekly: bool
    new_history: ChannelHistory

    @property
    def is_worth_sending(self) -> bool:
        """Return whether there is anything to send."""
        return bool(self.notifications) or self.is_weekly


def decide(
    history: ChannelHistory, findings: Iterable[Finding], is_checked: Callable[[str], bool], now: datetime
) -> AlertDecision:
    """Return what to send to a channel now.

    `is_checked` takes the key of a finding and returns whether this run made the check that reports the finding. A finding
    that is missing in `findings` counts as solved only if its check was made. Otherwise nothing is known about the
    finding, and its record stays.
    """
    notifications, notified_by_key = list[Notification](), dict[str, NotifiedFinding]()
    findings_by_key = _worst_by_key(findings)
    for key, finding in findings_by_key.items():
        last_notified, reminder = history.notified.get(key), _reminder(finding, now)
        if cause := _cause(last_notified, finding, reminder, now):
            notifications.append(Notification(cause, finding))
            notified_by_key[key] = _sent(finding, reminder, last_notified, now)
        elif last_notified:
            notified_by_key[key] = _unchanged(last_notified, finding, reminder, now)
    worst_first = sorted(history.notified.items(), key=lambda item: -item[1].level)
    for key, last_notified in worst_first:
        if key in findings_by_key:
            continue
        is_unsolved = bool(last_notified.level)
        is_recently_solved = not is_unsolved and _within(last_notified.at, now, PAUSE)
        if is_unsolved and is_checked(key):
            notifications.append(
                Notification(
                    Cause.SOLVED,
                    Finding(last_notified.subject, Level.OK, last_notified.message, since=last_notified.since),
                )
            )
            notified_by_key[key] = replace(last_notified, level=Level.OK, at=now)
        elif is_unsolved or is_recently_solved:  # if it comes back within PAUSE, it is not sent again
            notified_by_key[key] = last_notified
    is_weekly = not _within(history.weekly_sent, now, WEEK)
    ordered_notifications = tuple(sorted(notifications, key=lambda item: -item.finding.level))
    return AlertDecision(
        ordered_notifications, is_weekly, ChannelHistory(notified_by_key, now if is_weekly else history.weekly_sent)
    )


def _worst_by_key(findings: Iterable[Finding]) -> dict[str, Finding]:
    """Return the worst finding for each key, without the findings at level OK."""
    worst: dict[str, Finding] = {}
    for finding in findings:
        if finding.level and (finding.key not in worst or finding.level > worst[finding.key].level):
            worst[finding.key] = finding
    return worst


def _reminder(finding: Finding, now: datetime) -> int | None:
    """Return the smallest of REMINDERS that the deadline has reached; None without a deadline or before the first."""
    if finding.until is None:
        return None
    days_left = math.ceil((finding.until - now) / DAY)
    return min((days for days in REMINDERS if days_left <= days), default=None)


def _cause(
    last_notified: NotifiedFinding | None, finding: Finding, reminder: int | None, now: datetime
) -> Cause | None:
    """Return why a finding is sent now; None if it is not sent. `last_notified` is the last message about the finding."""
    if last_notified is None:
        return Cause.NEW
    if last_notified.level is Level.OK:
        return None if _within(last_notified.at, now, PAUSE) else Cause.NEW
    if finding.level > last_notified.level:
        return Cause.WORSE
    is_nearer = reminder is not None and (last_notified.reminder is None or reminder < last_notified.reminder)
    return Cause.NEARER if is_nearer else None


def _sent(
    finding: Finding, reminder: int | None, last_notified: NotifiedFinding | None, now: datetime
) -> NotifiedFinding:
    """Return the record of a finding that is sent now."""
    was_unsolved = last_notified is not None and bool(last_notified.level)
    since = last_notified.since if last_notified is not None and was_unsolved else (finding.since or now)
    level = Level.OK if finding.is_over else finding.level  # an event that is over is sent once, and never as solved
    return NotifiedFinding(level, now, reminder, since, finding.subject, finding.message)


def _unchanged(
    last_notified: NotifiedFinding, finding: Finding, reminder: int | None, now: datetime
) -> NotifiedFinding:
    """Return the record of a finding that is not sent now.

    Within PAUSE after a message, the record keeps the level that was sent, so that a finding whose level falls and rises
    again is not sent twice.
    """
    if last_notified.level is Level.OK:
        return last_notified
    level = last_notified.level if _within(last_notified.at, now, PAUSE) else finding.level
    return replace(last_notified, level=level, reminder=reminder, message=finding.message)


def _within(at: datetime | None, now: datetime, span: timedelta) -> bool:
    """Return whether `at` is less than `span` ago; False for a time in the future, after the clock was set back."""
    return at is not None and timedelta() <= now - at < span
