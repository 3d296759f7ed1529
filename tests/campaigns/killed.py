"""A run in a process of its own that is killed at a moment which is the same each time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR


def killed_at(change: int, work: Callable[[], object]) -> bool:
    """Do `work` in a fork that SIGKILL ends just before its so manieth change of the disk; returns whether it came so far."""
    child = os.fork()
    if not child:
        status = 1
        try:
            _kill_at(change)
            work()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.WIFSIGNALED(ended)


def _kill_at(change: int) -> None:
    left = change

    def heard(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if is_write or event in CHANGES:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)
