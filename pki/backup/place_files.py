"""Place the files of a backup: all or none. Files in the way are moved aside and never deleted."""

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

IGNORE_ALL = b"# private keys and passphrases from before a restore: never in git\n*\n"


@dataclass(frozen=True, slots=True)
class Placement:
    """The paths that change below `target`: those of `moved` go to the folder `aside`, then those of `placed` are placed.

    The paths are files or whole folders. `ca` is placed last, so that an interrupted restore has no new `ca`.
    """

    target: Path
    aside: Path
    moved: Sequence[str]
    placed: Sequence[str]

    @property
    def stage(self) -> Path:
        """Return the folder in which all files are written first. One that a killed restore left is overwritten."""
        return self.target / RESTORING

    def fill(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write files into the stage. Raises PkiError, with nothing left there, where they cannot be written."""
        created_path = next(
            (folder for folder in (*reversed(self.target.parents), self.target) if not folder.exists()), None
        )
        try:
            shutil.rmtree(self.stage, ignore_errors=True)
            filesystem.make_folder(self.target)
            filesystem.make_folder(self.stage, 0o700)
            if any(path.startswith("ca/") for path in files):
                filesystem.make_folder(self.stage / "ca", 0o700)
            filesystem.write_all({self.stage / path: content for path, content in files.items()})
        except BaseException:
            self.clear(created_path)
            raise

    def clear(self, created: Path | None = None) -> None:
        """Remove the stage, and the folder that was created for it."""
        for path in (self.stage, *([created] if created else [])):
            shutil.rmtree(path, ignore_errors=True)

    def carry_out(self) -> None:
        """Move aside, then place. Raises PkiError with everything at its old place.

        A file and its successor are exchanged in one step where the file system supports that, so that a run which
        starts meanwhile finds one or the other.
        """
        undo_steps: list[Callable[[], object]] = []
        try:
            if self.moved:
                filesystem.make_folder(self.aside, 0o700)
                filesystem.write(self.aside / ".gitignore", IGNORE_ALL)
            for path in self.moved:
                if path not in self.placed:
                    _rename(self.target / path, self.aside / path, undo_steps)
            for path in self.placed:
                if path in self.moved and not self._is_exchanged(path, undo_steps):
                    _rename(self.target / path, self.aside / path, undo_steps)
                if os.path.lexists(self.stage / path):
                    _rename(self.stage / path, self.target / path, undo_steps)
        except BaseException as error:
            self._undo(undo_steps)
            if isinstance(error, OSError):
                where = error.filename or self.target
                raise PkiError(
                    f"{where}: cannot be moved or written: {error.strerror}", "name another folder: --to DIR"
                ) from None
            raise
        shutil.rmtree(self.stage, ignore_errors=True)

    def _is_exchanged(self, path: str, undo_steps: list[Callable[[], object]]) -> bool:
        """Exchange a path and its successor; return False, with nothing changed, where that is not supported."""
        _rename(self.stage / path, self.aside / path, undo_steps)
        if not filesystem.exchange_names(self.target / path, self.aside / path):
            undo_step = undo_steps.pop()
            undo_step()
            return False
        undo_steps.append(partial(filesystem.exchange_names, self.target / path, self.aside / path))
        return True

    def _undo(self, undo_steps: list[Callable[[], object]]) -> None:
        for undo in reversed(undo_steps):
            with suppress(OSError):
                undo()
        self.clear()
        if self.moved and not any(os.path.lexists(self.aside / path) for path in self.moved):
            shutil.rmtree(self.aside, ignore_errors=True)


def _rename(old: Path, new: Path, undo_steps: list[Callable[[], object]]) -> None:
    filesystem.make_folder(new.parent, 0o700 if not new.parent.exists() else 0o755)
    old.rename(new)
    undo_steps.append(partial(os.replace, new, old))
