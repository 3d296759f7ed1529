"""Remedies as values: a command, the machine on which it is typed, and its placeholders."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pki.common.program_files import PROGRAM

RUN = re.compile(r"(PKI_HOME=(?:'[^']*'|\S+) )?(?<![\w./])\./run ")


class Place(Enum):
    """The machine on which a command is typed; the value is the text before the command."""

    HERE = ""
    HOST = "on {host}: "
    OFFLINE = "at the offline machine: "
    CONSOLE = "in a console of {host}: "


@dataclass(frozen=True, slots=True)
class Remedy:
    """A command that corrects a fault or shows details of it; `placeholders` are words that the user replaces.

    `before` and `after` are further steps, in words.
    """

    command: str
    place: Place = Place.HERE
    host: str = ""
    placeholders: tuple[str, ...] = ()
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        return f"{self.before}{self.place.value.format(host=self.host)}{self.command}{self.after}"


def run_for(home: Path | str | None = None) -> str:
    """Return the `./run` command, typed in the program's folder, for the project in `home`.

    It sets PKI_HOME unless the project is in the program's folder. The default is the project of this process.
    """
    project = Path(home or os.environ.get("PKI_HOME") or PROGRAM).resolve()
    return "./run" if project == PROGRAM else f"PKI_HOME={shlex.quote(str(project))} ./run"


def in_project(name: str) -> str:
    """Return the path of a file of the project as typed in the program's folder, quoted for a shell."""
    project = Path(os.environ.get("PKI_HOME") or PROGRAM).resolve()
    return shlex.quote(name if project == PROGRAM else str(project / name))


def for_this_project(text: str) -> str:
    """Return a text in which each `./run` without a project names the project of this process."""
    if "./run " not in text or (run := run_for()) == "./run":
        return text
    return RUN.sub(lambda match: match[0] if match[1] else f"{run} ", text)


def here(
    *words: str, home: Path | str | None = None, placeholders: Iterable[str] = (), before: str = "", after: str = ""
) -> Remedy:
    """Return the remedy that is a command of this program on this machine: `here("invoke", "renew", name)`.

    `words` are quoted for a shell, except those in `placeholders`.
    """
    replaced = tuple(placeholders)
    typed = (word if word in replaced else shlex.quote(word) for word in words)
    return Remedy(" ".join([run_for(home), *typed]), placeholders=replaced, before=before, after=after)


def at(place: Place, command: str, host: str = "", *, after: str = "") -> Remedy:
    """Return the remedy that is a command of another program, or on another machine."""
    return Remedy(command, place, host, after=after)


RESTORE = here("invoke", "restore", "FILE", placeholders=["FILE"])  # for a lost file that cannot be created again
