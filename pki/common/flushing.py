"""Flush several files to disk at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

AT_ONCE = 8


def begin(work: Callable[[], None]) -> threading.Thread | None:
    """Start work in a thread. If no thread can be started, do the work now and return None."""
    thread = threading.Thread(target=work)
    try:
        thread.start()
    except RuntimeError:
        work()
        return None
    return thread


def flush_all(handles: Mapping[Path, int]) -> dict[Path, OSError]:
    """Flush open files; returns the error of each file that failed, in the order of `handles`.

    A journaling file system writes them together if they are flushed at the same time: ten take as long as two.
    """
    errors: dict[Path, OSError] = {}

    def flush(paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                os.fsync(handles[path])
            except OSError as error:
                errors[path] = error

    paths = list(handles)
    first_group, *other_groups = (paths[start::AT_ONCE] for start in range(min(AT_ONCE, len(paths)) or 1))
    threads = [begin(partial(flush, part)) for part in other_groups]
    flush(first_group)
    for thread in threads:
        if thread:
            thread.join()
    return {path: errors[path] for path in paths if path in errors}
