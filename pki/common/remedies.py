"""What to type where something is wrong, as values: a command, where it is typed, and what the reader fills in."""

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
    """Where a command is typed; the value says so, before the command."""

    HERE = ""
    HOST = "on {host}: "
    OFFLINE = "at the offline machine: "
    CONSOLE = "in a console of {host}: "


@dataclass(frozen=True, slots=True)
class Remedy:
    """A command that ends a fault, or shows more of it; `placeholders` are the words that the reader replaces.

    `before` and `after` are what is to be done beside it, in words.
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
    """Return `./run` as it is typed in the program's folder for the project in `home`.

    It names the project with PKI_HOME, unless that is the folder of the program. Without `home` it is the project for
    which this process was started.
    """
    project = Path(home or os.environ.get("PKI_HOME") or PROGRAM).resolve()
    return "./run" if project == PROGRAM else f"PKI_HOME={shlex.quote(str(project))} ./run"


def in_project(name: str) -> str:
    """Return a file of the project of this process as it is typed beside `./run`, quoted for a shell."""
    project = Path(os.environ.get("PKI_HOME") or PROGRAM).resolve()
    return shlex.quote(name if project == PROGRAM else str(project / name))


def for_this_project(text: str) -> str:
    """Return a text in which each `./run` is typed for the project of this process; one that names a project stays."""
    if "./run " not in text or (run := run_for()) == "./run":
        return text
    return RUN.sub(lambda found: found[0] if found[1] else f"{run} ", text)


def here(
    *words: str, home: Path | str | None = None, placeholders: Iterable[str] = (), before: str = "", after: str = ""
) -> Remedy:
    """Return the remedy that is a command of this program, typed here: `here("invoke", "renew", name)`.

    `words` are quoted for a shell, those among `placeholders` excepted.
    """
    kept = tuple(placeholders)
    typed = (word if word in kept else shlex.quote(word) for word in words)
    return Remedy(" ".join([run_for(home), *typed]), placeholders=kept, before=before, after=after)


def at(place: Place, command: str, host: str = "", *, after: str = "") -> Remedy:
    """Return the remedy that is a command of another program or machine: on a host, in its console, offline."""
    return Remedy(command, place, host, after=after)


RESTORE = here("invoke", "restore", "FILE", placeholders=["FILE"])  # where something is lost that cannot be made again
