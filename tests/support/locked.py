"""Whether the lock of a project is free, as another process would find it."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path


def takes_the_lock(home: Path) -> bool:
    """Whether a run would get the lock of a project at once: both of its parts, on descriptors of their own."""
    with ExitStack() as stack:
        for name in ("run", "workers"):
            handle = os.open(home / f"ca/.{name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True
