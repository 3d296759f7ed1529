"""Child processes: their environment, their end, and waiting for their pipes."""

from __future__ import annotations

import ctypes
import math
import os
import select
import signal
from collections.abc import Collection, Iterable
from contextlib import suppress

STOPPED = 128 + signal.SIGINT  # exit status after Ctrl-C
PR_SET_PDEATHSIG = 1  # prctl(2)
LIBPQ_PASSWORD = "PGPASSWORD"  # noqa: S105 - a name: https://www.postgresql.org/docs/current/libpq-envars.html
_removed: dict[str, bytes] = {}  # forked processes inherit it


def remove_from_environment(names: Iterable[str]) -> None:
    """Remove secrets from the environment, so that no program that is started later inherits them.

    `removed_variable` returns their values. `/proc/PID/environ` of this process still has them: it never changes.
    """
    for name in names:
        if (value := os.environb.pop(name.encode(), None)) is not None:
            _removed[name] = value


def removed_variable(name: str) -> bytes:
    """Return the value of a variable that was removed from the environment, or b"" if it was not set."""
    return _removed.get(name, b"")


def end_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel end this process when `parent`, which forked it, ends; at once if it has already ended.

    prctl(2) exists on Linux only. Elsewhere a process ends when it finds its pipe closed.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def wait_ready(readers: Collection[int], writers: Collection[int], seconds: float) -> set[int]:
    """Wait up to `seconds` and return the descriptors that can be read or written; an empty set after that time.

    Uses poll(2), because select(2) is limited to descriptors below 1024.
    """
    poll = select.poll()
    for descriptor in readers:
        poll.register(descriptor, select.POLLIN)
    for descriptor in writers:
        poll.register(descriptor, select.POLLOUT)
    return {descriptor for descriptor, _ in poll.poll(math.ceil(seconds * 1000))}


def exit_description(exit_status: int | None) -> str:
    """Return how a process ended, as a clause for messages; a negative `exit_status` is a signal."""
    if exit_status is None or exit_status >= 0:
        return f"ended with exit status {exit_status}"
    name = signal.Signals(-exit_status).name
    return f"was ended by {name}{', as the system does without free memory' if name == 'SIGKILL' else ''}"


def enable_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from now on, unless SIGINT is ignored (nohup)."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)
