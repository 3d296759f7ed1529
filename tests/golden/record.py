"""The files of a project as lines `digest mode path`, with what is another in each run left out."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from pathlib import Path

LEFT_OUT = (  # caches, and reports that name durations, free space and the version of Python
    *("build/.seen.json", "build/.reasons.json", ".lock", ".eml", "-shm", "-wal"),
    *("build/report/status.json", "build/report/status.html", "build/report/pki.prom"),
)


def content(file: Path, folder: Path) -> bytes:
    """Return what a file says, its own folder called FOLDER; of a ledger, its rows as sorted SQL."""
    if file.suffix == ".db":
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as ledger:
            return "\n".join(sorted(ledger.iterdump())).encode()
    return file.read_bytes().replace(str(folder).encode(), b"FOLDER")


def tree(folder: Path) -> dict[str, bytes]:
    """Return path → content of everything below a folder that each run writes alike."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    named = ((str(path.relative_to(folder)), path) for path in found)
    return {name: content(path, folder) for name, path in named if not name.endswith(LEFT_OUT)}


def lines(folder: Path) -> list[str]:
    """Return one line for each file: SHA-256, mode, path."""
    return [
        f"{hashlib.sha256(data).hexdigest()} {stat.S_IMODE((folder / name).stat().st_mode):04o} {name}"
        for name, data in tree(folder).items()
    ]
