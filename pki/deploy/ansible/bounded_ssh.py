#!/usr/bin/env python3
"""ssh within limits. Ansible starts it instead of ssh, because Ansible keeps in memory whatever a host sends.

DOIT_PKI_LIMITS holds four numbers: seconds without progress, seconds in total, bytes of a line, and number of lines
(with 4 kB on average). Progress is a complete line, or a byte that the host accepts. At a limit, ssh is killed, the
reason is written to standard error, and the exit status is 76. This program imports none of our modules: it is copied
to where Ansible runs.
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
REACHED = 76  # EX_PROTOCOL; Ansible takes ssh's own status 255 for a host that is down
STOPPED = "stopped: it "
CHUNK = 1 << 16
AVERAGE, MORE = 1 << 12, 1 << 20  # bytes of all lines together: AVERAGE for each line, and MORE for a few long ones
COMPLAINT = 1 << 14  # bytes of standard error that are kept, from its end


class Relay:
    """One ssh between the three standard streams of this process."""

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
        """Relay until ssh has closed its output; return its exit status."""
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
        """Wait for any stream and serve it; return which limit was reached, or ""."""
        seconds_left = min(self._deadline, self._ends) - time.monotonic()
        streams = self._readers - ({0} if self._input else set())
        ready, writable, _ = select.select(streams, [self._to] if self._input else [], [], max(0.0, seconds_left))
        if seconds_left <= 0:
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
        except OSError:  # ssh's own output explains why it closed its input
            self._input = b""
            self._close(0)

    def _read_output(self) -> str:
        """Relay whole lines within the limits; return which limit was reached, or ""."""
        data = os.read(self._from, CHUNK)
        if not data:
            self._close(self._from)
        *lines, self._output = (self._output + data).split(b"\n")
        if not data and self._output:
            lines, self._output = [self._output], b""
        accepted_lines = [line for line in lines[: self._lines - self._count] if len(line) < self._line]
        self._count, self._bytes = self._count + len(lines), self._bytes + len(data)
        if accepted_lines:
            self._extend_deadline()
            _write(b"".join(line + b"\n" for line in accepted_lines))
        if any(len(line) >= self._line for line in (*lines, self._output)):
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
