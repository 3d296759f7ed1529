"""Arithmetic and words of the times that certificates and CRLs last: from minutes to years."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
UNITS = (("day", DAY), ("hour", HOUR), ("minute", MINUTE))
LARGEST_COUNT = 366  # of one unit, beside a smaller number of it
BACKDATED = HOUR  # hosts with slow clocks


def backdate(used: timedelta) -> timedelta:
    """Return how long before its signature something begins: a twelfth of the time it is used for, at most an hour.

    `used` is the lifetime of a certificate, or the time to the next CRL: neither is over when it begins.
    """
    return min(BACKDATED, timedelta(seconds=used // timedelta(seconds=12)))


def minimum_gain(lifetime: timedelta, renew_before: timedelta) -> timedelta:
    """Return how much later a renewed certificate must end for a renewal to be of use: a day, less for short lifetimes."""
    return min(DAY, (lifetime - renew_before) / 4)


def is_usable(lifetime: timedelta, renew_before: timedelta) -> bool:
    """Return whether a certificate is used, after its back-dating and before its renewal, for as long as it is back-dated."""
    return lifetime - renew_before >= 2 * backdate(lifetime)


def longest_pause(times: Iterable[str]) -> timedelta:
    """Return the longest time between two of some daily times such as `04:00`; nothing where there are none."""
    minutes = sorted({60 * int(one[:2]) + int(one[3:]) for one in times})
    following = [*minutes[1:], *(one + 24 * 60 for one in minutes[:1])]
    return max(
        (MINUTE * (after - before) for before, after in zip(minutes, following, strict=True)), default=timedelta()
    )


def in_words(span: timedelta) -> str:
    """`12 days`, `35 hours`, `1 minute`: whole units, in the largest one of which there are at least two."""
    name, unit = _unit(span)
    count = max(span, timedelta()) // unit
    return f"{count} {name}{'' if count == 1 else 's'}"


def at_least(span: timedelta) -> timedelta:
    """Return a span rounded up to whole units of `in_words`."""
    unit = _unit(span)[1]
    return -(-span // unit) * unit


def rounded(span: timedelta) -> timedelta:
    """Return a span in whole days; where it is much less than one, in whole hours or minutes."""
    unit = next((unit for _, unit in UNITS if span >= 0.9 * unit), MINUTE)
    return round(span / unit) * unit


def in_brief(span: timedelta) -> str:
    """`12`, `35h`, `1m`: as `in_words`, for a column of days."""
    name, unit = _unit(span) if span > timedelta() else UNITS[0]
    return f"{span // unit}{'' if name == 'day' else name[0]}"


def in_common_unit(*spans: timedelta) -> tuple[list[str], str]:
    """Return spans as numbers of one unit, and that unit: `["28", "90"], "days"`; or each in words, and no unit."""
    name, unit = min((_unit(span) for span in spans), key=lambda one: one[1])
    if max(spans) // unit <= LARGEST_COUNT:
        return [str(span // unit) for span in spans], f"{name}s"
    return [in_words(span) for span in spans], ""


def _unit(span: timedelta) -> tuple[str, timedelta]:
    return next(((name, unit) for name, unit in UNITS if span >= 2 * unit), UNITS[-1])
