"""Asking a person at a terminal."""

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
from pki.common.errors import PkiError, SlipError, StoppedError
from pki.common.terminal import Screen

TRIES = 3
STOPPED = "stopped; nothing was written"
ENDING = (signal.SIGTERM, signal.SIGHUP)


def first_words(of: str, paper: str, hex_digest: str, others: Mapping[str, str] | None = None) -> str:
    """The first words of a digest as a person types them from paper; a slip is said, and may be fixed twice.

    `others` are digests whose words could be taken for them, by their names.
    """
    for _ in range(TRIES - 1):
        given = typed(f"first {words.WORDS_TO_TYPE} words of the {of}, from the paper of {paper}: ")
        if not (wrong := words.mismatch(given, hex_digest)):
            return given
        name = words.name_of_typed(given, {f"the {of}": hex_digest} | dict(others or {}), f"the {of}")
        print(f"these are {name}; type the words of the {of}" if name else f"{wrong}; look again")
    return typed(f"first {words.WORDS_TO_TYPE} words of the {of}: ")


def watch(clock: Callable[[], datetime]) -> tuple[datetime, str]:
    """The clock of this machine and the witness's watch, read at one moment; a slip is said, and may be fixed twice."""
    for _ in range(TRIES - 1):
        given = typed("time on the witness's watch, in UTC, as HH:MM: ").strip()
        at = clock()
        if not given or not (wrong := machine_check.watch_fault(at, given)):
            return at, given
        print(f"{wrong}; look again")
    given = typed("time on the witness's watch, in UTC, as HH:MM: ").strip()
    return clock(), given


def typed(question: str, *, hidden: bool = False) -> str:
    """What a person types. Raises PkiError where nobody can: a script names what it means as an option."""
    if not sys.stdin.isatty():
        raise PkiError(f"nobody is there to be asked: {question.strip(': ')}", "start it at a terminal, or see --help")
    with unseen() if hidden else nullcontext():
        return _answer(question, hidden=hidden)


def _answer(question: str, *, hidden: bool) -> str:
    before, _Quiet.question = _Quiet.question, question
    try:
        if not hidden:
            return input(question)
        return _Quiet.now.line(question) if _Quiet.now else getpass(question)
    except (EOFError, KeyboardInterrupt):
        raise StoppedError(STOPPED) from None
    finally:
        _Quiet.question = before


def hidden(question: str, taken: Callable[[str], str], count: int = 0) -> str:
    """What was typed unseen, as `taken`; whatever slip it refuses is said, and it is asked again until it is right.

    With a `count` of words, they may come in several lines. A command never ends over a slip: who types on would type
    into a terminal that shows it. Ctrl-C ends it.
    """
    with unseen():
        while True:
            given = _gathered(question, count) if count else typed(question, hidden=True)
            try:
                return taken(given)
            except SlipError as error:
                Screen().line(f"{error.message}; look again (Ctrl-C stops)")


def _gathered(question: str, count: int) -> str:
    """So many words, in one line or several; a line that has all of them, or none, begins again.

    What is not in the list is not shown: it may be another secret.
    """
    given: list[str] = []
    while True:
        line = words.split(typed(question, hidden=True))
        given = line if len(line) >= count or not line else [*given, *line]
        unlisted = next((place for place, word in enumerate(given, 1) if not words.complete(word)), 0)
        if len(given) >= count:
            return " ".join(given)
        if unlisted:
            Screen().line(f"word {unlisted} is not in the list; look again, and type all of them (Ctrl-C stops)")
            given = []
        elif given:
            Screen().line(
                f"{len(given)} of {count} words; go on with word {len(given) + 1}, or begin again with Enter alone"
            )


def typed_back(question: str, right: str, show: Callable[[], None] | None = None) -> None:
    """Have words typed back from paper, unseen, in one line or several; a slip is told by the number of its word.

    Enter alone calls `show`, which shows them once more. Ctrl-C ends it.
    """
    wanted, given, screen = words.split(right), list[str](), Screen()
    with unseen():
        while given != wanted:
            line = words.split(typed(question, hidden=True))
            if not line and show:
                show()
            given = [*given, *line] if line else []
            if wrong := words.difference(given, wanted):
                screen.line(f"{wrong}; look again, and type all of them (Ctrl-C stops)")
                given = []
            else:
                given = [words.complete(word) for word in given]
                if given and given != wanted:
                    screen.line(
                        f"{len(given)} of {len(wanted)} words are right so far; go on with word {len(given) + 1}"
                    )


class _Quiet:
    """A terminal that shows nothing that is typed, and how it was before; `now` is the one in use.

    A shell takes the terminal as it likes while a command is stopped (Ctrl-Z): it gets it back as it was, and when the
    command goes on, what is typed is unseen again and the question is shown once more.
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
        _Quiet.now = self
        termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.mode)

    def end(self) -> None:
        _Quiet.now = None
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self.terminal, termios.TCSAFLUSH, self.before)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.waker_before)
        os.close(self.awake)
        os.close(self.waker)

    def line(self, question: str) -> str:
        """Return the next line that is typed; what was typed before the question is dropped, as getpass does.

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
        signal.signal(number, self._pause)  # it goes on; who reads the question may stop it again
        self.is_pausing = False
        self._go_on(number, None)

    def _go_on(self, _number: int, _frame: Any) -> None:
        if self.is_pausing:
            return
        with suppress(OSError, termios.error):  # the terminal is gone
            termios.tcsetattr(self.terminal, termios.TCSADRAIN, self.mode)
            _show(f"\n{self.question.lstrip()}")


@contextmanager
def unseen() -> Iterator[None]:
    """Let the terminal show nothing that is typed, also between two questions, and give it back as it was.

    What was typed ahead is dropped at the end: it would be shown, and be taken for a command.
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
        raise StoppedError(STOPPED) from None
    finally:
        quiet.end()


def _show(text: str) -> None:
    """Write to the terminal wherever standard output goes, or to standard error without a terminal, as getpass does."""
    try:
        with open("/dev/tty", "wb", buffering=0) as screen:
            screen.write(text.encode())
    except OSError:
        print(text, end="", file=sys.stderr, flush=True)


def _end(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)
