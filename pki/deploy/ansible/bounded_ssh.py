#!/usr/bin/env python3
"""ssh within limits: Ansible starts it in place of ssh, because it would keep in memory whatever a host sends.

DOIT_PKI_LIMITS holds four numbers: seconds without progress, seconds in all, bytes of a line, lines (which have 4 kB on
average, at most). Progress is a complete line, or a byte that the host takes. Where a limit is reached, ssh is ended, the reason stands on the error
channel, and the exit status is 76. This program imports nothing of ours: it is copied to where Ansible runs.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time

LIMITS = "DOIT_PKI_LIMITS"
STANDARD = "120 600 65536 10000"
REACHED = 76  # EX_PROTOCOL; ssh itself ends with 255, which Ansible takes for a host that is down
STOPPED = "stopped: it "
CHUNK = 1 << 16
AVERAGE, MORE = 1 << 12, 1 << 20  # bytes of all lines together: so many for each of them, and more for a few long ones
COMPLAINT = 1 << 14  # bytes that are kept of what stands on the error channel, from its end


class Relay:
    """One ssh between our own three channels."""

    def __init__(self, arguments: list[str], limits: str) -> None:
        progress, whole, line, lines = limits.split()
        self._progress, self._whole, self._line, self._lines = float(progress), float(whole), int(line), int(lines)
        pipe = subprocess.PIPE
        self._ssh = subprocess.Popen(["ssh", *arguments], stdin=pipe, stdout=pipe, stderr=pipe)
        assert self._ssh.stdin
        assert self._ssh.stdout
        assert self._ssh.stderr
        self._to, self._from = self._ssh.stdin.fileno(), self._ssh.stdout.fileno()
        self._errors = self._ssh.stderr.fileno()
        os.set_blocking(self._to, False)
        self._input, self._output, self._error_text = b"", b"", b""
        self._readers = {0, self._from, self._errors}
        self._count, self._bytes = 0, 0
        self._ends = time.monotonic() + self._whole
        self._deadline = 0.0

    def run(self) -> int:
        """Pass on what comes until ssh has said all; returns its exit status."""
        why = ""
        self._extend_deadline()
        while not why and {self._from, self._errors} & self._readers:
            why = self._step()
        if why:
            self._ssh.kill()
        os.write(2, self._error_text + (f"\n{STOPPED}{why}\n".encode() if why else b""))
        status = self._ssh.wait()
        return REACHED if why else status if status >= 0 else 128 - status

    def _extend_deadline(self) -> None:
        self._deadline = time.monotonic() + self._progress

    def _step(self) -> str:
        """Wait for any channel, and serve it; returns which limit was reached, or an empty text."""
        left = min(self._deadline, self._ends) - time.monotonic()
        readers = self._readers - ({0} if self._input else set())
        ready, writable, _ = select.select(readers, [self._to] if self._input else [], [], max(0.0, left))
        if left <= 0:
            is_over = time.monotonic() >= self._ends
            return (
                f"took longer than {self._whole:g} s in all" if is_over else f"sent no answer for {self._progress:g} s"
            )
        if writable:
            self._write_input()
        if 0 in ready:
            self._input = os.read(0, CHUNK)
            if not self._input:
                self._close(0)
        if self._errors in ready:
            data = os.read(self._errors, CHUNK)
            self._error_text = (self._error_text + data)[-COMPLAINT:]
            if not data:
                self._close(self._errors)
        return self._read_output() if self._from in ready else ""

    def _close(self, channel: int) -> None:
        self._readers.discard(channel)
        if channel == 0:
            assert self._ssh.stdin
            with contextlib.suppress(OSError):
                self._ssh.stdin.close()

    def _write_input(self) -> None:
        try:
            self._input = self._input[os.write(self._to, self._input) :]
            self._extend_deadline()
        except BlockingIOError:
            pass
        except OSError:  # what it said before it hung up is the better reason
            self._input = b""
            self._close(0)

    def _read_output(self) -> str:
        """Pass whole lines on, as far as they are within the limits; returns which one was reached."""
        data = os.read(self._from, CHUNK)
        if not data:
            self._close(self._from)
        *whole, self._output = (self._output + data).split(b"\n")
        if not data and self._output:
            whole, self._output = [self._output], b""
        good = [line for line in whole[: self._lines - self._count] if len(line) < self._line]
        self._count, self._bytes = self._count + len(whole), self._bytes + len(data)
        if good:
            self._extend_deadline()
            _write(b"".join(line + b"\n" for line in good))
        if any(len(line) >= self._line for line in (*whole, self._output)):
            return f"sent a line of more than {self._line} bytes"
        if self._count > self._lines:
            return f"sent more than {self._lines} answers"
        if self._bytes > MORE + AVERAGE * self._lines:
            return f"sent more than {MORE + AVERAGE * self._lines} bytes"
        return ""


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    try:
        sys.exit(Relay(sys.argv[1:], os.environ.get(LIMITS, STANDARD)).run())
    except FileNotFoundError:
        sys.exit("ssh: not found")
