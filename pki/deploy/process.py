"""A program at the other end of two pipes: lines and bytes, each within limits of time and size."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from typing import Self

from pki.common.child_processes import ready
from pki.deploy.host_output import LINE

READ_BYTES = 1 << 16  # bytes that are read at once: more is never held of what nobody asked for
ERROR_BYTES = 1 << 14  # bytes that are kept of what was said on the error channel, from its end
EXIT_TIMEOUT = 5.0  # seconds that the other end gets to clean up after itself


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a host may take, in seconds: without progress, and in all.

    Progress is a complete line, a byte of a file that was asked for, or a byte that the host takes from us.
    """

    progress: float = 120.0
    whole: float = 600.0


STANDARD = Limits()


class DisconnectedError(Exception):
    """The other end has gone."""


class LimitError(DisconnectedError):
    """The other end took too long, or said too much: what, as a phrase that reads well after its name."""


class Process:
    """A process that is spoken with: what it says on its error channel is kept apart, for `ended`.

    Every method raises SilenceError, and its kind LimitError when a limit was reached. Raises FileNotFoundError when
    there is no such program.
    """

    def __init__(self, command: tuple[str, ...], limits: Limits) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._err = self._process.stderr.fileno()
        for pipe in (self._in, self._err):
            os.set_blocking(pipe, False)
        self._buffer, self._errors = bytearray(), b""
        self._channels = [self._out, self._err]
        self._limits = limits
        self._ends = time.monotonic() + limits.whole

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up: the other end sees its input end, and gets a moment to clean up after itself."""
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def extend_deadline(self, seconds: float) -> None:
        """Add time that the other end did not take: it was we who made it wait."""
        self._ends += seconds

    def send(self, data: bytes) -> None:
        view, deadline = memoryview(data), self._deadline()
        while view:
            try:
                view = view[os.write(self._in, view) :]
                deadline = self._deadline()
            except BlockingIOError:
                channels = ready(self._channels[1:], [self._in], self._remaining(deadline))
                if self._err in channels:
                    self._read_errors()
                if self._in not in channels and not self._remaining(deadline):
                    raise self._limit_error("took nothing") from None
            except OSError:
                raise DisconnectedError("the connection was lost") from None

    def read_line(self) -> bytes:
        """The next line, without its end, of at most 64 kB."""
        deadline, begins = self._deadline(), 0
        while (end := self._buffer.find(b"\n", begins)) < 0:
            begins = len(self._buffer)
            if begins >= LINE:
                raise LimitError(f"sent a line of more than {LINE} bytes")
            self._read_some(deadline)
        if end >= LINE:
            raise LimitError(f"sent a line of more than {LINE} bytes")
        found = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return found

    def read_exactly(self, size: int) -> bytes:
        deadline = self._deadline()
        while len(self._buffer) < size:
            self._read_some(deadline)
            deadline = self._deadline()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def read_rest(self) -> bytes:
        """End its input, and take what it says until it has ended: the last 16 kB of that."""
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        deadline = self._deadline()
        try:
            while True:
                self._read_some(deadline)
                del self._buffer[:-ERROR_BYTES]
        except LimitError:
            raise
        except DisconnectedError:
            return bytes(self._buffer)

    def _deadline(self) -> float:
        return time.monotonic() + self._limits.progress

    def _read_some(self, deadline: float) -> None:
        """Take what waits on either channel; what comes on the error channel is no progress."""
        while True:
            left = self._remaining(deadline)
            channels = ready(self._channels, [], left) if left else set()
            if not channels:
                raise self._limit_error("sent no answer")
            if self._err in channels:
                self._read_errors()
            if self._out in channels:
                data = os.read(self._out, READ_BYTES)
                if not data:
                    raise DisconnectedError("the connection was lost")
                self._buffer += data
                return

    def _limit_error(self, what: str) -> LimitError:
        if time.monotonic() >= self._ends:
            return LimitError(f"took longer than {self._limits.whole:g} s in all")
        return LimitError(f"{what} for {self._limits.progress:g} s")

    def _remaining(self, deadline: float) -> float:
        return max(0.0, min(deadline, self._ends) - time.monotonic())

    def _read_errors(self) -> None:
        """Take what waits on the error channel, and forget what is too much."""
        try:
            data = os.read(self._err, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._channels.remove(self._err)
        self._errors = (self._errors + data)[-ERROR_BYTES:]

    def finish(self) -> tuple[int, str]:
        """The exit status of the process (which must be about to end), and what it complained about."""
        status = self._wait()
        deadline = time.monotonic() + EXIT_TIMEOUT
        while self._err in self._channels and time.monotonic() < deadline and ready([self._err], [], 0):
            self._read_errors()
        return status, self._errors.decode(errors="replace").strip()

    def terminate(self) -> None:
        """Ask the process to end, where its input says nothing to it."""
        self._process.terminate()

    def _wait(self) -> int:
        """Wait until the process has ended, first for the end of what it says: `Popen.wait` sleeps between its looks."""
        deadline = time.monotonic() + EXIT_TIMEOUT
        self._ends = max(self._ends, deadline)
        with contextlib.suppress(DisconnectedError):
            while self._process.returncode is None:  # what it started may go on after its end
                self._read_some(deadline)
                self._buffer.clear()
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def run(command: tuple[str, ...], words: bytes, limits: Limits) -> tuple[int, str, str]:
    """Run a program to its end: its exit status, and the end of what it said on its two channels, as text.

    Raises LimitError, and FileNotFoundError when there is no such program.
    """
    with Process(command, limits) as wire:
        try:
            wire.send(words)
        except LimitError:
            raise
        except DisconnectedError:
            pass  # why it took no more is in what it says
        said = wire.read_rest()
        status, complaint = wire.finish()
    return status, said.decode(errors="replace").strip(), complaint
