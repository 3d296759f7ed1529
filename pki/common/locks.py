"""Locks between processes: files with flock(2). A forked process does not keep the locks of its parent."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pki.common.errors import PkiError, from_os_error
from pki.common.filesystem import give_to_folder_owner, require_file

TRIES = 100
_handles: set[int] = set()  # descriptors of the locks that this process holds or waits for


def require_usable(path: Path) -> None:
    """Raise PkiError if a lock file cannot be created or opened."""
    os.close(_open(path))


@contextmanager
def exclusive(path: Path, waiting: Callable[[str], str] | None = None) -> Iterator[None]:
    """Hold an exclusive lock. If it must wait, prints the text of `waiting`, called with the holder's process id."""
    handle = _acquire(path, waiting)
    try:
        with suppress(OSError):  # the process id is only information: a full disk must not fail the run
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        _release(handle)


def _acquire(path: Path, waiting: Callable[[str], str] | None) -> int:
    """Wait for a lock and return its descriptor. Tries again if the file was replaced meanwhile, as by a restore."""
    for _ in range(TRIES):
        handle = _open(path)
        _handles.add(handle)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if waiting else 0))
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
                print(waiting(holder) if waiting else "", file=sys.stderr)
                fcntl.flock(handle, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            _release(handle)
            raise
        _release(handle)
    raise PkiError(
        f"{path}: is a different file each time it is opened, so it cannot be a lock",
        "move the project to a local disk",
    )


def _release(handle: int) -> None:
    if handle in _handles:  # a forked process has already closed its copies
        _handles.remove(handle)
        os.close(handle)


def hold_shared(path: Path) -> bool:
    """Hold a shared lock until this process ends. Returns False if another process holds it exclusively."""
    handle = _open(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _handles.add(handle)
    return True


def _open(path: Path) -> int:
    require_file(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        give_to_folder_owner(handle, path.parent)
    except OSError as error:
        raise from_os_error(error, path, "cannot be written") from None
    return handle


def _close_copies() -> None:
    """Close the locks in a forked process: flock(2) releases a lock when the last copy of its descriptor is closed."""
    for handle in _handles:
        os.close(handle)
    _handles.clear()


os.register_at_fork(after_in_child=_close_copies)
