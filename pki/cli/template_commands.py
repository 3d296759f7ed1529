"""The commands templates.*: how a project's templates differ from the program's."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from invoke.context import Context

from pki import __version__
from pki.cli import template_merge
from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, command_with, held_project_of, path_of, project_as_it_is
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import Remedy, here, in_project
from pki.common.terminal import Screen
from pki.common.visible import shorten
from pki.config import template_versions
from pki.config.template_versions import TemplateCopy
from pki.deploy.diff import LONGEST_LINE, MOST_LINES
from pki.deploy.release import PRIVATE
from pki.project import version_change
from pki.project.project import Project


@command
def show_list(context: Context) -> None:
    """Show each template: where it comes from, whether the project changed it, and the version that it is based on."""
    copies = _copies(project_as_it_is(context))
    Screen().table("templates", ("template", "from", "state", "version"), [_row(copy) for copy in copies])


def _row(copy: TemplateCopy) -> tuple[str, str, str, str]:
    if copy.program is None:
        return copy.name, "project", "", ""
    if copy.project is None:
        return copy.name, *(("without", "not used", "") if copy.is_left_out else ("program", "", __version__))
    state = "changed" if copy.is_edited else "unchanged copy"
    state += "; the program has a newer version" if copy.is_outdated else ""
    return copy.name, "project", state, copy.based_on or "unknown"


def _copies(project: Project) -> list[TemplateCopy]:
    return template_versions.template_copies(project.templates)


@command_with(may_lack="template")
def diff(context: Context, template: str | None = None, three_way: bool = False, output: str = "") -> None:
    """Show as a diff how one or all of the project's templates differ from the program's.

    --three-way merges the program's newer version of one template into the project's, and prints the result. Conflicts
    have markers with the text that was copied, yours and the program's. --output FILE writes it into a new file instead.
    """
    screen, project = Screen(), project_as_it_is(context)
    copies = {copy.name: copy for copy in _copies(project)}
    chosen = [copies[_name(template, copies)]] if template else list(copies.values())
    if template and chosen[0].project is None:
        raise PkiError(f"templates/{chosen[0].name}: is not in the project", str(_eject(chosen[0].name)))
    if template and chosen[0].program is None:
        raise PkiError(f"templates/{chosen[0].name}: the program has no such template", "./run invoke templates.list")
    if three_way or output:
        if not template:
            raise PkiError("--three-way needs the name of one template", "./run invoke templates.list")
        _merge(chosen[0], path_of(context, output) if output else None, project.store.templates)
        return
    lines = [line for copy in chosen if copy.is_changed for line in _comparison(copy)]
    for line in lines or ["it is equal to the program's" if template else "no template differs from the program's"]:
        screen.line(line, is_verbatim=True)


def _merge(copy: TemplateCopy, output: Path | None, folder: Path) -> None:
    """Print the merge of a template or write it into a new file, which is never a template: it may have markers."""
    if output and output.resolve().is_relative_to(folder.resolve()):
        raise PkiError(f"{output}: is in templates/, from which files are delivered", "name a file elsewhere: --output")
    if output and os.path.lexists(output):
        raise PkiError(f"{output}: exists already, and is never overwritten", "name another file: --output")
    merged, screen = template_merge.merge(copy), Screen()
    result = {0: "no conflict", 1: "1 conflict"}.get(merged.conflicts, f"{merged.conflicts} conflicts")
    if output is None:
        for line in merged.content.decode(errors="surrogateescape").removesuffix("\n").split("\n"):
            screen.line(shorten(line.expandtabs(4), LONGEST_LINE))
        write = here("invoke", "templates.diff", copy.name, "--output", "merged.conf")
        screen.line(f"→ {result}; to write this into a file: {write}")
        return
    filesystem.write(output, merged.content)
    screen.done("created", str(output), result)
    edit = "resolve the conflicts in it, then: " if merged.conflicts else ""
    place = in_project(f"templates/{copy.name}")
    screen.line(f"→ {edit}mv {shlex.quote(str(output))} {place} && {here('invoke', 'templates.accept', copy.name)}")


def _comparison(copy: TemplateCopy) -> Iterator[str]:
    """Yield a diff from the program's template to the project's; from the original to both if the program's is newer."""
    program, project = f"{copy.name} (program {__version__})", f"{copy.name} (project)"
    if copy.is_outdated and not copy.is_edited:
        copied = f"{copy.name} (project, unchanged copy of {copy.based_on})"
        yield from _diff(copy.project or b"", copy.program or b"", copied, program)
        yield f"→ for the newer version: {here('invoke', 'templates.remove-copies', copy.name, '--outdated')}"
        return
    if not copy.is_outdated or copy.original is None:
        yield from _diff(copy.program or b"", copy.project or b"", program, project)
        return
    original, copied = copy.original.content, f"{copy.name} (program {copy.original.version}, as copied)"
    yield from _diff(original, copy.program or b"", copied, program)
    yield from _diff(original, copy.project or b"", copied, project)
    yield f"→ to merge both: {_three_way(copy.name)}"
    yield f"→ when your template has what you want of it: {here('invoke', 'templates.accept', copy.name)}"


def _diff(old: bytes, new: bytes, old_title: str, new_title: str) -> Iterator[str]:
    """Yield a unified diff; only that they differ, for private keys and for files of more lines than difflib can take."""
    old_lines, new_lines = (content.decode(errors="surrogateescape").split("\n") for content in (old, new))
    if PRIVATE.search(old + new):
        yield f"{old_title}, {new_title}: differ, and have a private key"
    elif len(old_lines) + len(new_lines) > MOST_LINES:
        yield f"{old_title}, {new_title}: differ, and have more than {MOST_LINES} lines"
    else:
        for line in difflib.unified_diff(old_lines, new_lines, old_title, new_title, lineterm=""):
            yield shorten(line.expandtabs(4), LONGEST_LINE)


@command
def eject(context: Context, template: str) -> None:
    """Copy one template of the program into the project, so that you can change it; never overwrites a file."""
    with held_project_of(context) as project:
        name = _name(template, template_versions.program_templates())
        template_versions.eject(project.store.templates, name)
    Screen().done(
        "created", f"templates/{name}", f"from version {__version__}; change it, then: {here('invoke', 'plan')}"
    )


@command
def accept(context: Context, template: str) -> None:
    """Record that a template of the project is based on the program's present version: plan and health report it no more."""
    with held_project_of(context) as project:
        name = _name(template, template_versions.program_templates())
        template_versions.record_original(project.store.templates, name)
    Screen().done("recorded", f"templates/{name}", f"is based on version {__version__}")


@command_with(may_lack="template")
def remove_copies(context: Context, template: str | None = None, outdated: bool = False) -> None:
    """Remove the project's copies that equal the program's templates, which are then used instead: hosts get the same.

    --outdated also removes unchanged copies of earlier versions: their hosts get the newer version. Files that you
    changed always stay.
    """
    with held_project_of(context) as project:
        if not version_change.is_recorded(project.inventory, project.store):
            raise PkiError("this version has not run here yet", "./run invoke plan, then: ./run doit")
        copies = _copies(project)
        if template:
            name = _name(template, [copy.name for copy in copies])
            copies = [copy for copy in copies if copy.name == name]
        removable = [copy for copy in copies if copy.is_removable]
        chosen = [copy for copy in removable if outdated or not copy.is_changed]
        template_versions.remove_copies(project.store.templates, chosen)
    screen = Screen()
    for copy in chosen:
        newer = f"; the program's is newer than {copy.based_on}" if copy.is_changed else ""
        screen.done("removed", f"templates/{copy.name}", f"the program's is used{newer}")
    if not chosen:
        screen.line("no unchanged copy of the program's templates")
    if older := len(removable) - len(chosen):
        command = here("invoke", "templates.remove-copies", "--outdated")
        screen.line(f"{older} unchanged copies of an earlier version stay: {command}")


def _three_way(name: str) -> Remedy:
    return here("invoke", "templates.diff", name, "--three-way")


def _name(typed: str, names: Iterable[str]) -> str:
    return require_one_of(typed.removeprefix("templates/"), names, "template")


def _eject(name: str) -> Remedy:
    return here("invoke", "templates.eject", name)


TASKS: dict[str, Any] = {
    "list": show_list,
    "diff": diff,
    "eject": eject,
    "accept": accept,
    "remove-copies": remove_copies,
}
