"""Projects copied for the tests that change them, with a cache that knows the copies: a first run there is like the next."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pki.common import cache as common_cache

CACHE = Path("build/.seen.json")


def copy_project(source: Path, target: Path) -> None:
    """Copy a project, or a folder of projects and what lies beside them.

    The cache goes by inode and change time, so a plain copy is looked at again in its first run, for 0.2 s.
    """
    shutil.copytree(source, target, symlinks=True)
    for cache in (target / CACHE, *target.glob(f"*/{CACHE}")):
        if cache.exists():
            _know_copy(cache, source / cache.relative_to(target).parent.parent, cache.parent.parent)


def _know_copy(cache: Path, source: Path, target: Path) -> None:
    """Put the state of the copied files in place of the originals', where the original is as it was looked at."""
    code, entries = common_cache.load(cache)
    for entry in entries.values():
        if entry[1] == common_cache.file_state(os.path.join(source, file) for file in entry[2]):
            entry[1] = common_cache.file_state(os.path.join(target, file) for file in entry[2])
    common_cache.write(cache, code, entries)
