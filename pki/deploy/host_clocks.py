"""What hosts say the time is: a few asked at once, for a bounded time, until two agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pki.deploy import host_output
from pki.deploy.host_output import Answer
from pki.deploy.process import DisconnectedError, Limits, Process
from pki.deploy.protocol import opening_message
from pki.deploy.ssh import Transport

PARALLEL = 4
MAX_HOSTS = 16  # hosts at most: four times the limit below, in all
HOST_TIMEOUT = 15.0  # seconds for one host


def clock_offsets(ways: Sequence[Transport], clock: Callable[[], datetime]) -> Iterator[tuple[str, timedelta | None]]:
    """Yield of each host how far its clock is ahead of `clock`, None where it does not answer in time.

    Whoever has heard enough stops: the hosts after that are not asked.
    """
    with ThreadPoolExecutor(PARALLEL) as pool:
        for first in range(0, min(len(ways), MAX_HOSTS), PARALLEL):
            some = ways[first : first + PARALLEL]
            yield from zip(
                (way.host for way in some), pool.map(lambda way: _clock_offset(way, clock), some), strict=True
            )


def answer_date(answer: Answer) -> datetime | None:
    """The date in a host's first answer; None where it sends none, or none that can be."""
    date = answer.get("date")
    if not isinstance(date, int) or isinstance(date, bool) or not 0 <= date < 1 << 37:
        return None
    return datetime.fromtimestamp(date, UTC)


def _clock_offset(way: Transport, clock: Callable[[], datetime]) -> timedelta | None:
    """Ask one host: pki-apply is greeted with an empty manifest, and tells its date before it looks at anything."""
    with (
        suppress(DisconnectedError, OSError),
        Process(way.command(as_root=False), Limits(HOST_TIMEOUT, HOST_TIMEOUT)) as wire,
    ):
        wire.send(opening_message(way.host, ()))
        for _ in range(host_output.max_answers(0)):
            answer = host_output.read(wire.read_line()) or {}
            if "pki-apply" in answer or "error" in answer:
                date = answer_date(answer)
                return date - clock() if date else None
    return None
