"""File systems of a trial's own: small ones, and folders that cannot be written, as root finds them too.

They belong to a mount namespace of this process: nobody else sees them, and they end with it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 32, 4096, 16384, 1 << 18, 2
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


@cache
def _libc() -> ctypes.CDLL:
    """The C library, with this process in a mount namespace of its own; without root in one of users as well."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    _checked(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    _checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
    return libc


def _checked(status: int, what: str) -> None:
    if status:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def _mount(source: Path | None, target: Path, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    origin = os.fsencode(source) if source else None
    _checked(_libc().mount(origin, os.fsencode(target), kind, flags, options), f"mount {target}")


@contextmanager
def small(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in memory at a folder."""
    _mount(Path("tmpfs"), folder, b"tmpfs", 0, f"size={size},mode=700".encode())
    try:
        yield
    finally:
        _checked(_libc().umount2(os.fsencode(folder), MNT_DETACH), f"umount {folder}")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be written meanwhile (EROFS)."""
    _mount(folder, folder, None, MS_BIND)
    try:
        _mount(None, folder, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        yield
    finally:
        _checked(_libc().umount2(os.fsencode(folder), MNT_DETACH), f"umount {folder}")


@contextmanager
def full(folder: Path, left: int) -> Iterator[None]:
    """A file system of which no more than `left` bytes are free meanwhile."""
    ballast = folder / ".ballast"
    free = os.statvfs(folder)
    size = max(0, free.f_bavail * free.f_frsize - left)
    try:
        with ballast.open("wb") as file:
            if size:
                os.posix_fallocate(file.fileno(), 0, size)
        yield
    finally:
        ballast.unlink(missing_ok=True)
