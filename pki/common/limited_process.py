"""Work in a process of its own, within limits of processor time and memory.

Nothing else bounds what a template does: one operation (`10 ** 10 ** 10`) may keep the interpreter busy for ever, where
no signal handler in Python gets its turn.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import re
import resource
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from multiprocessing.connection import Connection, Pipe
from typing import Any, Generic, NoReturn, TypeVar

from pki.common.child_processes import end_with_parent, exit_description

SECONDS = 10.0  # of processor time, for each piece of work
MEMORY = 256 << 20  # bytes, beyond what the process has when it starts
TOO_LONG = f"takes more than {SECONDS:.0f} s of processor time"
TOO_LARGE = f"needs more than {MEMORY >> 20} MB of memory"
LONGEST_NAME = 4096  # bytes (PATH_MAX)
OUT_OF_MEMORY = 77  # an exit status that nothing else here has
FRAME = re.compile(r'File "(.*)", line (\d+) in')  # as faulthandler writes it, innermost first

A = TypeVar("A")
R = TypeVar("R")
Begin = Callable[[str], None]  # starts a piece of work, by its name: its time is counted from here


class LimitExceededError(Exception):
    """The process ended in the middle of a piece of work.

    `piece` is its name, `what` a phrase that reads well after it, `frames` are files and lines of Python code, innermost
    first.
    """

    def __init__(self, piece: str, what: str, frames: tuple[tuple[str, int], ...]) -> None:
        super().__init__(f"{piece}: {what}")
        self.piece = piece
        self.what = what
        self.frames = frames


@dataclass(frozen=True, slots=True)
class ChildProcess:
    process: int
    pipe: Connection[Any, Any]
    piece: mmap  # the name of the piece of work that it has begun
    trace: int  # where its last frames can be read
    owner: int
    end: weakref.finalize[..., Any]


class LimitedProcess(Generic[A, R]):
    """Calls `work` in a child process, which is forked at the first call and replaced when it has ended.

    `work` gets an argument and `Begin`; argument and result travel pickled. What it reads from this process is as it
    was when the child was forked.
    """

    def __init__(self, work: Callable[[A, Begin], R]) -> None:
        self._work = work
        self._child: ChildProcess | None = None

    def ask(self, argument: A) -> R:
        """Return the result for an argument. Raises ExceededError, and what `work` raises."""
        if self._child is None or self._child.owner != os.getpid():
            self._child = self._start()
        child = self._child
        try:
            with suppress(BrokenPipeError):  # one that failed before it was asked has said why
                child.pipe.send(argument)
            kind, result, is_last = child.pipe.recv()
        except (EOFError, OSError):
            raise self._exceeded(child) from None
        if is_last:
            self.end()
        if kind == "raise":
            raise result
        answer: R = result
        return answer

    def end(self) -> None:
        """End the child process; the next call starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _start(self) -> ChildProcess:
        ours, theirs = Pipe()
        trace, traced = os.pipe()
        piece = mmap(-1, LONGEST_NAME)
        parent, process = os.getpid(), os.fork()
        if not process:
            _run_child(partial(_serve, self._work, theirs, piece, traced, parent), ours, theirs)
        theirs.close()
        os.close(traced)
        end = weakref.finalize(self, _end, parent, process, ours, trace)
        return ChildProcess(process, ours, piece, trace, parent, end)

    def _exceeded(self, child: ChildProcess) -> LimitExceededError:
        child.end.detach()
        self._child = None
        status = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
        found = FRAME.findall(os.read(child.trace, 1 << 16).decode(errors="replace"))
        child.pipe.close()
        os.close(child.trace)
        what = {-signal.SIGPROF: TOO_LONG, OUT_OF_MEMORY: TOO_LARGE}.get(
            status, f"its process {exit_description(status)}"
        )
        piece = child.piece[:].rstrip(b"\0").decode(errors="surrogateescape")
        return LimitExceededError(piece, what, tuple((file, int(line)) for file, line in found))


def _end(owner: int, process: int, pipe: Connection[Any, Any], trace: int) -> None:
    if owner == os.getpid():  # a process that was forked meanwhile has copies of the descriptors only
        pipe.close()
        os.close(trace)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _run_child(serve: Callable[[], None], ours: Connection[Any, Any], theirs: Connection[Any, Any]) -> NoReturn:
    """Serve and end; what fails before an argument came, or on the way of an answer, is raised on the other side."""
    status = 1
    try:
        ours.close()
        serve()
        status = 0
    except Exception as error:  # noqa: BLE001 - which may be one that cannot travel
        with suppress(Exception):
            theirs.send(("raise", RuntimeError(f"{type(error).__name__}: {error}"), True))
    finally:
        os._exit(status)


def _serve(
    work: Callable[[A, Begin], R],
    pipe: Connection[Any, Any],
    piece: mmap,
    trace: int,
    parent: int,
) -> None:
    """What the child does: answer, until the pipe is closed or it has become too large."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.register(signal.SIGPROF, trace, all_threads=False, chain=True)  # says where it was, and ends it
    faulthandler.enable(trace, all_threads=False)
    gc.freeze()
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = _size()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = first + MEMORY if hard == resource.RLIM_INFINITY else min(hard, first + MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    begin = partial(_begin, piece)
    with suppress(EOFError, OSError), _exit_at(MemoryError):
        while True:
            argument = pipe.recv()
            begin("")
            try:
                kind, answer = "return", work(argument, begin)
            except Exception as error:  # noqa: BLE001 - which is raised on the other side
                kind, answer = "raise", error  # type: ignore[assignment]
            signal.setitimer(signal.ITIMER_PROF, 0)
            is_last = _size() > first + MEMORY // 2
            pipe.send((kind, answer, is_last))
            if is_last:
                return


@contextmanager
def _exit_at(error: type[BaseException]) -> Iterator[None]:
    """The answer itself was too large for this process."""
    try:
        yield
    except error:
        os._exit(OUT_OF_MEMORY)


def _begin(piece: mmap, name: str) -> None:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    piece[:] = name.encode(errors="surrogateescape")[:LONGEST_NAME].ljust(LONGEST_NAME, b"\0")


def _size() -> int:
    """Bytes of address space that this process has (proc(5))."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
