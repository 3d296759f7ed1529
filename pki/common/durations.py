"""Calculate and format durations of certificates and CRLs, from minutes to years."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
UNITS = (("day", DAY), ("hour", HOUR), ("minute", MINUTE))  # largest first
LARGEST_COUNT = 366  # the largest count in one unit: about a year, in days
BACKDATED = HOUR  # at most: for hosts whose clock is behind


def backdate(used: timedelta) -> timedelta:
    """Return how long before signing a certificate or CRL becomes valid: 1/12 of its time of use, at most an hour.

    `used` is the lifetime of a certificate, or the time to the next CRL. The result is in whole seconds.
    """
    return min(BACKDATED, timedelta(seconds=used // timedelta(seconds=12)))


def minimum_gain(lifetime: timedelta, renew_before: timedelta) -> timedelta:
    """Return by how much a renewal must extend the expiry to be worthwhile: a day, less for short lifetimes."""
    return min(DAY, (lifetime - renew_before) / 4)


def is_usable(lifetime: timedelta, renew_before: timedelta) -> bool:
    """Return whether the time of use of a certificate, until its renewal, is at least as long as its back-dating."""
    return lifetime - renew_before >= 2 * backdate(lifetime)


def longest_pause(times: Iterable[str]) -> timedelta:
    """Return the longest time between two of the daily `times` (`04:00`), or zero without times."""
    minutes = sorted({60 * int(clock_time[:2]) + int(clock_time[3:]) for clock_time in times})
    following = [*minutes[1:], *(minute + 24 * 60 for minute in minutes[:1])]
    return max(
        (MINUTE * (after - before) for before, after in zip(minutes, following, strict=True)), default=timedelta()
    )


def in_words(span: timedelta) -> str:
    """Return a duration such as `12 days`, `35 hours` or `1 minute`, in the largest unit with at least two."""
    name, unit = _unit(span)
    count = max(span, timedelta()) // unit
    return f"{count} {name}{'' if count == 1 else 's'}"


def at_least(span: timedelta) -> timedelta:
    """Return a duration rounded up to whole units of `in_words`."""
    unit = _unit(span)[1]
    return -(-span // unit) * unit


def rounded(span: timedelta) -> timedelta:
    """Return a duration rounded to whole days, or to hours or minutes if it is much shorter than a day."""
    unit = next((unit for _, unit in UNITS if span >= 0.9 * unit), MINUTE)
    return round(span / unit) * unit


def in_brief(span: timedelta) -> str:
    """Return a duration such as `12` (days), `35h` or `1m`, for a column of days."""
    name, unit = _unit(span) if span > timedelta() else UNITS[0]
    return f"{span // unit}{'' if name == 'day' else name[0]}"


def in_common_unit(*spans: timedelta) -> tuple[list[str], str]:
    """Return durations as counts of a common unit and the unit: `["28", "90"], "days"`; or as `in_words`, and ""."""
    name, unit = min((_unit(span) for span in spans), key=lambda unit_and_count: unit_and_count[1])
    if max(spans) // unit <= LARGEST_COUNT:
        return [str(span // unit) for span in spans], f"{name}s"
    return [in_words(span) for span in spans], ""


def _unit(span: timedelta) -> tuple[str, timedelta]:
    return next(((name, unit) for name, unit in UNITS if span >= 2 * unit), UNITS[-1])
