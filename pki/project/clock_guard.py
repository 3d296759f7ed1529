"""Decide whether the clock can be trusted before something is signed: evidence, and a pure function of it.

Evidence is collected only when the clock and the last event of the ledger are far apart. File times are not evidence:
they are set from the same clock.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from pki.common.errors import PkiError

# How far the clock may be from the last event of the ledger without any confirmation.
LONGEST_AFTER = timedelta(days=180)  # a machine that was off for some months needs no confirmation
LONGEST_BEFORE = timedelta(hours=2)
AGREEMENT = timedelta(minutes=5)  # the greatest difference between two clocks that agree
MIN_AGREEING_HOSTS = 2  # one host may be wrong or hostile
CONFIRM = "./run doit --clock-is-right"
REMEDY = f"set the clock right (timedatectl status); if it is right, confirm it at a terminal: {CONFIRM}"
MOMENT = "%Y-%m-%d %H:%M"
UNSYNCHRONISED = 0x40  # STA_UNSYNC, adjtimex(2)


@dataclass(frozen=True, slots=True)
class HostClock:
    """The clock of a host: how far it is ahead of ours; None where the host did not answer."""

    host: str
    ahead: timedelta | None

    @property
    def agrees(self) -> bool:
        """Return whether the clock of the host agrees with ours."""
        return self.ahead is not None and abs(self.ahead) <= AGREEMENT


@dataclass(frozen=True, slots=True)
class Evidence:
    """Clocks other than ours.

    `kernel_ahead` is how far a synchronised kernel clock is ahead of ours; None if not synchronised.
    """

    kernel_ahead: timedelta | None = None
    hosts: tuple[HostClock, ...] = ()

    @property
    def is_kernel_right(self) -> bool:
        """Return whether the kernel clock is synchronised and agrees with ours."""
        return self.kernel_ahead is not None and abs(self.kernel_ahead) <= AGREEMENT

    @property
    def agreeing(self) -> list[str]:
        """Return the hosts whose clock agrees with ours."""
        return [host.host for host in self.hosts if host.agrees]

    @property
    def is_enough(self) -> bool:
        """Return whether the evidence confirms the clock."""
        return self.is_kernel_right or len(self.agreeing) >= MIN_AGREEING_HOSTS


@dataclass(frozen=True, slots=True)
class ClockVerdict:
    """The decision whether something may be signed at `now`.

    `last` is the time of the last event, None without any; `evidence` is None where none was needed.
    """

    now: datetime
    last: datetime | None
    evidence: Evidence | None = None
    is_confirmed: bool = False

    @property
    def may_sign(self) -> bool:
        """Return whether something may be signed."""
        return self.is_confirmed or not doubt(self.now, self.last) or bool(self.evidence and self.evidence.is_enough)

    @property
    def reading(self) -> str:
        """Return what the clock says and how far it is from the last event, as a phrase.

        For example `the clock says 2026-11-23 06:00 UTC, 400 days after the last event in the ledger, …`.
        """
        far = doubt(self.now, self.last)
        return f"the clock says {self.now:{MOMENT}} UTC{f', {far}' if far else ''}"

    @property
    def confirmation(self) -> str:
        """Return what confirms a clock that is far from the last event; "" where it is near, or nothing confirms it."""
        if self.is_confirmed:
            return "confirmed at a terminal"
        if self.evidence is None or not self.evidence.is_enough:
            return ""
        if self.evidence.is_kernel_right:
            return "the synchronised kernel clock agrees"
        return f"{' and '.join(self.evidence.agreeing)} agree"

    @property
    def refusal(self) -> PkiError:
        """Return the error for an operation that must not be done with this clock."""
        return PkiError(f"{self.reading}; nothing is signed: {'; '.join(self.statements)}", REMEDY)

    @property
    def statements(self) -> list[str]:
        """Return what each host and the kernel say about the time, one phrase each."""
        return list(_statements(self.now, self.evidence or Evidence()))


def doubt(now: datetime, last: datetime | None) -> str:
    """Return how far the clock is from the last event of the ledger, as a phrase.

    Returns "" where it is near, or where there is no event.
    """
    if last is None or -LONGEST_BEFORE <= now - last <= LONGEST_AFTER:
        return ""
    side, span = ("after", now - last) if now > last else ("before", last - now)
    far = f"{span.days} day{'' if span.days == 1 else 's'}" if span.days else f"{span.seconds // 3600} hours"
    return f"{far} {side} the last event in the ledger, {last:{MOMENT}}"


def _statements(now: datetime, evidence: Evidence) -> Iterator[str]:
    for host in evidence.hosts:
        yield (
            f"{host.host} says {now + host.ahead:{MOMENT}}"
            if host.ahead is not None
            else f"{host.host} does not answer"
        )
    if not evidence.hosts:
        yield "there is no host to ask over ssh"
    if evidence.kernel_ahead is None:
        yield "the kernel clock is not synchronised"
    else:
        yield f"the synchronised kernel clock says {now + evidence.kernel_ahead:{MOMENT}}"


class ClockGuard:
    """The clock of one run. Signing and recording call `check`, which raises where the clock cannot be trusted.

    `last_event` and `evidence` are called once, the latter only where the clock is far from the last event of the
    ledger. Without `evidence` only the kernel is asked.
    """

    def __init__(
        self, now: datetime, last_event: Callable[[], datetime | None], evidence: Callable[[], Evidence] | None = None
    ) -> None:
        self._now = now
        self._last_event = last_event
        self._evidence = evidence or self.kernel_evidence
        self._started = time.monotonic()

    @property
    def present(self) -> datetime:
        """Return the time at this moment, which is later than `now` in a run that takes long."""
        return self._now + timedelta(seconds=round(time.monotonic() - self._started))

    def kernel_evidence(self) -> Evidence:
        """Return the evidence of the kernel clock."""
        time_of_kernel = kernel_time()
        return Evidence(time_of_kernel - self.present if time_of_kernel else None)

    @cached_property
    def verdict(self) -> ClockVerdict:
        """Return the decision for this run."""
        last = self._last_event()
        return ClockVerdict(self._now, last, self._evidence() if doubt(self._now, last) else None)

    @cached_property
    def _last_event_if_far(self) -> datetime | None:
        """Return the last event of the ledger where the clock is far from it; collects no evidence.

        None where the ledger cannot be read either: then signing and recording fail for that reason, and everything
        else goes on.
        """
        try:
            last = self._last_event()
        except PkiError:
            return None
        return last if doubt(self._now, last) else None

    @cached_property
    def trusted_now(self) -> datetime:
        """Return the moment that decides what has expired: now, or the last event while nothing confirms the clock.

        A wrong clock must not decide it, because expired files are removed, on this machine and on hosts.
        """
        last = self._last_event_if_far
        return self._now if last is None or self.verdict.may_sign else last

    def has_passed(self, end: datetime) -> bool:
        """Return whether `end` has passed. Collects evidence only if the answer depends on it."""
        last = self._last_event_if_far
        if last is None or (end < self._now) == (end < last):
            return end < self._now  # the clock and the last event give the same answer
        return end < self.trusted_now

    def check(self) -> None:
        """Raise PkiError where the clock cannot be trusted."""
        if not self.verdict.may_sign:
            raise self.verdict.refusal

    def confirm(self) -> None:
        """Treat the clock as right from now on: the user confirmed it, or the ledger was restored from a backup."""
        # these are the values of cached properties
        self.__dict__["verdict"] = ClockVerdict(self._now, None, is_confirmed=True)
        self.__dict__["_last_event_if_far"], self.__dict__["trusted_now"] = None, self._now


# -- the kernel -------------------------------------------------------------------------------------------------------


class _Timex(ctypes.Structure):
    """The structure `timex` of adjtimex(2), with room for the fields that are not read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "seconds", "fraction")),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_time() -> datetime | None:
    """Return the time of the kernel clock while it is synchronised (NTP, PTP).

    Returns None otherwise, as in most containers.
    """
    timex = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):  # not Linux
        return None
    if state not in range(5) or timex.status & UNSYNCHRONISED:  # TIME_ERROR is 5
        return None
    return datetime.fromtimestamp(timex.seconds, UTC)
