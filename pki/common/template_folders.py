"""The templates of a project: its own files, and those of the program that it neither replaces nor leaves out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.remedies import in_project

PROGRAM_TEMPLATES = PROGRAM / "templates"
ORIGINALS = ".versions.json"  # what a project's templates were copied from; hidden: no managed file


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below `templates/`, in the `folder` of the project or of the program; `fault` is that of a folder."""

    name: str
    folder: Path
    fault: PkiError | None = None


@dataclass(frozen=True, slots=True)
class TemplateFolders:
    """The folder of a project's own templates, and that of the program's; `program` is None where none of those is used.

    A template of the program is used unless `without` has its path, or the project has a file with the same path.
    """

    project: Path
    program: Path | None = None
    without: frozenset[str] = frozenset()

    def files(self) -> list[FoundFile]:
        """Return every file in its order, each path once; a folder of the project that cannot be read has a fault."""
        own_files = _walk(self.project)
        names = {name for name, _ in own_files}
        faulty = [name for name, fault in own_files if fault]
        results = [FoundFile(name, self.project, fault) for name, fault in own_files]
        for name in sorted(self.offered() - names):
            if any(is_within(name, folder) for folder in faulty):
                continue  # the folder may have a file with this path
            if fault := self._access_fault(name):
                results.append(FoundFile(name, self.project, fault))
            elif self.program:
                results.append(FoundFile(name, self.program))
        return sorted(results, key=lambda file: file.name.split("/"))

    def names(self) -> list[str]:
        """Return the path of each file below `templates/`."""
        return [file.name for file in self.files() if not file.fault]

    def offered(self) -> frozenset[str]:
        """Return the templates of the program that are used unless the project has a file with the same path."""
        if self.program is None or self.program == self.project:
            return frozenset()
        return program_names(self.program) - self.without

    def folder_of(self, name: str) -> Path:
        """Return the folder from which a path below `templates/` is read; that of the project if neither has it."""
        is_offered = name in self.offered()  # no template is, where the program has no folder
        is_from_program = is_offered and not self._access_fault(name) and not self._is_own(name)
        return self.program if self.program and is_from_program else self.project

    def path(self, name: str) -> Path:
        """Return the file of a path below `templates/`."""
        return Path(f"{self.folder_of(name)}/{name}")  # `/` would let an absolute path leave the folder

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return every folder that templates are read from."""
        return (self.project,) if self.program is None else (self.project, self.program)

    def _is_own(self, name: str) -> bool:
        return os.path.lexists(self.project / name)

    def _access_fault(self, name: str) -> PkiError | None:
        """Return the error if nobody can tell whether the project has a file with this path."""
        try:
            os.lstat(self.project / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return _unreadable(f"templates/{name}", error, "ls -l")
        return None


def is_within(name: str, folder: str) -> bool:
    """Return whether a path below `templates/` is in a folder there, or the folder itself; `.` is `templates/`."""
    return folder in {".", name} or name.startswith(f"{folder}/")


@cache
def program_names(folder: Path = PROGRAM_TEMPLATES) -> frozenset[str]:
    """Return the paths of the program's templates; reading a FIFO would block, so they are regular files."""
    return frozenset(name for name, fault in _walk(folder) if not fault and (folder / name).is_file())


def file_names(folder: Path) -> list[str]:
    """Return the names of all files in a folder and its subfolders."""
    return [name for name, fault in _walk(folder) if not fault]


def _walk(folder: Path) -> Iterable[tuple[str, PkiError | None]]:
    """Return the names of files, and the name and error of each folder that cannot be read.

    Hidden files and backups of editors are left out.
    """
    results: list[tuple[str, PkiError | None]] = []

    def name_of(path: str) -> str:
        return path.removeprefix(f"{folder}/") if path != str(folder) else "."

    def unreadable(error: OSError) -> None:
        name = name_of(error.filename)
        if name != "." or not isinstance(error, FileNotFoundError):
            results.append((name, _unreadable(f"templates/{name}".removesuffix("/."), error, "ls -ld")))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        results += [
            (name_of(f"{root}/{name}"), None) for name in files if not name.startswith(".") and not name.endswith("~")
        ]
        for name in folders:
            if os.path.islink(f"{root}/{name}") and not name.startswith("."):
                shown = f"templates/{name_of(f'{root}/{name}')}"
                fault = PkiError(
                    f"{shown}: is a link to a folder, which is not followed", "copy the folder itself there"
                )
                results.append((name_of(f"{root}/{name}"), fault))
    return sorted(results, key=lambda result: result[0].split("/"))


def _unreadable(shown: str, error: OSError, look: str) -> PkiError:
    hint = f"chown or chmod it: {look} {in_project(shown)}"
    return PkiError(f"{shown}: cannot be read: {error.strerror}", hint)
