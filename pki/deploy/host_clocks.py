"""What hosts say the time is: a few asked at once, for a bounded time, until two agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pki.deploy import host_output
from pki.deploy.host_output import Answer
from pki.deploy.process import Limits, SilenceError, Wire
from pki.deploy.protocol import opening
from pki.deploy.ssh import Way

AT_ONCE = 4
ASKED = 16  # hosts at most: four times the limit below, in all
LIMIT = 15.0  # seconds for one host


def ask(ways: Sequence[Way], clock: Callable[[], datetime]) -> Iterator[tuple[str, timedelta | None]]:
    """Yield of each host how far its clock is ahead of `clock`, None where it does not answer in time.

    Whoever has heard enough stops: the hosts after that are not asked.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, min(len(ways), ASKED), AT_ONCE):
            some = ways[first : first + AT_ONCE]
            yield from zip((way.host for way in some), pool.map(lambda way: _ahead(way, clock), some), strict=True)


def date_of(answer: Answer) -> datetime | None:
    """The date in a host's first answer; None where it sends none, or none that can be."""
    date = answer.get("date")
    if not isinstance(date, int) or isinstance(date, bool) or not 0 <= date < 1 << 37:
        return None
    return datetime.fromtimestamp(date, UTC)


def _ahead(way: Way, clock: Callable[[], datetime]) -> timedelta | None:
    """Ask one host: pki-apply is greeted with an empty manifest, and tells its date before it looks at anything."""
    with suppress(SilenceError, OSError), Wire(way.command(as_root=False), Limits(LIMIT, LIMIT)) as wire:
        wire.send(opening(way.host, ()))
        for _ in range(host_output.most(0)):
            answer = host_output.read(wire.line()) or {}
            if "pki-apply" in answer or "error" in answer:
                date = date_of(answer)
                return date - clock() if date else None
    return None
