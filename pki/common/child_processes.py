"""Processes that a run starts: what they inherit, that each ends with the process that started it, their channels."""

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
_removed: dict[str, bytes] = {}  # forked processes have it too


def remove_from_environment(names: Iterable[str]) -> None:
    """Take secrets out of the environment, which every program inherits that is started from now on, by libraries too.

    `withheld` has their values. What `/proc/PID/environ` shows of this process was fixed when it was started.
    """
    for name in names:
        if (value := os.environb.pop(name.encode(), None)) is not None:
            _removed[name] = value


def removed_variable(name: str) -> bytes:
    """The value of a variable that was taken out of the environment, empty when it was not set."""
    return _removed.get(name, b"")


def end_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel end this process when `parent`, the process that forked it, is gone; at once if it is gone already.

    Only Linux can. Elsewhere a process ends when it finds that its pipe was closed.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def wait_ready(readers: Collection[int], writers: Collection[int], seconds: float) -> set[int]:
    """Wait for channels: return the descriptors that can be read or written, none of them when the time is over.

    select(2) takes no descriptor from 1024 on.
    """
    poll = select.poll()
    for one in readers:
        poll.register(one, select.POLLIN)
    for one in writers:
        poll.register(one, select.POLLOUT)
    return {one for one, _ in poll.poll(math.ceil(seconds * 1000))}


def exit_description(exit_status: int | None) -> str:
    """How a process ended, as a phrase: the signal, or the exit status. `exit_status` is negative for a signal."""
    if exit_status is None or exit_status >= 0:
        return f"ended with exit status {exit_status}"
    name = signal.Signals(-exit_status).name
    return f"was ended by {name}{', as the system does when memory runs out' if name == 'SIGKILL' else ''}"


def enable_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from here on, unless it is ignored, as after nohup."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)
