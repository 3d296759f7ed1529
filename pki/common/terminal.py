"""The terminal: colour and a progress display where somebody watches, plain lines where nobody does."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pki.common.visible import visible


class Screen:
    """Where lines go. Rich is loaded only when standard output is a terminal.

    Control characters in any text are made visible: a host, a device or a file may have supplied it.
    One that `may_be_deaf` goes on where nothing can be written any more: to a pipe that was closed, to a full disk.
    """

    def __init__(self, *, may_be_deaf: bool = False) -> None:
        self._may_be_deaf = may_be_deaf
        self._console: Any = None
        self._bar: Any = None
        self._job: Any = None
        if sys.stdout.isatty():
            from rich.console import Console  # noqa: PLC0415 - costs 50 ms, which cron has no use for

            self._console = Console(highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return self._console is not None

    def line(self, text: str) -> None:
        text = visible(text)
        if self._console:
            self._console.print(text, markup=False)
        else:
            self._print(text)

    def heading(self, text: str) -> None:
        if self._console:
            self._console.print(f"\n[bold]{text}[/]")
        else:
            print(f"\n{text}", flush=True)

    def dated(self, when: str, name: str, what: str, *, is_wrong: bool = False) -> None:
        """One line of a calendar; what has no day of its own comes without one."""
        name, what = visible(name), visible(what)
        if self._console:
            from rich.table import Table  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_column(min_width=10, no_wrap=True, style="bold red" if is_wrong else "cyan")
            line.add_column(min_width=24, no_wrap=True, style="bold")
            line.add_row(when, Text(name), Text(what))
            self._console.print(line)
        else:
            print(f"{when:<11}{name:<24} {what}".rstrip(), flush=True)

    def clear(self) -> None:
        """Clear a terminal, and what can be scrolled back to."""
        if self._console:
            print("\033[H\033[2J\033[3J", end="", flush=True)

    def made(self, name: str, why: str) -> None:
        self._entry("made", "green", name, why)

    def failed(self, name: str, why: str, hint: str) -> None:
        self._entry("failed", "bold red", name, why)
        self._typed(hint)

    def due(self, name: str, why: str) -> None:
        self._entry("to do", "yellow", name, why)

    def note(self, name: str, what: str, remedy: str) -> None:
        self._entry("person", "bold cyan", name, what)
        self._typed(remedy)

    def remark(self, name: str, what: str, remedy: str) -> None:
        """Something to know before it happens, which is no fault."""
        self._entry("note", "cyan", name, what)
        self._typed(remedy)

    def seen(self, verdict: str, place: str, text: str) -> None:
        """What was seen of a service or host: `verdict` is one of VERDICTS."""
        self._entry(verdict, VERDICTS[verdict], place, text)

    def check(self, level: str, name: str, what: str, when: str, remedy: str) -> None:
        """One finding about health; what to type on a line of its own."""
        self._entry(level, LEVELS[level], name, f"{what} ({when})" if when else what, width=9)
        self._typed(remedy, width=9)

    def unmet(self, name: str, needs: str) -> None:
        self._entry("waits", "yellow", name, f"needs {needs.replace(' ', ', ')}")

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """A progress display below the lines, at a terminal; nothing otherwise."""
        if not self._console:
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("[dim]{task.description}"))
        with Progress(*columns, console=self._console, transient=True) as self._bar:
            self._job = self._bar.add_task("", total=total)
            yield
        self._bar = None

    def advance(self, name: str) -> None:
        if self._bar:
            self._bar.update(self._job, advance=1, description=name)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; in plain form the columns are padded and never cut."""
        rows = [[visible(cell) for cell in row] for row in rows]
        if not self._console:
            widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
            for row in (columns, *rows):
                print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for number, column in enumerate(columns):
            table.add_column(column, no_wrap=number == 0)  # a name or serial number is there to be copied
        for row in rows:
            table.add_row(*(Text(cell, style=STATES.get(cell, "")) for cell in row))
        self._console.print(table)

    def _entry(self, verb: str, style: str, name: str, why: str, width: int = 7) -> None:
        """A line of three columns; at a terminal each of them keeps to itself, however much there is to say."""
        name, why = visible(name), visible(why)
        if self._console:
            from rich.table import Table  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_column(min_width=width - 1, no_wrap=True, style=style)
            line.add_column(min_width=24, style="bold")
            line.add_column()
            line.add_row(verb, Text(name), Text(why))
            self._console.print(line)
        else:
            first, *more = why.splitlines() or [""]
            self._print(f"{verb:<{width}}{name:<24} {first}".rstrip())
            for text in more:
                self._print(f"{'':<{width + 24}} {text}")

    def _typed(self, remedy: str, width: int = 7) -> None:
        """What to type, never broken: the terminal itself wraps it, and it can be copied as one line."""
        for text in visible(remedy).splitlines():
            line = f"{'':<{width + 24}} → {text}"
            if self._console:
                self._console.print(line, markup=False, soft_wrap=True)
            else:
                self._print(line)

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            if not self._may_be_deaf:
                raise
            say_nothing_more()


def say_nothing_more() -> None:
    """Let go of a standard output that takes nothing any more: Python flushes it once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ask_secretly(question: str) -> str | None:
    """What somebody types without seeing it; None where there is no terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(question)
    except (OSError, EOFError):
        return None


VERDICTS = {"verified": "green", "open": "bold yellow", "failed": "bold red", "folder": "dim"}
LEVELS = {"ok": "green", "notice": "cyan", "warning": "yellow", "critical": "bold red"}
STATES = {
    "ok": "green",
    "due": "yellow",
    "waits": "yellow",
    "withheld": "yellow",
    "expired": "bold red",
    "revoked": "red",
    "missing": "red",
    "failing": "bold red",
    "unseen": "yellow",
}
