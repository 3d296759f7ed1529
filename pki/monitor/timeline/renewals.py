"""Planned renewals of a leaf: when each certificate is issued, and how the expiry of its authority limits it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pki.authority.renewal import Current
from pki.common.durations import backdate, minimum_gain
from pki.config.model import Leaf
from pki.monitor.timeline.runs import Runs
from pki.x509.certificate_signing import SECOND


@dataclass(frozen=True, slots=True)
class IssuingPeriod:
    """From `at` on, all leaves of an authority are issued again: by another generation, or with another chain."""

    at: datetime
    generation: str
    end: datetime


@dataclass(frozen=True, slots=True)
class Renewals:
    """When a leaf is issued, and until when each certificate is valid. `current` is the present certificate.

    `short` are the certificates that are valid for less than the lifetime of the profile. `gaps` are the times without a
    valid certificate.
    """

    current: Current | None
    issued: tuple[tuple[datetime, datetime], ...]
    short: tuple[tuple[datetime, datetime], ...]
    gaps: tuple[tuple[datetime, datetime | None], ...]


def renewals(
    leaf: Leaf, current: Current | None, issuing_periods: Sequence[IssuingPeriod], runs: Runs, until: datetime
) -> Renewals:
    """Return the renewals of a leaf up to `until`; `current` is its valid certificate, or None."""
    issued: list[tuple[datetime, datetime]] = []
    end = current.not_after if current else None
    last = runs.now - SECOND if current else None
    while (following := _next(leaf, end, last, issuing_periods, runs)) and following[0] <= until:
        issued.append(following)
        last, end = following
    ends = [(runs.now, current.not_after), *issued] if current else issued
    short = [(at, end) for at, end in issued if end < at - backdate(leaf.lifetime) + leaf.lifetime - SECOND]
    gaps: list[tuple[datetime, datetime | None]] = [(end, at) for (_, end), (at, _) in pairwise(ends) if end < at]
    gaps += [(end, None) for _, end in ends[-1:] if end < until]
    if not current and (not issued or issued[0][0] > runs.first):
        gaps.insert(0, (runs.first, issued[0][0] if issued else None))
    return Renewals(current, tuple(issued), tuple(short), tuple(gaps))


def _next(
    leaf: Leaf, end: datetime | None, last: datetime | None, issuing_periods: Sequence[IssuingPeriod], runs: Runs
) -> tuple[datetime, datetime] | None:
    """Return when a leaf is issued next, and until when that certificate is valid; None if it is never issued again.

    Its present certificate was issued at `last` and is valid until `end`.
    """
    past_periods = bisect_right(issuing_periods, last, key=_at) if last else 0  # their number
    next_period = issuing_periods[past_periods] if past_periods < len(issuing_periods) else None
    if end is not None and last is not None and past_periods:
        present_period = issuing_periods[past_periods - 1]
        due = _due(leaf, end, last, present_period, runs)
        if due and (next_period is None or due < next_period.at):
            return due, _end(leaf, due, present_period)
    if next_period is None:
        return None
    at = runs.at(next_period.at)
    return at, _end(leaf, at, next_period)


def _due(leaf: Leaf, end: datetime, last: datetime, period: IssuingPeriod, runs: Runs) -> datetime | None:
    """Return the run that renews a certificate, None if a renewal would gain nothing (`authority/renewal.py`)."""
    gain = minimum_gain(leaf.lifetime, leaf.renew_before)
    first_with_gain = end + gain - leaf.lifetime + backdate(leaf.lifetime) + SECOND
    due = runs.at(max(leaf.renewal_start(end), first_with_gain, last + SECOND))
    return due if _end(leaf, due, period) >= end + gain else None


def _end(leaf: Leaf, at: datetime, period: IssuingPeriod) -> datetime:
    return min(at - backdate(leaf.lifetime) + leaf.lifetime - SECOND, period.end)


def _at(period: IssuingPeriod) -> datetime:
    return period.at
