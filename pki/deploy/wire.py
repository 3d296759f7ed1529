"""A program at the other end of two pipes: lines and bytes, each within a time limit."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from typing import Self

LONGEST = 900.0  # seconds: the limit that pki-apply sets itself; a host that talks on and on holds up nobody longer
LARGEST = 1 << 22  # bytes that are kept of what was said and not yet read
COMPLAINT = 1 << 16
PARTING = 5.0  # seconds that the other end gets to clean up after itself


class SilenceError(Exception):
    """The other end said nothing for too long, or has gone."""


class Wire:
    """A process that is spoken with: what it says on its error channel is kept apart, for `ended`.

    `limit` of each call is in seconds. Raises FileNotFoundError when there is no such program.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
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
        self._waiting, self._complaint = bytearray(), b""
        self._channels = [self._out, self._err]
        self._ends = time.monotonic() + LONGEST

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up: the other end sees its input end, and gets a moment to clean up after itself."""
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._end()
        self._process.stdout.close()
        self._process.stderr.close()

    def send(self, data: bytes, limit: float) -> None:
        view, deadline = memoryview(data), time.monotonic() + limit
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                heard, ready, _ = select.select(self._channels[1:], [self._in], [], self._left(deadline))
                if heard:
                    self._hear()
                elif not ready:
                    raise SilenceError(f"took nothing for {limit:.0f} s") from None
            except OSError:
                raise SilenceError("the connection was lost") from None

    def line(self, limit: float) -> bytes:
        """The next line, without its end. Raises SilenceError when there is none."""
        deadline = time.monotonic() + limit
        while b"\n" not in self._waiting:
            self._read_some(deadline, limit)
        found, _, self._waiting = self._waiting.partition(b"\n")
        return bytes(found)

    def exactly(self, size: int, limit: float) -> bytes:
        deadline = time.monotonic() + limit
        while len(self._waiting) < size:
            self._read_some(deadline, limit, size)
        found = bytes(self._waiting[:size])
        del self._waiting[:size]
        return found

    def _read_some(self, deadline: float, limit: float, size: int = 0) -> None:
        left = self._left(deadline)
        ready = select.select(self._channels, [], [], left)[0]
        if not ready or not left:
            is_over = time.monotonic() >= self._ends
            raise SilenceError(
                f"did not come to an end within {LONGEST:.0f} s" if is_over else f"said nothing for {limit:.0f} s"
            )
        if self._err in ready:
            self._hear()
        if self._out in ready:
            data = os.read(self._out, 65536)
            if not data:
                raise SilenceError("the connection was lost")
            if len(self._waiting) > LARGEST + size:
                raise SilenceError("said more than anybody asked for")
            self._waiting += data

    def _left(self, deadline: float) -> float:
        return max(0.0, min(deadline, self._ends) - time.monotonic())

    def _hear(self) -> None:
        """Take what waits on the error channel, and forget what is too much."""
        try:
            data = os.read(self._err, 65536)
        except BlockingIOError:
            return
        if not data:
            self._channels.remove(self._err)
        self._complaint = (self._complaint + data)[-COMPLAINT:]

    def ended(self) -> tuple[int, str]:
        """The exit status of the process (which must be about to end), and what it complained about."""
        status = self._end()
        while self._err in self._channels and select.select([self._err], [], [], 0)[0]:
            self._hear()
        return status, self._complaint.decode(errors="replace").strip()

    def stop(self) -> None:
        """Ask the process to end, where its input says nothing to it."""
        self._process.terminate()

    def _end(self) -> int:
        """Wait until the process has ended, first for the end of what it says: `Popen.wait` sleeps between its looks."""
        deadline = time.monotonic() + PARTING
        with contextlib.suppress(SilenceError):
            while True:
                self._read_some(deadline, PARTING)
                self._waiting.clear()
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
