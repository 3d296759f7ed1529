"""Power failures: a real ext4 in a file, and the state that it has when all that was never flushed is gone.

The kernel writes to the file only what a flush asks for, because it commits by itself after five minutes. So a copy of
the file, taken once the program was killed, is what a disk holds after the power failed: mounted, it replays its journal.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 48 << 20
OPTIONS = {
    "ordered": "data=ordered",
    "writeback": "data=writeback,noauto_da_alloc",  # a rename does not flush what is renamed
}


def changed(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


class Disk:
    """What is below `folder`, on a file system of its own for as long as a program runs there."""

    def __init__(self, folder: Path, options: str) -> None:
        self.folder, self.options = folder, OPTIONS[options]
        self.image, self.kept = folder.with_name("image"), folder.with_name("kept")

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Let the power fail after the block: `folder` holds afterwards what a disk would."""
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as file:
            file.truncate(SIZE)
        changed("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", self.image)
        os.rename(self.folder, self.kept)
        self.folder.mkdir()
        changed("mount", "-o", f"loop,commit=300,{self.options}", self.image, self.folder)
        try:
            changed("cp", "-a", f"{self.kept}/.", self.folder)
            changed("sync", "-f", self.folder)
            yield
            survived = self.image.with_name("survived")
            changed("cp", "--sparse=always", self.image, survived)
        finally:
            changed("umount", "-l", self.folder)
            shutil.rmtree(self.kept)
        changed("mount", "-o", "loop", survived, self.folder)
        try:
            changed("cp", "-a", f"{self.folder}/.", self.kept)
        finally:
            changed("umount", "-l", self.folder)
            survived.unlink()
        shutil.rmtree(self.kept / "lost+found", ignore_errors=True)
        self.folder.rmdir()
        os.rename(self.kept, self.folder)
