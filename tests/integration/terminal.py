"""A shell at a terminal: a test types line by line, and answers what the programs ask."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.integration.air_gap import PATIENCE, Terminal

PROMPT = "here# "
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")
Answer = Callable[[str], str]  # what is typed, from what was shown since the last answer


class Shell(Terminal):
    """A shell that `command` starts, and that asks for each line with PROMPT."""

    def __init__(self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(command, folder, {**environment, "PS1": PROMPT, "TERM": "xterm", "COLUMNS": "200"})
        self.see(PROMPT)

    def line(self, line: str, answers: Mapping[str, Answer]) -> str:
        """Type a line and answer each question, a regular expression; returns what was shown until the next prompt."""
        start = begin = len(self.shown)
        self.type(line)
        while not (new := ESCAPES.sub("", self.shown[begin:])).endswith(PROMPT):
            for question, answer in answers.items():
                if re.search(rf"(?:{question})\Z", new):
                    begin = len(self.shown)
                    self.type(answer(new))
                    break
            self._read_on()
        return ESCAPES.sub("", self.shown[start:]).removesuffix(PROMPT)

    def _read_on(self) -> None:
        """Wait until more is shown."""
        seen, end = len(self.shown), time.monotonic() + PATIENCE
        while len(self.shown) == seen:
            assert self.status is None, self.shown
            assert time.monotonic() < end, self.shown
            self._read()

    def leave(self) -> None:
        """End the shell."""
        self.type("exit")
        self.end()
        self.close()
