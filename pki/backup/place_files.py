"""Files of a backup put in place: all of them or none; what is in the way is moved aside, and never deleted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.project.layout import RESTORING

IGNORE_ALL = b"# private keys and passphrases of before a restore: never in git\n*\n"


@dataclass(frozen=True, slots=True)
class Placement:
    """What goes where below `target`: `moved` leaves its place for the folder `aside`, then `placed` gets its own.

    Both are paths below `target`, files or whole folders; `ca` is placed last.
    """

    target: Path
    aside: Path
    moved: Sequence[str]
    placed: Sequence[str]

    @property
    def stage(self) -> Path:
        """Where everything lies before the first of it gets its name. One that a killed restore left is written again."""
        return self.target / RESTORING

    def fill(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write files into the stage. Raises PkiError, with nothing left there, where they cannot be written."""
        made = next((one for one in (*reversed(self.target.parents), self.target) if not one.exists()), None)
        try:
            shutil.rmtree(self.stage, ignore_errors=True)
            filesystem.make_folder(self.target)
            filesystem.make_folder(self.stage, 0o700)
            if any(path.startswith("ca/") for path in files):
                filesystem.make_folder(self.stage / "ca", 0o700)
            filesystem.write_all({self.stage / path: content for path, content in files.items()})
        except BaseException:
            self.clear(made)
            raise

    def clear(self, made: Path | None = None) -> None:
        """Remove the stage, and the folder that was made for it."""
        for path in (self.stage, *([made] if made else [])):
            shutil.rmtree(path, ignore_errors=True)

    def carry_out(self) -> None:
        """Move aside, then place. Raises PkiError with everything where it was.

        What is replaced changes places with its successor in one step, where the file system can do that: a run that
        begins meanwhile finds one or the other.
        """
        done: list[Callable[[], object]] = []
        try:
            if self.moved:
                filesystem.make_folder(self.aside, 0o700)
                filesystem.write(self.aside / ".gitignore", IGNORE_ALL)
            for path in self.moved:
                if path not in self.placed:
                    _rename(self.target / path, self.aside / path, done)
            for path in self.placed:
                if path in self.moved and not self._is_exchanged(path, done):
                    _rename(self.target / path, self.aside / path, done)
                if os.path.lexists(self.stage / path):
                    _rename(self.stage / path, self.target / path, done)
        except BaseException as error:
            self._undo(done)
            if isinstance(error, OSError):
                where = error.filename or self.target
                raise PkiError(
                    f"{where}: cannot be moved or written: {error.strerror}", "name another folder: --to DIR"
                ) from None
            raise
        shutil.rmtree(self.stage, ignore_errors=True)

    def _is_exchanged(self, path: str, done: list[Callable[[], object]]) -> bool:
        """Let what is in the way and its successor change places; False, and nothing is changed, where that cannot be done."""
        _rename(self.stage / path, self.aside / path, done)
        if not filesystem.exchange(self.target / path, self.aside / path):
            done.pop()()
            return False
        done.append(partial(filesystem.exchange, self.target / path, self.aside / path))
        return True

    def _undo(self, done: list[Callable[[], object]]) -> None:
        for undo in reversed(done):
            with suppress(OSError):
                undo()
        self.clear()
        if self.moved and not any(os.path.lexists(self.aside / path) for path in self.moved):
            shutil.rmtree(self.aside, ignore_errors=True)


def _rename(old: Path, new: Path, done: list[Callable[[], object]]) -> None:
    filesystem.make_folder(new.parent, 0o700 if not new.parent.exists() else 0o755)
    old.rename(new)
    done.append(partial(os.replace, new, old))
