"""Projects copied for the tests that change them, with a cache that knows the copies: a first run there is like the next."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pki.common import cache as common_cache

CACHE = Path("build/.seen.json")


def copy_project(source: Path, target: Path) -> None:
    """Copy a project, or a folder of projects and what lies beside them.

    The cache goes by inode and change time, so a plain copy is looked at again in its first run, for 0.2 s.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _copy_folder(os.fspath(source), os.fspath(target))
    for cache in (target / CACHE, *target.glob(f"*/{CACHE}")):
        if cache.exists():
            _know_copy(cache, source / cache.relative_to(target).parent.parent, cache.parent.parent)


def _copy_folder(source: str, target: str) -> None:
    """Copy a folder with links, modes and times; `shutil.copytree` takes three times as long for small files."""
    os.mkdir(target)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), f"{target}/{entry.name}")
            elif entry.is_dir():
                _copy_folder(entry.path, f"{target}/{entry.name}")
            else:
                _copy_file(entry.path, f"{target}/{entry.name}")
    _copy_state(os.stat(source), target)


def _copy_file(source: str, target: str) -> None:
    read = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        state = os.fstat(read)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(f"{source} is no file")
        written = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            while data := os.read(read, state.st_size + 1):
                os.write(written, data)
            _copy_state(state, written)
        finally:
            os.close(written)
    finally:
        os.close(read)


def _copy_state(state: os.stat_result, target: str | int) -> None:
    os.chmod(target, stat.S_IMODE(state.st_mode))
    os.utime(target, ns=(state.st_atime_ns, state.st_mtime_ns))


def _know_copy(cache: Path, source: Path, target: Path) -> None:
    """Put the state of the copied files in place of the originals', where the original is as it was looked at."""
    code, entries = common_cache.load(cache)
    for entry in entries.values():
        if entry[1] == common_cache.file_state(os.path.join(source, file) for file in entry[2]):
            entry[1] = common_cache.file_state(os.path.join(target, file) for file in entry[2])
    common_cache.write(cache, code, entries)
