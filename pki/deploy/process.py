"""A child process with which lines and bytes are exchanged, within limits of time and size."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pki.common.child_processes import wait_ready
from pki.deploy.host_output import LINE

READ_BYTES = 1 << 16  # that are read at once: unrequested output never uses more memory
ERROR_BYTES = 1 << 14  # of standard error that are kept, from its end
EXIT_TIMEOUT = 5.0  # seconds that the process gets to clean up and exit


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits for a host, in seconds: without progress, and in total.

    Progress is a complete line, a byte of a requested file, or a byte that the host accepts.
    """

    progress: float = 120.0
    whole: float = 600.0


STANDARD = Limits()


class DisconnectedError(Exception):
    """The process closed its output, or the connection was lost."""


class LimitError(DisconnectedError):
    """The process took too long or sent too much; the message is the rest of a sentence that begins with its name."""


class Process:
    """A child process; its standard error is kept apart, for `finish`.

    Every method raises DisconnectedError, and LimitError when a limit was reached. The constructor raises
    FileNotFoundError when the program does not exist.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        limits: Limits,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if environment is None else environment), "LC_ALL": "C"},
            cwd=folder,
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
        self._whole_deadline = time.monotonic() + limits.whole

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the input, and give the process time to clean up and exit."""
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._wait()
        self._process.stdout.close()
        self._process.stderr.close()

    def extend_deadline(self, seconds: float) -> None:
        """Add seconds to the total limit, for time in which the process had to wait for us."""
        self._whole_deadline += seconds

    def send(self, data: bytes) -> None:
        """Write all bytes to the process."""
        view, deadline = memoryview(data), self._deadline()
        while view:
            try:
                view = view[os.write(self._in, view) :]
                deadline = self._deadline()
            except BlockingIOError:
                error_pipe = self._channels[1:]  # none once standard error is closed
                ready_pipes = wait_ready(error_pipe, [self._in], self._remaining(deadline))
                if self._err in ready_pipes:
                    self._read_errors()
                if self._in not in ready_pipes and not self._remaining(deadline):
                    raise self._limit_error("took nothing") from None
            except OSError:
                raise DisconnectedError("the connection was lost") from None

    def read_line(self) -> bytes:
        """Return the next line without its line feed, at most 64 KiB."""
        deadline, start = self._deadline(), 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start >= LINE:
                raise LimitError(f"sent a line of more than {LINE} bytes")
            self._read_some(deadline)
        if end >= LINE:
            raise LimitError(f"sent a line of more than {LINE} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def read_exactly(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        deadline = self._deadline()
        while len(self._buffer) < size:
            self._read_some(deadline)
            deadline = self._deadline()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def read_rest(self) -> bytes:
        """Close the input, and return the last 16 KiB of the output up to its end."""
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
        """Read from either pipe; output on standard error is no progress."""
        while True:
            seconds_left = self._remaining(deadline)
            ready_pipes = wait_ready(self._channels, [], seconds_left) if seconds_left else set()
            if not ready_pipes:
                raise self._limit_error("sent no answer")
            if self._err in ready_pipes:
                self._read_errors()
            if self._out in ready_pipes:
                data = os.read(self._out, READ_BYTES)
                if not data:
                    raise DisconnectedError("the connection was lost")
                self._buffer += data
                return

    def _limit_error(self, phrase: str) -> LimitError:
        if time.monotonic() >= self._whole_deadline:
            return LimitError(f"took longer than {self._limits.whole:g} s in all")
        return LimitError(f"{phrase} for {self._limits.progress:g} s")

    def _remaining(self, deadline: float) -> float:
        return max(0.0, min(deadline, self._whole_deadline) - time.monotonic())

    def _read_errors(self) -> None:
        """Read from standard error, and keep its last part."""
        try:
            data = os.read(self._err, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._channels.remove(self._err)
        self._errors = (self._errors + data)[-ERROR_BYTES:]

    def finish(self) -> tuple[int, str]:
        """Return the exit status of the process, which must be about to exit, and its standard error."""
        status = self._wait()
        deadline = time.monotonic() + EXIT_TIMEOUT
        while self._err in self._channels and time.monotonic() < deadline and wait_ready([self._err], [], 0):
            self._read_errors()
        return status, self._errors.decode(errors="replace").strip()

    def terminate(self) -> None:
        """Send SIGTERM to a process that does not react to the end of its input."""
        self._process.terminate()

    def _wait(self) -> int:
        """Wait for the exit, first for the end of the output: `Popen.wait` polls with sleeps."""
        deadline = time.monotonic() + EXIT_TIMEOUT
        self._whole_deadline = max(self._whole_deadline, deadline)
        with contextlib.suppress(DisconnectedError):
            while self._process.returncode is None:  # its own children may keep the pipe open
                self._read_some(deadline)
                self._buffer.clear()
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def run(
    command: tuple[str, ...],
    data: bytes,
    limits: Limits,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[int, str, str]:
    """Run a program to its end; return its exit status, and the last part of its output and standard error.

    `environment` and `folder` are those of this process if they are None.

    Raises LimitError, and FileNotFoundError when the program does not exist.
    """
    with Process(command, limits, environment, folder) as process:
        try:
            process.send(data)
        except LimitError:
            raise
        except DisconnectedError:
            pass  # its output explains why it stopped reading
        output = process.read_rest()
        status, errors = process.finish()
    return status, output.decode(errors="replace").strip(), errors
