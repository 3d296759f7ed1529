"""Processes that a run starts: each of them ends with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
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


def last_words(exit_status: int | None) -> str:
    """How a process ended, as a phrase: the signal, or the exit status. `exit_status` is negative for a signal."""
    if exit_status is None or exit_status >= 0:
        return f"ended with exit status {exit_status}"
    name = signal.Signals(-exit_status).name
    return f"was ended by {name}{', as the system does when memory runs out' if name == 'SIGKILL' else ''}"
