"""Processes that a run starts, each of which ends with the process that started it, and their channels."""

from __future__ import annotations

import ctypes
import math
import os
import select
import signal
from collections.abc import Collection
from contextlib import suppress

PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel end this process when `parent`, the process that forked it, is gone; at once if it is gone already.

    Only Linux can. Elsewhere a process ends when it finds that its pipe was closed.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def ready(readers: Collection[int], writers: Collection[int], seconds: float) -> set[int]:
    """Wait for channels: return the descriptors that can be read or written, none of them when the time is over.

    select(2) takes no descriptor from 1024 on.
    """
    poll = select.poll()
    for one in readers:
        poll.register(one, select.POLLIN)
    for one in writers:
        poll.register(one, select.POLLOUT)
    return {one for one, _ in poll.poll(math.ceil(seconds * 1000))}


def last_words(exit_status: int | None) -> str:
    """How a process ended, as a phrase: the signal, or the exit status. `exit_status` is negative for a signal."""
    if exit_status is None or exit_status >= 0:
        return f"ended with exit status {exit_status}"
    name = signal.Signals(-exit_status).name
    return f"was ended by {name}{', as the system does when memory runs out' if name == 'SIGKILL' else ''}"
