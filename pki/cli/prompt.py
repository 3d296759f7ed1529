"""Prompts at a terminal: text, secrets without echo, and words that are typed from paper."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from getpass import getpass
from typing import Any, ClassVar

from pki.ceremony import words
from pki.ceremony.offline import machine_check
from pki.common.errors import CancelledError, InputError, PkiError
from pki.common.terminal import Screen

TRIES = 3
STOPPED = "stopped; nothing was written"
ENDING = (signal.SIGTERM, signal.SIGHUP)


def ask_first_words(of: str, paper: str, hex_digest: str, others: Mapping[str, str] | None = None) -> str:
    """Return the first words of a digest as they are typed from paper. After a mistake, it asks again, three times in all.

    `others` are digests with their names: their words are recognised if they are typed by mistake.
    """
    for _ in range(TRIES - 1):
        given = ask(f"first {words.WORDS_TO_TYPE} words of the {of}, from the paper of {paper}: ")
        if not (wrong := words.mismatch(given, hex_digest)):
            return given
        name = words.name_of_typed(given, {f"the {of}": hex_digest} | dict(others or {}), f"the {of}")
        print(f"these are {name}; type the words of the {of}" if name else f"{wrong}; check it again")
    return ask(f"first {words.WORDS_TO_TYPE} words of the {of}: ")


def ask_watch_time(clock: Callable[[], datetime]) -> tuple[datetime, str]:
    """Return the time of this machine and the typed time of the witness's watch. Asks again after a mistake, three times."""
    for _ in range(TRIES - 1):
        given = ask("time on the witness's watch, in UTC, as HH:MM: ").strip()
        at = clock()
        if not given or not (wrong := machine_check.watch_fault(at, given)):
            return at, given
        print(f"{wrong}; check it again")
    given = ask("time on the witness's watch, in UTC, as HH:MM: ").strip()
    return clock(), given


def ask(question: str, *, hidden: bool = False) -> str:
    """Return the typed answer. Raises PkiError without a terminal: scripts use options instead."""
    if not sys.stdin.isatty():
        raise PkiError(f"there is no terminal to ask: {question.strip(': ')}", "start it at a terminal, or see --help")
    with without_echo() if hidden else nullcontext():
        return _answer(question, hidden=hidden)


def is_yes(question: str) -> bool:
    """Return whether the typed answer is yes. Raises PkiError without a terminal."""
    return ask(f"{question} (yes or no) ").strip().lower() in {"yes", "y"}


def confirm(question: str, again: str) -> None:
    """Ask for confirmation. Raises PkiError unless the answer is yes, or without a terminal; `again` is the command."""
    if not sys.stdin.isatty():
        raise PkiError("nothing was changed: there is no terminal to confirm at", f"{again} --yes")
    if not is_yes(question):
        raise PkiError("cancelled; nothing was changed")


def _answer(question: str, *, hidden: bool) -> str:
    before, _Quiet.question = _Quiet.question, question
    try:
        if not hidden:
            return input(question)
        return _Quiet.now.line(question) if _Quiet.now else getpass(question)
    except (EOFError, KeyboardInterrupt):
        raise CancelledError(STOPPED) from None
    finally:
        _Quiet.question = before


def ask_hidden(question: str, taken: Callable[[str], str], count: int = 0) -> str:
    """Return what was typed without echo, converted by `taken`; ask again after each InputError of it.

    `count`: that number of words, in one line or several. A mistake does not end the command, because the rest would be
    typed into a terminal that shows it; Ctrl-C does.
    """
    with without_echo():
        while True:
            given = _gathered(question, count) if count else ask(question, hidden=True)
            try:
                return taken(given)
            except InputError as error:
                Screen().line(f"{error.message}; check it again (Ctrl-C stops)")


def _gathered(question: str, count: int) -> str:
    """Return `count` words, in one line or several; a line with all of them, or an empty one, begins again.

    A word that is not in the list is not shown: it may be part of another secret.
    """
    given: list[str] = []
    while True:
        line = words.split(ask(question, hidden=True))
        given = line if len(line) >= count or not line else [*given, *line]
        unlisted = next((place for place, word in enumerate(given, 1) if not words.complete(word)), 0)
        if len(given) >= count:
            return " ".join(given)
        if unlisted:
            Screen().line(f"word {unlisted} is not in the list; check it, and type all words again (Ctrl-C stops)")
            given = []
        elif given:
            Screen().line(
                f"{len(given)} of {count} words; continue with word {len(given) + 1}, or begin again with an empty line"
            )


def ask_to_repeat(question: str, right: str, show: Callable[[], None] | None = None) -> None:
    """Ask for the words in `right`, without echo, in one line or several, until they are right.

    A mistake is reported by the number of the word. An empty line calls `show`, which shows the words again. Ctrl-C
    ends it.
    """
    expected, given, screen = words.split(right), list[str](), Screen()
    with without_echo():
        while given != expected:
            line = words.split(ask(question, hidden=True))
            if not line and show:
                show()
            given = [*given, *line] if line else []
            if wrong := words.difference(given, expected):
                screen.line(f"{wrong}; check it, and type all words again (Ctrl-C stops)")
                given = []
            else:
                given = [words.complete(word) for word in given]
                if given and given != expected:
                    screen.line(
                        f"{len(given)} of {len(expected)} words are right so far; continue with word {len(given) + 1}"
                    )


class _Quiet:
    """A terminal with echo switched off, and its mode before; `now` is the one in use.

    While the command is stopped (Ctrl-Z), the terminal has its former mode, for the shell. When the command continues,
    echo is switched off again and the question is shown again.
    """

    now: ClassVar[_Quiet | None] = None
    question: ClassVar[str] = ""

    def __init__(self, terminal: int) -> None:
        self.terminal, self.before = terminal, termios.tcgetattr(terminal)
        self.mode = [*self.before[:3], self.before[3] & ~termios.ECHO, *self.before[4:]]
        self.is_pausing = False
        handlers = dict.fromkeys(ENDING, _end) | {signal.SIGTSTP: self._pause, signal.SIGCONT: self._go_on}
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_IGN:
            del handlers[signal.SIGTSTP]
        self.handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self.awake, self.waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.waker_before = signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)

    def begin(self) -> None:
        """Switch echo off."""
        _Quiet.now = self
        termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.mode)

    def end(self) -> None:
        """Restore the terminal and the signal handlers."""
        _Quiet.now = None
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self.terminal, termios.TCSAFLUSH, self.before)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.waker_before)
        os.close(self.awake)
        os.close(self.waker)

    def line(self, question: str) -> str:
        """Return the next typed line; input before the question is dropped, as by getpass.

        Waits in `select` with a wakeup descriptor: Python handles a signal that arrives right before a read only when
        the read returns (PEP 475), and until then the question would not be shown again.
        """
        termios.tcflush(self.terminal, termios.TCIFLUSH)
        _show(question)
        while self.terminal not in select.select([self.terminal, self.awake], [], [])[0]:
            os.read(self.awake, 100)
        given = sys.stdin.readline()
        _show("\n")
        if not given:
            raise EOFError
        return given.rstrip("\n")

    def _pause(self, number: int, _frame: Any) -> None:
        self.is_pausing = True
        termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._pause)  # after SIGCONT
        self.is_pausing = False
        self._go_on(number, None)

    def _go_on(self, _number: int, _frame: Any) -> None:
        if self.is_pausing:
            return
        with suppress(OSError, termios.error):  # the terminal is gone
            termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.mode)
            _show(f"\n{self.question.lstrip()}")


@contextmanager
def without_echo() -> Iterator[None]:
    """Switch echo off, also between two questions, and restore the terminal at the end.

    Input that was typed ahead is dropped at the end: it would be shown, and be executed by the shell.
    """
    try:
        quiet = None if _Quiet.now else _Quiet(sys.stdin.fileno())
    except (OSError, ValueError, termios.error):
        quiet = None
    if quiet is None:
        yield
        return
    try:
        quiet.begin()
        yield
    except KeyboardInterrupt:
        raise CancelledError(STOPPED) from None
    finally:
        quiet.end()


def _show(text: str) -> None:
    """Write to the terminal even if standard output is redirected; without a terminal to standard error, as getpass."""
    try:
        with open("/dev/tty", "wb", buffering=0) as screen:
            screen.write(text.encode())
    except OSError:
        print(text, end="", file=sys.stderr, flush=True)


def _end(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)
