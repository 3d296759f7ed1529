"""Somebody at a terminal in the folder of a project: types the console blocks of docs/ as they are printed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from pki.demo.namespace_machine import NamespaceMachine
from tests.integration.terminal import PROMPT, Answer, Shell
from tests.support.consoles import Typed

STATUS = "status "
PS1 = f"{STATUS}$?{PROMPT}"
PROJECT_FOLDER = "/srv/pki"
ON_A_DAY = {r"\d{8}T\d{6}Z": "MOMENT", r"\d{4}-\d\d-\d\d(T[0-9:]+Z| \d\d:\d\d)?": "DATE"}
"""Dates, which differ with the day on which the test is run."""


class Desk:
    """A shell on a machine, in the folder of a project."""

    def __init__(self, command: Sequence[str | Path], folder: Path, answers: Mapping[str, Answer]) -> None:
        self.shell = Shell(command, folder, {})
        self.answers = answers
        self.status = 0

    def follow(self, block: Sequence[Typed], *statuses: int) -> str:
        """Type a block; what is printed must be what the page shows. Returns all of it.

        Each command ends with 0, or with its number of `statuses`.
        """
        said = ""
        for typed, status in zip_longest(block, statuses, fillvalue=0):
            assert isinstance(typed, Typed)
            printed = self.type(typed.command)
            shown = Typed(typed.command, without_dates(typed.shown))
            assert shown.is_shown_by(without_dates(printed)), (
                f"{typed.command} prints:\n{printed}\nshown:\n{typed.shown}"
            )
            assert self.status == status, printed
            said += printed
        return said

    def type(self, line: str) -> str:
        """Type a line; `status` is its exit status then."""
        return self._without_status(self.shell.line(line, self.answers))

    def stop(self, line: str, begun: str) -> str:
        """Type a line, and Ctrl-C once it has begun to print."""
        self.shell.type(line)
        self.shell.see(begun)
        self.shell.press(b"\x03")
        return self._without_status(self.shell.see(PROMPT).removesuffix(PROMPT))

    def _without_status(self, shown: str) -> str:
        said, _, status = shown.partition("\n")[2].rpartition(STATUS)
        self.status = int(status)
        return said

    def leave(self) -> None:
        self.shell.leave()


def desk_on(
    machine: NamespaceMachine, folder: Path, answers: Mapping[str, Answer], *starter: str | Path, **more: str
) -> Desk:
    """A shell on a machine of a lab, for root or for whom `starter` makes it."""
    environment = {"PS1": PS1, "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1", **more}
    command = machine.inside(*starter, "sh", "-i", cwd=PROJECT_FOLDER, env=environment)
    return Desk(command, folder, answers)


def without_dates(text: str) -> str:
    for pattern, word in ON_A_DAY.items():
        text = re.sub(pattern, word, text)
    return text
