"""Run work in a child process with limits for processor time and memory.

Only a process can bound a template: one operation (`10 ** 10 ** 10`) can keep the interpreter busy for ever, and signal
handlers in Python do not run meanwhile.
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

SECONDS = 10.0  # of processor time for each piece of work
MEMORY = 256 << 20  # bytes in addition to the memory of the process at its start
TOO_LONG = f"takes more than {SECONDS:.0f} s of processor time"
TOO_LARGE = f"needs more than {MEMORY >> 20} MB of memory"
LONGEST_NAME = 4096  # bytes (PATH_MAX)
OUT_OF_MEMORY = 77  # an exit status that is not used otherwise
FRAME = re.compile(r'File "(.*)", line (\d+) in')  # as faulthandler writes it, innermost first

A = TypeVar("A")
R = TypeVar("R")
Begin = Callable[[str], None]  # starts a named piece of work, and its time limit


class LimitExceededError(Exception):
    """The child process ended during a piece of work.

    `piece` is the name of the work, `what` a clause that follows it, `frames` are files and lines of Python code,
    innermost first.
    """

    def __init__(self, piece: str, what: str, frames: tuple[tuple[str, int], ...]) -> None:
        super().__init__(f"{piece}: {what}")
        self.piece = piece
        self.what = what
        self.frames = frames


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A forked child: its process id, its pipe, and what it writes about its end."""

    process: int
    pipe: Connection[Any, Any]
    piece: mmap  # shared memory with the name of the current piece of work
    trace: int  # descriptor from which its last frames can be read
    owner: int
    end: weakref.finalize[..., Any]


class LimitedProcess(Generic[A, R]):
    """Calls `work` in a child process, which is forked at the first call and replaced after it ended.

    `work` gets an argument and `Begin`; argument and result are pickled. The child sees the data of this process at the
    time of the fork.
    """

    def __init__(self, work: Callable[[A, Begin], R]) -> None:
        self._work = work
        self._child: ChildProcess | None = None

    def ask(self, argument: A) -> R:
        """Return the result for an argument. Raises LimitExceededError, and what `work` raises."""
        if self._child is None or self._child.owner != os.getpid():
            self._child = self._start()
        child = self._child
        try:
            with suppress(BrokenPipeError):  # a child that failed earlier has already sent its error
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
        parent_end, child_end = Pipe()
        trace, trace_writer = os.pipe()
        piece = mmap(-1, LONGEST_NAME)
        parent, process = os.getpid(), os.fork()
        if not process:
            _run_child(partial(_serve, self._work, child_end, piece, trace_writer, parent), parent_end, child_end)
        child_end.close()
        os.close(trace_writer)
        end = weakref.finalize(self, _end, parent, process, parent_end, trace)
        return ChildProcess(process, parent_end, piece, trace, parent, end)

    def _exceeded(self, child: ChildProcess) -> LimitExceededError:
        child.end.detach()
        self._child = None
        status = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
        frames = FRAME.findall(os.read(child.trace, 1 << 16).decode(errors="replace"))
        child.pipe.close()
        os.close(child.trace)
        what = {-signal.SIGPROF: TOO_LONG, OUT_OF_MEMORY: TOO_LARGE}.get(
            status, f"its process {exit_description(status)}"
        )
        piece = child.piece[:].rstrip(b"\0").decode(errors="surrogateescape")
        return LimitExceededError(piece, what, tuple((file, int(line)) for file, line in frames))


def _end(owner: int, process: int, pipe: Connection[Any, Any], trace: int) -> None:
    if owner == os.getpid():  # another forked process only has copies of the descriptors
        pipe.close()
        os.close(trace)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _run_child(
    serve: Callable[[], None], parent_end: Connection[Any, Any], child_end: Connection[Any, Any]
) -> NoReturn:
    """Serve and exit; an error outside `work` is sent to the parent, which raises it."""
    status = 1
    try:
        parent_end.close()
        serve()
        status = 0
    except Exception as error:  # noqa: BLE001 - the exception may not be picklable
        with suppress(Exception):
            child_end.send(("raise", RuntimeError(f"{type(error).__name__}: {error}"), True))
    finally:
        os._exit(status)


def _serve(
    work: Callable[[A, Begin], R],
    pipe: Connection[Any, Any],
    piece: mmap,
    trace: int,
    parent: int,
) -> None:
    """Answer requests until the pipe is closed or the process is too large."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.register(signal.SIGPROF, trace, all_threads=False, chain=True)  # writes its frames and ends it
    faulthandler.enable(trace, all_threads=False)
    gc.freeze()
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size_at_start = _size()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    limit = size_at_start + MEMORY
    if hard_limit != resource.RLIM_INFINITY:
        limit = min(limit, hard_limit)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    begin = partial(_begin, piece)
    with suppress(EOFError, OSError), _exit_at(MemoryError):
        while True:
            argument = pipe.recv()
            begin("")
            try:
                kind, answer = "return", work(argument, begin)
            except Exception as error:  # noqa: BLE001 - the parent raises it
                kind, answer = "raise", error  # type: ignore[assignment]
            signal.setitimer(signal.ITIMER_PROF, 0)
            is_last = _size() > size_at_start + MEMORY // 2  # the next piece of work gets a new process
            pipe.send((kind, answer, is_last))
            if is_last:
                return


@contextmanager
def _exit_at(error: type[BaseException]) -> Iterator[None]:
    """Exit with OUT_OF_MEMORY at an error: the answer itself was too large."""
    try:
        yield
    except error:
        os._exit(OUT_OF_MEMORY)


def _begin(piece: mmap, name: str) -> None:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    piece[:] = name.encode(errors="surrogateescape")[:LONGEST_NAME].ljust(LONGEST_NAME, b"\0")


def _size() -> int:
    """Return the size of the address space of this process in bytes (proc(5))."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
