"""A program at the other end of two pipes: lines and bytes, each within a time limit."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from typing import Self

FAREWELL = 5.0  # seconds that the other end gets to clean up after itself


class SilenceError(Exception):
    """The other end said nothing for too long, or has gone."""


class Wire:
    """A process that is spoken with: what it says on its error channel is kept apart, in `complaint`.

    `clock` of each call is a limit in seconds. Raises FileNotFoundError when there is no such program.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._waiting = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up: the other end sees its input end, and gets a moment to clean up after itself."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._end()
        self._process.stdout.close()
        self._errors.close()

    def send(self, data: bytes, limit: float) -> None:
        view, deadline = memoryview(data), time.monotonic() + limit
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                if not select.select([], [self._in], [], max(0.0, deadline - time.monotonic()))[1]:
                    raise SilenceError(f"took nothing for {limit:.0f} s") from None
            except OSError:
                raise SilenceError("the connection was lost") from None

    def line(self, limit: float) -> bytes:
        """The next line, without its end. Raises SilenceError when there is none."""
        deadline = time.monotonic() + limit
        while b"\n" not in self._waiting:
            self._read_some(deadline, limit)
        found, _, self._waiting = self._waiting.partition(b"\n")
        return found

    def exactly(self, size: int, limit: float) -> bytes:
        deadline = time.monotonic() + limit
        while len(self._waiting) < size:
            self._read_some(deadline, limit)
        found, self._waiting = self._waiting[:size], self._waiting[size:]
        return found

    def _read_some(self, deadline: float, limit: float) -> None:
        if not select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise SilenceError(f"said nothing for {limit:.0f} s")
        data = os.read(self._out, 65536)
        if not data or len(self._waiting) > 1 << 26:
            raise SilenceError("the connection was lost")
        self._waiting += data

    def ended(self) -> tuple[int, str]:
        """The exit status of the process (which must be about to end), and what it complained about."""
        status = self._end()
        self._errors.seek(0)
        return status, self._errors.read().decode(errors="replace").strip()

    def _end(self) -> int:
        """Wait until the process has ended, first for the end of what it says: `Popen.wait` sleeps between its looks."""
        deadline = time.monotonic() + FAREWELL
        with contextlib.suppress(SilenceError):
            while True:
                self._read_some(deadline, FAREWELL)
                self._waiting = b""
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
