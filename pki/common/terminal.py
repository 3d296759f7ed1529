"""Output on standard output: colour, tables and a progress display at a terminal, plain lines otherwise."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pki.common.remedies import for_this_project
from pki.common.visible import visible

VERB_WIDTH = 10  # of the column of verbs and levels, with a space after it
NAME_WIDTH = 24  # the least width of the column of names
SHELL_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
CONTINUED = "\\"
MIN_TEXT_WIDTH = 45  # the least width of the column of texts beside a longer name


class Screen:
    """Prints lines in columns. Rich is loaded only when standard output is a terminal.

    Control characters in any text are made visible: a host, a device or a file may have supplied it. A command in a
    text begins as it is typed here, except in a text that is printed as it is (`is_verbatim`).
    With `drops_unwritable`, a line that cannot be written (closed pipe, full disk) is dropped; else OSError is raised.
    """

    def __init__(self, *, drops_unwritable: bool = False) -> None:
        self._drops_unwritable = drops_unwritable
        self._console: Any = None
        if sys.stdout.isatty():
            from rich.console import Console  # noqa: PLC0415 - costs 50 ms, and cron does not need it

            self._console = Console(highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Return whether standard output is a terminal."""
        return self._console is not None

    def line(self, text: str, *, indent: int = 0, narrow: str = "", is_verbatim: bool = False) -> None:
        """Print a text without columns; at a terminal, what is too long is broken between words.

        The further lines begin at `indent`. `narrow` is printed instead where the terminal is too narrow: its indented
        lines are commands, which stay on one line. A text that `is_verbatim`, such as that of a file, is not broken.
        """
        text = visible(text if is_verbatim else for_this_project(text))
        if self._console is None:
            self._print(text)
            return
        width = self._console.width
        if narrow and any(len(line) > width for line in text.split("\n")):
            lines = visible(for_this_project(narrow)).split("\n")
            parts = [
                part for line in lines for part in (continued(line, width) if line[:1] == " " else wrapped(line, width))
            ]
        else:
            parts = [
                part for line in text.split("\n") for part in ([line] if is_verbatim else wrapped(line, width, indent))
            ]
        self._console.print("\n".join(parts), markup=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Print a heading after an empty line."""
        if self._console:
            self._console.print(f"\n[bold]{text}[/]")
        else:
            print(f"\n{text}", flush=True)

    def dated(self, when: str, name: str, what: str, *, is_problem: bool = False) -> None:
        """Print one line of a calendar; `when` is a date, or empty for a further event of the same day."""
        name, what = visible(name), visible(for_this_project(what))
        if self._console:
            from rich.table import Table  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_column(min_width=10, no_wrap=True, style="bold red" if is_problem else "cyan")
            line.add_column(min_width=NAME_WIDTH, no_wrap=True, style="bold")
            line.add_column(overflow="fold")  # shortens no path
            line.add_row(when, Text(name), Text(what))
            self._console.print(line)
        else:
            print(f"{when:<11}{name:<{NAME_WIDTH}} {what}".rstrip(), flush=True)

    def done(self, verb: str, name: str, what: str = "") -> None:
        """Print what was done with something: `issued cert:media  did not exist`."""
        self._entry(verb, "green", name, what)

    def failed(self, name: str, why: str, hint: str) -> None:
        """Print what failed and why; the hint on a line of its own."""
        self._entry("failed", "bold red", name, why)
        self._typed(hint)

    def blocked(self, name: str, by: str) -> None:
        """Print what was not made because something that it needs failed; `by` are names with a space between them."""
        self._entry("blocked", "yellow", name, f"by {by.replace(' ', ', ')}")

    def due(self, name: str, why: str, *, is_certain: bool = True) -> None:
        """Print what the next run will do, or may do, and why."""
        self._entry("to do" if is_certain else "may do", "yellow", name, why)

    def note(self, name: str, what: str, remedy: str, *, is_required: bool = True) -> None:
        """Print an action that is required of the user, or one that is not; the remedy on a line of its own."""
        self._entry(*(("action", "bold cyan") if is_required else ("note", "cyan")), name, what)
        self._typed(remedy)

    def observed(self, verdict: str, place: str, text: str) -> None:
        """Print what was observed at a service or host: `verdict` is one of VERDICTS."""
        self._entry(verdict, VERDICTS[verdict], place, text)

    def check(self, level: str, name: str, what: str, when: str, remedy: str) -> None:
        """Print one finding of health: `level` is one of LEVELS; the remedy on a line of its own."""
        self._entry(level, LEVELS[level], name, f"{what} ({when})" if when else what)
        self._typed(remedy)

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[str], None]]:
        """Show a progress display below the lines, at a terminal only.

        Returns a function that advances it by one, to the task of a name.
        """
        if not self._console:
            yield lambda _name: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("[dim]{task.description}"))
        with Progress(*columns, console=self._console, transient=True) as bar:
            job = bar.add_task("", total=total)
            yield lambda name: bar.update(job, advance=1, description=name)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; without a terminal, columns are padded and never shortened.

        At a terminal that is too narrow for the longest word of each column, every row becomes a block of lines.
        """
        rows = [[visible(for_this_project(cell)) for cell in row] for row in rows]
        if not self._console:
            widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
            for row in (columns, *rows):
                print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        widths = [
            max(len(word) for row in (columns, *rows) for word in (row[i].split() or [""])) for i in range(len(columns))
        ]
        if sum(widths) + 2 * len(widths) > self._console.width:
            self._blocks(title, columns, rows)
            return
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for number, column in enumerate(columns):
            table.add_column(column, no_wrap=number == 0, min_width=widths[number])  # names and serials are copied
        for row in rows:
            table.add_row(*(Text(cell, style=STATES.get(cell, "")) for cell in row))
        self._console.print(table)

    def _blocks(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print each row as its first cell, and below that a line for each further cell with its heading."""
        label = max(map(len, columns)) + 2
        self._console.print(f"[bold]{title}[/]")
        for row in rows:
            self._console.print(row[0], markup=False, soft_wrap=True)
            for column, cell in zip(columns[1:], row[1:], strict=True):
                if cell:
                    self.line(f"  {column:<{label}}{cell}", indent=label + 2)

    def _entry(self, verb: str, style: str, name: str, why: str) -> None:
        """Print a line of three columns; at a terminal, long texts wrap within their column."""
        name, why = visible(name), visible(for_this_project(why))
        if self._console:
            from rich.table import Table  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415

            if len(name) > max(
                NAME_WIDTH, self._console.width - VERB_WIDTH - MIN_TEXT_WIDTH
            ):  # never shortened: on a line of its own
                self._console.print(Text.assemble((f"{verb:<{VERB_WIDTH}}", style), (name, "bold")), soft_wrap=True)
                verb = name = ""
            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_column(min_width=VERB_WIDTH - 1, no_wrap=True, style=style)
            line.add_column(min_width=NAME_WIDTH, style="bold")
            line.add_column(overflow="fold")  # shortens no path
            line.add_row(verb, Text(name), Text(why))
            self._console.print(line)
        else:
            first, *more = why.splitlines() or [""]
            self._print(f"{verb:<{VERB_WIDTH - 1}} {name:<{NAME_WIDTH}} {first}".rstrip())
            for text in more:
                self._print(f"{'':<{VERB_WIDTH + NAME_WIDTH}} {text}")

    def _typed(self, remedy: str) -> None:
        """Print what to type, each command on one line, so that it can be copied; at a narrow terminal further left."""
        lines = visible(for_this_project(remedy)).splitlines()
        if not self._console:
            for text in lines:
                self._print(f"{'':<{VERB_WIDTH + NAME_WIDTH}} → {text}")
            return
        room = self._console.width - len(" → ")
        indent = (
            VERB_WIDTH + NAME_WIDTH
            if all(len(text) <= room - VERB_WIDTH - NAME_WIDTH for text in lines)
            else VERB_WIDTH - 1
        )
        for text in lines:
            for number, part in enumerate(fold(text, room - indent)):
                arrow = "→" if number == 0 else " "
                self._console.print(f"{'':<{indent}} {arrow} {part}", markup=False, soft_wrap=True)

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            if not self._drops_unwritable:
                raise
            discard_output()


def wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Return the lines of a text at a terminal, broken between words.

    The further lines begin at `indent`, by default two characters after the first one.
    """
    margin = " " * (indent or len(text) - len(text.lstrip()) + 2)
    lines = textwrap.wrap(text, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    return lines or [""]


def continued(command: str, width: int) -> list[str]:
    """Return the lines of an indented shell command, broken between its words; a backslash ends each but the last one."""
    lines = [" "]
    for word in SHELL_WORD.findall(command):
        if lines[-1].strip() and len(f"{lines[-1]} {word} {CONTINUED}") > width:
            lines[-1] += f" {CONTINUED}"
            lines.append("   ")
        lines[-1] += f" {word}"
    return lines


def error_text(message: str, hint: str) -> str:
    """Return an error and what to do, for standard error; at a terminal broken between words, and not in commands."""
    lines, hints = message.splitlines(), hint.splitlines()
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        lines = [part for line in lines for part in wrapped(line, width)]
        hints = [part for line in hints for part in _folded(line, width - 2)]
    return "\n".join([*lines, *([f"→ {hints[0]}", *hints[1:]] if hints else [])])


def _folded(hint: str, width: int) -> list[str]:
    """Return the lines of a hint: a row of a list is broken between words, anything else as `fold` does."""
    if hint.startswith(" "):
        return wrapped(hint, width)
    first, *more = fold(hint, width)
    return [first, *(f"  {part}" for part in more)]


def fold(text: str, width: int) -> list[str]:
    """Return a text as lines of at most `width` characters, broken after `; `, else after `: `, else after `, `.

    A part between two of these that is longer stays one line: it may be a command, which is copied as a whole.
    """
    lines = [""]
    for part in _parts(text, width, ("; ", ": ", ", ")):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _parts(text: str, width: int, ends: Sequence[str]) -> Iterator[str]:
    """Yield a text that fits, else its parts, each with the first of `ends` at its end, which are divided again."""
    if len(text.rstrip()) <= width or not ends:
        yield text
        return
    *parts, last = text.split(ends[0], -1 if ends[0] == "; " else 1)  # a command may have the others too
    for part in (*(f"{part}{ends[0]}" for part in parts), last):
        yield from _parts(part, width, ends[1:])


def clear_terminal() -> None:
    """Clear a terminal and its scrollback; do nothing where standard output is none."""
    if sys.stdout.isatty():
        print("\033[H\033[2J\033[3J", end="", flush=True)


def discard_output() -> None:
    """Redirect standard output, which cannot be written, to /dev/null: Python flushes it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ask_secretly(question: str) -> str | None:
    """Ask for a secret without echo; return None if there is no terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return getpass.getpass(question)
    except (OSError, EOFError):
        return None


VERDICTS = {
    "verified": "green",
    "unverified": "bold yellow",
    "failed": "bold red",
    "folder": "dim",
    "unknown": "yellow",
    "sessions": "cyan",
}
LEVELS = {"ok": "green", "notice": "cyan", "warning": "yellow", "critical": "bold red"}
STATES = {
    "ok": "green",
    "due": "yellow",
    "blocked": "yellow",
    "stopped": "yellow",
    "expired": "bold red",
    "revoked": "red",
    "missing": "red",
    "failing": "bold red",
    "unknown": "yellow",
}
