"""A simulated person: types the commands that the program prints, and answers what it asks."""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import tasks
from pki.cli.program import Program
from tests.support.printed_commands import commands
from tests.support.projects import Ask

WORD = re.compile(r"type (\S+) to continue")
PASSPHRASE = "marble-otter-canyon-velvet-anchor-piano"


class Keyboard(io.StringIO):
    """Answers the last question on the screen: the word that is asked for, else yes."""

    def __init__(self, screen: io.StringIO) -> None:
        super().__init__()
        self._screen = screen

    def isatty(self) -> bool:
        return True

    def readline(self, _size: int | None = -1, /) -> str:
        words = WORD.findall(self._screen.getvalue()[-500:])
        return f"{words[-1] if words else 'yes'}\n"


@contextmanager
def at_a_terminal() -> Iterator[io.StringIO]:
    """What is said meanwhile, with somebody at the keyboard."""
    screen, before = io.StringIO(), sys.stdin
    sys.stdin = Keyboard(screen)
    try:
        with redirect_stdout(screen), redirect_stderr(screen):
            yield screen
    finally:
        sys.stdin = before


@contextmanager
def unattended() -> Iterator[io.StringIO]:
    """What a run says that a timer started."""
    screen = io.StringIO()
    with redirect_stdout(screen), redirect_stderr(screen):
        yield screen


def printed(said: str) -> list[list[str]]:
    """The commands that a refusal names as what to type, each once: those behind an arrow."""
    hints = [part for line in said.splitlines() for part in line.split("→")[1:]]
    found = [shlex.split(" ".join(words)) for hint in hints for words in commands(hint)]
    return [words for number, words in enumerate(found) if words not in found[:number]]


@dataclass(frozen=True)
class Person:
    """Who keeps a project, with a folder of backups."""

    home: Path
    desk: Path

    def types(self, words: list[str], now: datetime, evidence: Ask) -> tuple[int, str]:
        """Type `invoke …` as it was printed; FILE stands for the newest backup. Returns exit status and what was said."""
        newest = max(self.desk.glob("*.age"), default=None, key=lambda path: path.name)
        typed = [str(newest) if word == "FILE" else word for word in words]
        if typed[0] in {"restore", "backup"}:
            (self.desk / "passphrase").write_text(f"{PASSPHRASE}\n", encoding="utf-8")
            typed += ["--passphrase-file", str(self.desk / "passphrase")]
        settings = {"pki_home": str(self.home), "pki_now": now, "pki_called_from": str(self.desk)}
        tasks.ns.configure({**settings, "pki_evidence": evidence})
        status = 0
        with at_a_terminal() as screen:
            try:
                Program(tasks.ns).run(["invoke", *typed])
            except SystemExit as left:
                status = int(left.code or 0)
        return status, screen.getvalue()
