"""The types of durations, times of day and holidays in pki.yaml. The type of windows is in `delivery_window`."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from pki.config.fields import json_pattern, matching

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}  # units that are printed, and those of timeouts; m is a minute
UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400}  # units of durations in pki.yaml
DURATION = re.compile(r"([1-9][0-9]{0,4})(h|d|w|mo|y)")
TIMEOUT = re.compile(r"([1-9][0-9]{0,3})(s|m)")
LONGEST_TIMEOUT = timedelta(minutes=15)  # pki-apply on the host ends by itself after this time
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value  # a default value, which is a duration already; pydantic refuses anything else
    match = DURATION.fullmatch(value)
    if not match:
        raise ValueError("expected a number and a unit such as 90d (h, d, w, mo = 30 d, y = 365 d)")
    return timedelta(seconds=int(match[1]) * UNITS[match[2]])


def _renew_spread(value: Any) -> Any:
    """Return a duration that may be zero (`0d`)."""
    return timedelta(0) if value in {"0", "0d", "0h"} else _duration(value)


def _timeout(value: Any) -> Any:
    """Return a timeout for a host, in seconds or minutes."""
    if isinstance(value, timedelta):
        return value  # a default value
    match = TIMEOUT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError("expected seconds or minutes such as 120s or 10m")
    span = timedelta(seconds=int(match[1]) * SECONDS[match[2]])
    if span > LONGEST_TIMEOUT:
        raise ValueError("more than 15m: pki-apply ends by itself after that time")
    return span


def format_duration(span: timedelta) -> str:
    """Return a duration in the largest exact unit, such as `90d`, `36h` or `2m`."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit in "dhms" if seconds % SECONDS[unit] == 0)
    return f"{seconds // SECONDS[unit]}{unit}"


def holiday_dates(holiday: str) -> tuple[date, date]:
    """Return the first and the last day of `2026-12-24` or of `2026-12-20..2027-01-06`."""
    first_day, _, last_day = holiday.partition("..")
    return date.fromisoformat(first_day), date.fromisoformat(last_day or first_day)


def _holiday(value: str) -> str:
    expected = "expected a day such as 2026-12-24, or days such as 2026-12-20..2027-01-06"
    if not re.fullmatch(rf"{DAY}(\.\.{DAY})?", value):
        raise ValueError(expected)
    try:
        first_day, last_day = holiday_dates(value)
    except ValueError:
        raise ValueError(f"{expected}; the calendar has no such day") from None
    if last_day < first_day:
        raise ValueError(f"ends before it begins: write {last_day}..{first_day}")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration),
    json_pattern(DURATION.pattern),
]

Timeout = Annotated[
    timedelta,
    BeforeValidator(_timeout),
    PlainSerializer(format_duration),
    json_pattern(TIMEOUT.pattern),
]

RenewSpread = Annotated[
    timedelta,
    BeforeValidator(_renew_spread),
    PlainSerializer(format_duration),
    json_pattern(rf"0[dh]?|{DURATION.pattern}"),
]

TimeOfDay = Annotated[str, matching(TIME, "a time of day such as 06:00"), json_pattern(TIME)]
Holiday = Annotated[str, AfterValidator(_holiday), json_pattern(rf"{DAY}(\.\.{DAY})?")]
