"""The commands templates.*: how a project's templates differ from the program's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from invoke.context import Context

from pki import __version__
from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, command_with, held_project_of, project_as_it_is
from pki.common.errors import PkiError
from pki.common.remedies import Remedy, here, in_project
from pki.common.terminal import Screen
from pki.common.visible import shorten
from pki.config import template_versions
from pki.config.template_versions import TemplateCopy
from pki.deploy.diff import LONGEST_LINE, MOST_LINES
from pki.deploy.release import PRIVATE


@command
def show_list(context: Context) -> None:
    """Show each template of the program and of the project: where it is from, whether it was changed, from which version."""
    copies = template_versions.template_copies(project_as_it_is(context).store.templates)
    Screen().table("templates", ("template", "from", "state", "version"), [_row(copy) for copy in copies])


def _row(copy: TemplateCopy) -> tuple[str, str, str, str]:
    if copy.program is None:
        return copy.name, "project", "", ""
    if copy.project is None:
        return copy.name, "program", "not in the project: not used", __version__
    state = "changed" if copy.is_edited else "unchanged"
    state += "; the program has a newer version" if copy.is_outdated else ""
    version = __version__ if not copy.is_changed else copy.original.version if copy.original else "unknown"
    return copy.name, "program", state, version


@command_with(may_lack="template")
def diff(context: Context, template: str | None = None) -> None:
    """Show as a diff how one or all of the project's templates differ from the program's.

    Where the program has a newer version than the one that was copied, two diffs are shown: what the program changed
    since then, and what the project changed.
    """
    screen = Screen()
    copies = {copy.name: copy for copy in template_versions.template_copies(project_as_it_is(context).store.templates)}
    chosen = [copies[_name(template, copies)]] if template else list(copies.values())
    if template and chosen[0].project is None:
        raise PkiError(f"templates/{chosen[0].name}: is not in the project", str(_eject(chosen[0].name)))
    if template and chosen[0].program is None:
        raise PkiError(f"templates/{chosen[0].name}: the program has no such template", "./run invoke templates.list")
    lines = [line for copy in chosen if copy.is_changed for line in _comparison(copy)]
    for line in lines or ["it is equal to the program's" if template else "no template differs from the program's"]:
        screen.line(line, is_verbatim=True)


def _comparison(copy: TemplateCopy) -> Iterator[str]:
    """Yield a diff from the program's template to the project's; from the original to both if the program's is newer."""
    now, project = f"{copy.name} (program {__version__})", f"{copy.name} (project)"
    if not copy.is_outdated or copy.original is None:
        yield from _diff(copy.program or b"", copy.project or b"", now, project)
        return
    original, copied = copy.original.content, f"{copy.name} (program {copy.original.version}, as copied)"
    yield from _diff(original, copy.program or b"", copied, now)
    if copy.is_edited:
        yield from _diff(original, copy.project or b"", copied, project)
        yield "→ make the changes of the program in your template, or leave them out; then:"
        yield f"→ {here('invoke', 'templates.accept', copy.name)}"
    else:
        yield "→ the project changed nothing; for the newer version:"
        yield f"→ rm {in_project(f'templates/{copy.name}')} && {_eject(copy.name)}"


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
    Screen().done("created", f"templates/{name}", f"from version {__version__}; what it adds: {here('invoke', 'plan')}")


@command
def accept(context: Context, template: str) -> None:
    """Record that a template of the project is based on the program's present version: plan and health report it no more."""
    with held_project_of(context) as project:
        name = _name(template, template_versions.program_templates())
        template_versions.record_original(project.store.templates, name)
    Screen().done("recorded", f"templates/{name}", f"is based on version {__version__}")


def _name(typed: str, names: Iterable[str]) -> str:
    return require_one_of(typed.removeprefix("templates/"), names, "template")


def _eject(name: str) -> Remedy:
    return here("invoke", "templates.eject", name)


TASKS: dict[str, Any] = {"list": show_list, "diff": diff, "eject": eject, "accept": accept}
