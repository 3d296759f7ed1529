"""Whether the clock can be believed before something is signed: evidence, and the decision as a pure function of it.

Evidence is asked for only when the clock and the last event of the ledger are far apart. File times are none: whoever sets
the clock sets them too.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from pki.common.errors import PkiError

QUIET = timedelta(days=180)  # since the last event: a machine that was off for four months recovers by itself
BEHIND = timedelta(hours=2)  # before the last event
AGREEMENT = timedelta(minutes=5)
WITNESSES = 2  # hosts: one that is wrong or hostile unlocks nothing
CONFIRM = "./run doit --clock-is-right"
REMEDY = f"set the clock right (timedatectl status); if it is right, confirm it at a terminal: {CONFIRM}"
MOMENT = "%Y-%m-%d %H:%M"
UNSYNCHRONISED = 0x40  # STA_UNSYNC, adjtimex(2)


@dataclass(frozen=True, slots=True)
class HostClock:
    """What a host answered: how far its clock is ahead of ours, None where it did not answer."""

    host: str
    ahead: timedelta | None

    @property
    def agrees(self) -> bool:
        return self.ahead is not None and abs(self.ahead) <= AGREEMENT


@dataclass(frozen=True, slots=True)
class Evidence:
    """What others say of the time: `kernel` is how far a synchronised kernel clock is ahead of ours, else None."""

    kernel: timedelta | None = None
    hosts: tuple[HostClock, ...] = ()

    @property
    def is_kernel_right(self) -> bool:
        return self.kernel is not None and abs(self.kernel) <= AGREEMENT

    @property
    def agreeing(self) -> list[str]:
        return [one.host for one in self.hosts if one.agrees]

    @property
    def is_enough(self) -> bool:
        return self.is_kernel_right or len(self.agreeing) >= WITNESSES


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something may be signed at `now`; `evidence` is None where none was needed, `last` without any event."""

    now: datetime
    last: datetime | None
    evidence: Evidence | None = None
    is_confirmed: bool = False

    @property
    def may_sign(self) -> bool:
        return self.is_confirmed or not doubt(self.now, self.last) or bool(self.evidence and self.evidence.is_enough)

    @property
    def reading(self) -> str:
        """What the clock and the last event say: `the clock says …, 400 days after the last event in the ledger, …`."""
        far = doubt(self.now, self.last)
        return f"the clock says {self.now:{MOMENT}} UTC{f', {far}' if far else ''}"

    @property
    def confirmation(self) -> str:
        """Who agrees with a clock that is far from the last event; "" where it is near, or nobody does."""
        if self.is_confirmed:
            return "confirmed at a terminal"
        if self.evidence is None or not self.evidence.is_enough:
            return ""
        if self.evidence.is_kernel_right:
            return "the synchronised kernel clock agrees"
        return f"{' and '.join(self.evidence.agreeing)} agree"

    @property
    def refusal(self) -> PkiError:
        return PkiError(f"{self.reading}; nothing is signed: {'; '.join(self.statements)}", REMEDY)

    @property
    def statements(self) -> list[str]:
        """What each host and the kernel say of the time, one phrase each."""
        return list(_statements(self.now, self.evidence or Evidence()))


def doubt(now: datetime, last: datetime | None) -> str:
    """Return how far the clock is from the last event of the ledger, as a phrase; "" where it is near, or there is none."""
    if last is None or -BEHIND <= now - last <= QUIET:
        return ""
    side, span = ("after", now - last) if now > last else ("before", last - now)
    far = f"{span.days} day{'' if span.days == 1 else 's'}" if span.days else f"{span.seconds // 3600} hours"
    return f"{far} {side} the last event in the ledger, {last:{MOMENT}}"


def _statements(now: datetime, found: Evidence) -> Iterator[str]:
    for one in found.hosts:
        yield f"{one.host} says {now + one.ahead:{MOMENT}}" if one.ahead is not None else f"{one.host} does not answer"
    if not found.hosts:
        yield "there is no host to ask over ssh"
    if found.kernel is None:
        yield "the kernel clock is not synchronised"
    else:
        yield f"the synchronised kernel clock says {now + found.kernel:{MOMENT}}"


class ClockGuard:
    """The clock of one run. Signing and recording pass here: `check` raises where the clock cannot be believed.

    `last_event` and `evidence` are called once, the latter only where the clock is far from the last event of the ledger.
    Without `evidence` the kernel alone is asked.
    """

    def __init__(
        self, now: datetime, last_event: Callable[[], datetime | None], evidence: Callable[[], Evidence] | None = None
    ) -> None:
        self._now = now
        self._last_event = last_event
        self._evidence = evidence or self.kernel
        self._started = time.monotonic()

    @property
    def present(self) -> datetime:
        """What the clock says at this very moment, which is later than `now` while a run takes its time."""
        return self._now + timedelta(seconds=round(time.monotonic() - self._started))

    def kernel(self) -> Evidence:
        """What the kernel says of the time."""
        found = kernel_time()
        return Evidence(found - self.present if found else None)

    @cached_property
    def verdict(self) -> Verdict:
        last = self._last_event()
        return Verdict(self._now, last, self._evidence() if doubt(self._now, last) else None)

    @cached_property
    def _doubted(self) -> datetime | None:
        """The last event of the ledger where the clock is far from it; evidence is not asked for here.

        None where the ledger cannot be read either: what is signed or recorded fails by that, and all else goes on.
        """
        try:
            last = self._last_event()
        except PkiError:
            return None
        return last if doubt(self._now, last) else None

    @cached_property
    def trusted_now(self) -> datetime:
        """The moment by which something has ended: now, or that of the last event while nobody confirms the clock.

        What ended is removed, here and on hosts.
        """
        last = self._doubted
        return self._now if last is None or self.verdict.may_sign else last

    def has_ended(self, end: datetime) -> bool:
        """Return whether something that ends at `end` has ended. Evidence is asked for only if the answer depends on it."""
        last = self._doubted
        if last is None or (end < self._now) == (end < last):
            return end < self._now
        return end < self.trusted_now

    def check(self) -> None:
        """Raise PkiError where the clock cannot be believed."""
        if not self.verdict.may_sign:
            raise self.verdict.refusal

    def confirm(self) -> None:
        """Take the clock as right from now on: somebody confirmed it, or the ledger comes from a backup."""
        self.__dict__["verdict"] = Verdict(self._now, None, is_confirmed=True)
        self.__dict__["_doubted"], self.__dict__["trusted_now"] = None, self._now


# -- the kernel -------------------------------------------------------------------------------------------------------


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), with room for what follows the fields that are read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "seconds", "fraction")),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_time() -> datetime | None:
    """Return the time of the kernel clock while it is synchronised (NTP, PTP); None otherwise, as in most containers."""
    found = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(found))
    except (AttributeError, OSError):  # no Linux
        return None
    if state not in range(5) or found.status & UNSYNCHRONISED:  # TIME_ERROR is 5
        return None
    return datetime.fromtimestamp(found.seconds, UTC)
