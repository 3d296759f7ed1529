"""Times as text: in UTC and whole seconds (RFC 3339 §5.6)."""

from __future__ import annotations

from datetime import UTC, date, datetime

INSTANT = "%Y-%m-%dT%H:%M:%SZ"
COMPACT = "%Y%m%dT%H%M%SZ"  # for names of files, and for iCalendar (RFC 5545 §3.3.5)


def instant(now: datetime) -> str:
    """Return a time as text in UTC, to the second."""
    return now.strftime(INSTANT)


def moment(text: str) -> datetime:
    """Return the time that `instant` wrote."""
    return datetime.fromisoformat(text)


def strict_moment(text: str) -> datetime:
    """Return the time that `instant` wrote. Raises ValueError for any other form of a time."""
    return datetime.strptime(text, INSTANT).replace(tzinfo=UTC)


def parse_day(text: str) -> date | None:
    """Return the day of a text such as 2026-11-23; None for an empty text."""
    return date.fromisoformat(text) if text else None
