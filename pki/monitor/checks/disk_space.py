"""Free space and inodes of a disk, and when they are too little."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from pki.monitor.check_result import Level

MEGABYTE = 1 << 20


def in_megabytes(megabytes: int) -> str:
    """Return a size in MB, or in GB from 10 GB on."""
    return f"{megabytes} MB" if megabytes < 10_000 else f"{megabytes // 1000} GB"


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The space of one file system, in bytes and inodes."""

    size: int
    free: int
    inodes: int
    free_inodes: int
    is_read_only: bool

    @classmethod
    def of(cls, path: Path) -> DiskSpace:
        """Return the space of the file system that `path` is on."""
        state = os.statvfs(path)
        return cls(
            size=state.f_blocks * state.f_frsize,
            free=state.f_bavail * state.f_frsize,
            inodes=state.f_files,
            free_inodes=state.f_favail,
            is_read_only=bool(state.f_flag & os.ST_RDONLY),
        )

    @property
    def megabytes(self) -> int:
        """Return its size in MB."""
        return self.size // MEGABYTE

    @property
    def free_megabytes(self) -> int:
        """Return its free space in MB."""
        return self.free // MEGABYTE

    @property
    def level(self) -> Level:
        """Return how urgent it is to make room; some file systems have no fixed number of inodes."""
        if self.free < min(100 * MEGABYTE, self.size * 0.03):
            return Level.CRITICAL
        if self.inodes and self.free_inodes < min(1000, self.inodes * 0.01):
            return Level.CRITICAL
        return Level.WARNING if self.free < min(500 * MEGABYTE, self.size * 0.1) else Level.OK

    @staticmethod
    def remount(path: Path) -> str:
        """Return the command that mounts a read-only file system writable."""
        return f"sudo mount -o remount,rw $(findmnt -nro TARGET -T {shlex.quote(str(path))}); for the cause: sudo dmesg"

    @staticmethod
    def make_room(path: Path) -> str:
        """Return the commands that show what uses the space."""
        shown = shlex.quote(str(path))
        return f"free some space: df -h {shown}; du -xh {shown} | sort -h | tail"
