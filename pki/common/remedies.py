"""Remedies as values: a command, the machine on which it is typed, and its placeholders."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pki.common.program_files import COMMAND, IS_INSTALLED, PROGRAM, executable, has_no_project

RUN = re.compile(r"(PKI_HOME=(?:'[^']*'|\S+) )?(?<![\w./])\./run ")
DOCUMENT = re.compile(r"(?<![\w./-])(?=docs/[\w-]+/[\w-]+\.md|CHANGELOG\.md)")
BARE = re.compile(r"(?<![\w./])\./run (?!(?:doit|invoke|pip|badkeys)\b)(?=[a-z])")  # a command without `invoke`


class Place(Enum):
    """The machine on which a command is typed; the value is the text before the command."""

    HERE = ""
    HOST = "on {host}: "
    OFFLINE = "at the offline machine: "
    CONSOLE = "in a console of {host}: "


@dataclass(frozen=True, slots=True)
class Remedy:
    """A command that corrects a fault or shows details of it; `placeholders` are words that the user replaces.

    `before` and `after` are further steps, in words. `is_for_process`: the command names the project of the process only
    when it is printed, because constants are made before that is known.
    """

    command: str
    place: Place = Place.HERE
    host: str = ""
    placeholders: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    is_for_process: bool = False

    def __str__(self) -> str:
        command = for_this_project(self.command) if self.is_for_process else self.command
        return f"{self.before}{self.place.value.format(host=self.host)}{command}{self.after}"


def started_as() -> str:
    """Return the command that starts the program: a clone's, a kit's, which may be on a drive without programs, or installed."""
    if IS_INSTALLED:
        return os.environ.get("PKI_COMMAND") or command_on_path()
    return "sh run" if (PROGRAM / "wheels/made-for").exists() else "./run"


def command_on_path() -> str:
    """Return `doit-pki`, or the path of the installed command where a shell would not find it."""
    return COMMAND if shutil.which(COMMAND) else shlex.quote(str(executable()))


def as_started(text: str) -> str:
    """Return a text in which each `./run` is the command that starts the program, for any project."""
    return _in_words_of_installed(RUN.sub(lambda match: f"{match[1] or ''}{started_as()} ", text))


def run_for(home: Path | str | None = None, where: Path | None = None) -> str:
    """Return the command for the project in `home` as it is typed in the folder `where`.

    The defaults are the project of this process, and the folder in which its command was typed.

    That is the `run` of the project's folder if it was started by it, `doit-pki` if the program is installed, and the
    `run` of the clone. PKI_HOME is set where the command would not find the project.
    """
    project, here = _project(home), where or typed_in()
    by_folder = os.environ.get("PKI_RUN", "")
    if by_folder and Path(by_folder).resolve().parent == project:
        return "./run" if here == project else shlex.quote(by_folder)
    is_found = has_no_project() or (
        here.is_relative_to(project) if IS_INSTALLED or here != PROGRAM else project == PROGRAM
    )
    command = _run_of_program(here)
    return command if is_found else f"PKI_HOME={shlex.quote(str(project))} {command}"


def _run_of_program(folder: Path) -> str:
    """Return the command of the program as it is typed in a folder, without a project."""
    if IS_INSTALLED or folder == PROGRAM:
        return started_as()
    return started_as().replace("./run", "run").replace("run", shlex.quote(str(PROGRAM / "run")))


def _project(home: Path | str | None = None) -> Path:
    return Path(home or os.environ.get("PKI_HOME") or PROGRAM).resolve()


def commands_folder(home: Path) -> Path:
    """Return the folder in which the commands of a mail or page are typed: the clone, or the project with its own `run`."""
    return home if IS_INSTALLED or _has_run(home) else PROGRAM


def run_in_commands_folder(home: Path) -> str:
    """Return the command for a project as it is typed in its `commands_folder`.

    It is the same whatever started this process: a page must not change because cron and a user start runs in turn.
    """
    return "./run" if _has_run(home) else run_for(home, commands_folder(home))


def _has_run(home: Path) -> bool:
    """Return whether a project has a `run` of its own."""
    by_folder = os.environ.get("PKI_RUN", "")
    return bool(by_folder and Path(by_folder).resolve().parent == home) or os.access(home / "run", os.X_OK)


def for_commands_folder(text: str) -> str:
    """Return a text whose commands are typed in `commands_folder`, wherever that of this process was typed."""
    project = _project()
    folder, command = commands_folder(project), run_in_commands_folder(project)
    text = with_documents(for_this_project(text).replace(f"{run_for()} ", f"{command} "), folder)
    return BARE.sub("./run invoke ", text) if command == "./run" else text


def with_documents(text: str, folder: Path) -> str:
    """Return a text in which `CHANGELOG.md` and each `docs/…` is the path of the program's document as it is found from a folder."""
    text = text.replace(f"{PROGRAM}/docs/", "docs/").replace(f"{PROGRAM}/CHANGELOG.md", "CHANGELOG.md")
    return text if folder == PROGRAM else DOCUMENT.sub(lambda _: f"{PROGRAM}/", text)


def typed_in() -> Path:
    """Return the folder in which the command was typed: `run` changes to the program's folder."""
    return Path(os.environ.get("PKI_CALLED_FROM") or os.getcwd())


def _in_words_of_installed(text: str) -> str:
    """Return a text in which commands of an installed program are as it knows them: no `invoke`, locks by their path."""
    if not IS_INSTALLED:
        return text
    return text.replace(f"{COMMAND} invoke ", f"{COMMAND} ").replace(
        "-r requirements", f"-r {shlex.quote(str(PROGRAM))}/requirements"
    )


def in_project(name: str) -> str:
    """Return the path of a file of the project as it is typed where the user is, quoted for a shell."""
    project = _project()
    return shlex.quote(name if project == typed_in() else str(project / name))


def for_this_project(text: str) -> str:
    """Return a text in which each `./run` without a project names the project of this process, and documents their path."""
    text = with_documents(text, typed_in())
    if "./run " in text and (run := run_for()) != "./run":
        program = _run_of_program(typed_in())  # where the text names another project
        text = RUN.sub(lambda match: f"{match[1]}{program} " if match[1] else f"{run} ", text)
    return _in_words_of_installed(text)


def here(
    *words: str, home: Path | str | None = None, placeholders: Iterable[str] = (), before: str = "", after: str = ""
) -> Remedy:
    """Return the remedy that is a command of this program on this machine: `here("invoke", "renew", name)`.

    `words` are quoted for a shell, except those in `placeholders`.
    """
    placeholder_words = tuple(placeholders)
    typed_words = (word if word in placeholder_words else shlex.quote(word) for word in words)
    command = " ".join([run_for(home) if home else "./run", *typed_words])
    return Remedy(command, placeholders=placeholder_words, before=before, after=after, is_for_process=home is None)


def at(place: Place, command: str, host: str = "", *, after: str = "") -> Remedy:
    """Return the remedy that is a command of another program, or on another machine."""
    return Remedy(command, place, host, after=after)


RESTORE = here("invoke", "restore", "FILE", placeholders=["FILE"])  # for a lost file that cannot be created again
