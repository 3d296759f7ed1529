"""The program's templates, and the version of each that a project's template was copied from: `templates/.versions.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pki import __version__
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.file_headers import file_names, link_fault
from pki.common.notice import Notice
from pki.common.program_files import PROGRAM
from pki.common.remedies import here, in_project

FILE = ".versions.json"  # hidden: no managed file


@dataclass(frozen=True, slots=True)
class Original:
    """A template of the program as it was copied into a project, and the version of the program."""

    version: str
    content: bytes


@dataclass(frozen=True, slots=True)
class TemplateCopy:
    """A template of the program, of the project, or of both; `name` is its path below `templates/`."""

    name: str
    program: bytes | None
    project: bytes | None
    original: Original | None

    @property
    def is_changed(self) -> bool:
        """Return whether both have it, with different contents."""
        return None not in (self.program, self.project) and self.program != self.project

    @property
    def is_edited(self) -> bool:
        """Return whether the project's content is not the one that was copied."""
        return self.is_changed and (self.original is None or self.original.content != self.project)

    @property
    def is_outdated(self) -> bool:
        """Return whether the program's template changed after it was copied, and the project has another content."""
        return self.is_changed and self.original is not None and self.original.content != self.program


def program_templates(program: Path = PROGRAM) -> dict[str, bytes]:
    """Return path below `templates/` → content, for each template of the program. Raises PkiError if one cannot be read."""
    folder = program / "templates"
    names = (name for name in file_names(folder) if (folder / name).is_file())  # reading a FIFO would block
    return {name: filesystem.read(folder / name) or b"" for name in names}


def template_copies(folder: Path) -> list[TemplateCopy]:
    """Return every template of the program and of the project whose templates are in `folder`, sorted by name.

    Raises PkiError if a file cannot be read, or is a link out of the folder.
    """
    ours, originals = program_templates(), read_originals(folder)
    theirs = {name: _content(folder, name) for name in file_names(folder)}
    return [
        TemplateCopy(name, ours.get(name), theirs.get(name), originals.get(name)) for name in sorted({*ours, *theirs})
    ]


def notices(folder: Path) -> Iterator[Notice]:
    """Yield the templates of a project of which the program has a newer version; files with faults are reported elsewhere."""
    try:
        originals = read_originals(folder)
        ours = program_templates() if originals else {}
    except PkiError as fault:
        yield Notice(f"templates/{FILE}", fault.message, fault.hint)
        return
    for name, original in sorted(originals.items()):
        with suppress(PkiError):
            copy = TemplateCopy(name, ours.get(name), _content(folder, name), original)
            if copy.is_outdated:
                text = f"was copied from version {original.version}; the program has a newer one"
                yield Notice(f"templates/{name}", text, str(here("invoke", "templates.diff", name)))


def _content(folder: Path, name: str) -> bytes | None:
    """Return the content of a project's template, None if it does not exist. Raises PkiError for a link out of `folder`."""
    if fault := link_fault(folder, name):
        raise fault
    return filesystem.read(folder / name)


# -- what was copied --------------------------------------------------------------------------------------------------


def read_originals(folder: Path) -> dict[str, Original]:
    """Return what the templates in `folder` were copied from, by their names. Raises PkiError if the record is damaged."""
    try:
        record = json.loads(filesystem.read(folder / FILE) or b"{}")
        return {
            name: Original(str(entry["version"]), str(entry["text"]).encode(errors="surrogateescape"))
            for name, entry in record.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        hint = f"restore it from git or a backup; without it, newer versions are not reported: rm {in_project(f'templates/{FILE}')}"
        raise PkiError(f"templates/{FILE}: is damaged", hint) from None


def encode_originals(originals: Mapping[str, Original]) -> bytes:
    """Return the content of the record."""
    record = {
        name: {"version": original.version, "text": original.content.decode(errors="surrogateescape")}
        for name, original in sorted(originals.items())
    }
    return f"{json.dumps(record, indent=1)}\n".encode()


def originals_of(templates: Mapping[str, bytes]) -> dict[str, Original]:
    """Return the originals of templates that are copied from this version of the program."""
    return {name: Original(__version__, content) for name, content in templates.items()}


def record_original(folder: Path, name: str) -> None:
    """Record that the project's template has the content of this version of the program, or that it was merged into it.

    Raises PkiError where the project has no such template.
    """
    if filesystem.read(folder / name) is None:
        raise PkiError(f"templates/{name}: does not exist", f"./run invoke templates.eject {name}")
    filesystem.write(folder / FILE, _record_with(folder, name))


def eject(folder: Path, name: str) -> None:
    """Copy a template of the program into the templates of a project. Raises PkiError if it exists there.

    A missing folder is not created: its absence protects the deployed files (`DesiredState`).
    """
    if not folder.is_dir():
        raise PkiError(
            "templates/ is missing",
            f"restore it; an empty one removes all deployed files: mkdir {in_project('templates')}",
        )
    if os.path.lexists(folder / name):
        raise PkiError(
            f"templates/{name}: exists already, and is never overwritten", f"./run invoke templates.diff {name}"
        )
    if fault := link_fault(folder, name):
        raise fault
    files = {folder / name: program_templates()[name], folder / FILE: _record_with(folder, name)}
    filesystem.write_all({path: (content, filesystem.PUBLIC) for path, content in files.items()})


def _record_with(folder: Path, name: str) -> bytes:
    return encode_originals({**read_originals(folder), **originals_of({name: program_templates()[name]})})
