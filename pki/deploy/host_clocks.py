"""The clocks of hosts: a few are asked in parallel, for a limited time."""

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

PARALLEL = 4  # hosts that are asked at once
MAX_HOSTS = 16  # that are asked, in four batches of at most HOST_TIMEOUT each
HOST_TIMEOUT = 15.0  # seconds


def clock_offsets(
    transports: Sequence[Transport], clock: Callable[[], datetime]
) -> Iterator[tuple[str, timedelta | None]]:
    """Yield each host with how far its clock is ahead of `clock`, None where it does not answer in time.

    If the caller stops iterating, the remaining hosts are not asked.
    """
    with ThreadPoolExecutor(PARALLEL) as pool:
        for first in range(0, min(len(transports), MAX_HOSTS), PARALLEL):
            batch = transports[first : first + PARALLEL]
            yield from zip(
                (transport.host for transport in batch),
                pool.map(lambda transport: _clock_offset(transport, clock), batch),
                strict=True,
            )


def answer_date(answer: Answer) -> datetime | None:
    """Return the date in the greeting of a host, None if it has none or an impossible one."""
    date = answer.get("date")
    if not isinstance(date, int) or isinstance(date, bool) or not 0 <= date < 1 << 37:
        return None
    return datetime.fromtimestamp(date, UTC)


def _clock_offset(transport: Transport, clock: Callable[[], datetime]) -> timedelta | None:
    """Ask one host: pki-apply gets an empty manifest, and sends its date before it checks anything."""
    with (
        suppress(DisconnectedError, OSError),  # the host is down: it is no evidence
        Process(transport.command(as_root=False), Limits(HOST_TIMEOUT, HOST_TIMEOUT)) as process,
    ):
        process.send(opening_message(transport.host, ()))
        for _ in range(host_output.max_answers(0)):
            answer = host_output.read(process.read_line()) or {}
            if "pki-apply" in answer or "error" in answer:
                date = answer_date(answer)
                return date - clock() if date else None
    return None
