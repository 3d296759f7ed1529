"""The templates of the program and of a project, and what the project's copies are based on: `templates/.versions.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pki import __version__
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.file_headers import link_fault
from pki.common.notice import Notice
from pki.common.remedies import here, in_project
from pki.common.template_folders import ORIGINALS, PROGRAM_TEMPLATES, TemplateFolders, file_names, program_names
from pki.config import released_templates
from pki.config.recipes import recipe_of_template


@dataclass(frozen=True, slots=True)
class Original:
    """A template of the program as it was copied into a project, and the version of the program."""

    version: str
    content: bytes


@dataclass(frozen=True, slots=True)
class TemplateCopy:
    """A template of the program, of the project, or of both; `name` is its path below `templates/`.

    `is_left_out`: the project does not use that of the program. `original` is what the project's was copied from, and
    `released` the version whose template it still is without a change; None and "" if that is not known.
    """

    name: str
    program: bytes | None
    project: bytes | None
    original: Original | None
    is_left_out: bool = False

    @property
    def released(self) -> str:
        """Return the version of the program whose template the project's file is, byte for byte; "" for none."""
        if self.project is None or self.program is None:
            return ""
        return __version__ if self.project == self.program else released_templates.version_of(self.name, self.project)

    @property
    def is_changed(self) -> bool:
        """Return whether both have it, with different contents."""
        return None not in (self.program, self.project) and self.program != self.project

    @property
    def is_edited(self) -> bool:
        """Return whether the project's content is neither the one that was copied nor that of an earlier version."""
        return (
            self.is_changed and not self.released and (self.original is None or self.original.content != self.project)
        )

    @property
    def is_outdated(self) -> bool:
        """Return whether the program's template is newer than the one that the project's is based on."""
        is_older = self.original.content != self.program if self.original else bool(self.released)
        return self.is_changed and is_older

    @property
    def is_unchanged_copy(self) -> bool:
        """Return whether the project's file can be removed without a loss: the program has it, or had it."""
        return None not in (self.program, self.project) and not self.is_edited

    @property
    def is_removable(self) -> bool:
        """Return whether hosts get the same without the project's file: the program's is used then, or neither is."""
        return self.is_unchanged_copy and (not self.is_left_out or bool(recipe_of_template(self.name)))

    @property
    def based_on(self) -> str:
        """Return the version that the project's file is based on; "" if it is not known."""
        if self.released or self.original is None:
            return self.released
        return self.original.version


def program_templates(folder: Path = PROGRAM_TEMPLATES) -> dict[str, bytes]:
    """Return path below `templates/` → content, for each template of the program. Raises PkiError if one cannot be read."""
    return {name: filesystem.read(folder / name) or b"" for name in sorted(program_names(folder))}


def template_copies(templates: TemplateFolders) -> list[TemplateCopy]:
    """Return every template of the program and of the project, sorted by name.

    Raises PkiError if a file cannot be read, or is a link out of the folder.
    """
    of_program, originals = program_templates(), read_originals(templates.project)
    is_program_folder = templates.project == PROGRAM_TEMPLATES  # the project is in the clone of the program
    names_in_project = [] if is_program_folder else file_names(templates.project)
    of_project = {name: _content(templates.project, name) for name in names_in_project}
    offered_names = of_program if is_program_folder else templates.offered()
    return [
        TemplateCopy(
            name=name,
            program=of_program.get(name),
            project=of_project.get(name),
            original=originals.get(name),
            is_left_out=name not in offered_names,
        )
        for name in sorted({*of_program, *of_project})
    ]


def notices(templates: TemplateFolders) -> Iterator[Notice]:
    """Yield the project's templates of which the program has a newer version; files with faults are reported elsewhere.

    Copies that the project did not change are one notice: one command replaces all of them.
    """
    if templates.project == PROGRAM_TEMPLATES:
        return
    try:
        originals, of_program = read_originals(templates.project), program_templates()
    except PkiError as fault:
        yield Notice(f"templates/{ORIGINALS}", fault.message, fault.hint)
        return
    unchanged_names = list[str]()
    for name, program in of_program.items():
        with suppress(PkiError):  # reading the templates reports it
            copy = TemplateCopy(name, program, _content(templates.project, name), originals.get(name))
            if copy.is_outdated and not copy.is_edited:
                unchanged_names.append(name)
            elif copy.is_outdated:
                text = f"is based on version {copy.based_on}; the program has a newer one"
                yield Notice(f"templates/{name}", text, str(here("invoke", "templates.diff", name, "--three-way")))
    if unchanged_names:
        text = f"{len(unchanged_names)} unchanged copies of an earlier version; the program has newer ones: {unchanged_names[0]}"
        text += f" and {len(unchanged_names) - 1} more" if len(unchanged_names) > 1 else ""
        yield Notice("templates", text, str(here("invoke", "templates.diff")))


def _content(folder: Path, name: str) -> bytes | None:
    """Return the content of a project's template, None if it does not exist. Raises PkiError for a link out of `folder`."""
    if fault := link_fault(folder, name):
        raise fault
    return filesystem.read(folder / name)


# -- what was copied --------------------------------------------------------------------------------------------------


def read_originals(folder: Path) -> dict[str, Original]:
    """Return what the templates in `folder` were copied from, by their names. Raises PkiError if the record is damaged."""
    try:
        record = json.loads(filesystem.read(folder / ORIGINALS) or b"{}")
        return {
            name: Original(str(entry["version"]), str(entry["text"]).encode(errors="surrogateescape"))
            for name, entry in record.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        hint = f"restore it from git or a backup; without it, newer versions are not reported: rm {in_project(f'templates/{ORIGINALS}')}"
        raise PkiError(f"templates/{ORIGINALS}: is damaged", hint) from None


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
    filesystem.write(folder / ORIGINALS, _record_with(folder, name))


def eject(folder: Path, name: str) -> None:
    """Copy a template of the program into the templates of a project. Raises PkiError if it exists there.

    A missing folder is not created: its absence protects the deployed files (`DesiredState`).
    """
    if not folder.is_dir():
        raise PkiError(
            "templates/ is missing",
            f"restore it, or create it empty to deliver no file of your own: mkdir {in_project('templates')}",
        )
    if os.path.lexists(folder / name):
        raise PkiError(
            f"templates/{name}: exists already, and is never overwritten", f"./run invoke templates.diff {name}"
        )
    if fault := link_fault(folder, name):
        raise fault
    files = {folder / name: program_templates()[name], folder / ORIGINALS: _record_with(folder, name)}
    filesystem.write_all({path: (content, filesystem.PUBLIC) for path, content in files.items()})


def _record_with(folder: Path, name: str) -> bytes:
    return encode_originals({**read_originals(folder), **originals_of({name: program_templates()[name]})})


def remove_copies(folder: Path, copies: Iterable[TemplateCopy]) -> None:
    """Remove files of the project that equal a template of the program or of an earlier version, and their record."""
    originals = read_originals(folder)
    names = {copy.name for copy in copies if copy.is_removable}
    for name in sorted(names):
        (folder / name).unlink()
        for parent in list(Path(name).parents)[:-1]:
            with suppress(OSError):  # other files are in it
                (folder / parent).rmdir()
    remaining_originals = {name: original for name, original in originals.items() if name not in names}
    filesystem.write(
        folder / ORIGINALS, encode_originals(remaining_originals)
    )  # also without entries: git keeps no empty folder
