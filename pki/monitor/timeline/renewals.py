"""Planned renewals of a leaf: when each certificate is issued, and how the expiry of its authority limits it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter

from pki.authority.renewal import CertificateSummary
from pki.common.durations import backdate, minimum_gain
from pki.config.model import Leaf
from pki.monitor.timeline.runs import Runs
from pki.x509.certificate_signing import SECOND


@dataclass(frozen=True, slots=True)
class IssuingPeriod:
    """From `at` on, a generation issues the leaves of an authority; all of them are issued again then.

    The period ends when the next one begins. `ca_expiry` is the expiry of the generation, which no leaf outlives. A new
    period also begins when the chain of the same generation changes.
    """

    at: datetime
    generation: str
    ca_expiry: datetime


@dataclass(frozen=True, slots=True)
class Renewals:
    """When a leaf is issued, and until when each certificate is valid.

    `short` are the certificates that are valid for less than the lifetime of the profile. `gaps` are the times without a
    valid certificate.
    """

    issued: tuple[tuple[datetime, datetime], ...]
    short: tuple[tuple[datetime, datetime], ...]
    gaps: tuple[tuple[datetime, datetime | None], ...]


def renewals(
    leaf: Leaf,
    certificate: CertificateSummary | None,
    issuing_periods: Sequence[IssuingPeriod],
    runs: Runs,
    until: datetime,
) -> Renewals:
    """Return the renewals of a leaf up to `until`; `certificate` is its valid certificate, or None."""
    issued: list[tuple[datetime, datetime]] = []
    expiry = certificate.not_after if certificate else None
    # A present certificate counts as issued just before now, so that only what follows now is planned.
    issued_at = runs.now - SECOND if certificate else None
    while (following := _next(leaf, expiry, issued_at, issuing_periods, runs)) and following[0] <= until:
        issued.append(following)
        issued_at, expiry = following
    validities = [(runs.now, certificate.not_after), *issued] if certificate else issued
    short = [(at, expiry) for at, expiry in issued if expiry < _full_expiry(leaf, at)]
    gaps: list[tuple[datetime, datetime | None]] = [
        (expiry, at) for (_, expiry), (at, _) in pairwise(validities) if expiry < at
    ]
    gaps += [(expiry, None) for _, expiry in validities[-1:] if expiry < until]
    # Without a certificate, the gap begins at the next run: before it, nothing could be issued.
    if not certificate and (not issued or issued[0][0] > runs.first):
        gaps.insert(0, (runs.first, issued[0][0] if issued else None))
    return Renewals(tuple(issued), tuple(short), tuple(gaps))


def _next(
    leaf: Leaf,
    expiry: datetime | None,
    issued_at: datetime | None,
    issuing_periods: Sequence[IssuingPeriod],
    runs: Runs,
) -> tuple[datetime, datetime] | None:
    """Return when a leaf is issued next, and until when that certificate is valid; None if it is never issued again.

    The certificate before it was issued at `issued_at` and is valid until `expiry`; both are None if there is none.
    """
    past_periods = bisect_right(issuing_periods, issued_at, key=attrgetter("at")) if issued_at else 0  # their number
    next_period = issuing_periods[past_periods] if past_periods < len(issuing_periods) else None
    if expiry is not None and issued_at is not None and past_periods:
        present_period = issuing_periods[past_periods - 1]
        due_time = _due(leaf, expiry, issued_at, present_period, runs)
        if due_time and (next_period is None or due_time < next_period.at):
            return due_time, _expiry(leaf, due_time, present_period)
    if next_period is None:
        return None
    at = runs.at(next_period.at)
    return at, _expiry(leaf, at, next_period)


def _due(leaf: Leaf, expiry: datetime, issued_at: datetime, period: IssuingPeriod, runs: Runs) -> datetime | None:
    """Return the run that renews a certificate, None if a renewal would gain nothing (`authority/renewal.py`)."""
    expiry_with_gain = expiry + minimum_gain(leaf.lifetime, leaf.renew_before)
    first_with_gain = expiry_with_gain - (_full_expiry(leaf, runs.now) - runs.now)
    due = runs.at(max(leaf.renewal_start(expiry), first_with_gain, issued_at + SECOND))
    return due if _expiry(leaf, due, period) >= expiry_with_gain else None


def _full_expiry(leaf: Leaf, at: datetime) -> datetime:
    """Return notAfter of a certificate of full lifetime that is issued at `at`; notBefore is earlier (`backdate`)."""
    return at - backdate(leaf.lifetime) + leaf.lifetime - SECOND


def _expiry(leaf: Leaf, at: datetime, period: IssuingPeriod) -> datetime:
    """Return notAfter of a certificate that is issued at `at`: it never outlives its issuer."""
    return min(_full_expiry(leaf, at), period.ca_expiry)
