"""A connection that is read within a limit of time and of bytes, however slow or talkative the server is.

This module imports none of our modules: Ansible ships it.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import NamedTuple

LIMIT = 65536  # bytes that are read of one server
LONGEST_LINE = 4096  # bytes
SHOWN = 120  # characters of a server's text in a message


class ProtocolFault(Exception):  # noqa: N818 - a finding that callers always catch
    """A server that does not speak its protocol; the message is the rest of a sentence that begins with its name."""


class Reply(NamedTuple):
    """What a server answers to a client: an HTTP status, or 200 (let in) and 403 (refused) in other protocols.

    `text` is the answer in words. `is_certain` is whether the client's certificate decided it: a server may answer
    before it uses the certificate, or refuse an account whatever the certificate is.
    """

    status: int
    text: str
    is_certain: bool = True


class Stream:
    """The bytes of one connection. Methods raise OSError (TimeoutError when time is up) and ProtocolFault."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds
        self._left = LIMIT
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send bytes. A server that closed the connection may have sent its reason first: the next read shows it."""
        self._limit_time()
        with suppress(ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._connection.sendall(data)

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes. Raises ConnectionResetError if the server closes the connection before."""
        while len(self._buffer) < count:
            self._receive()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def read_line(self) -> str:
        """Return the next line without its end, as ASCII."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_LINE:
                raise ProtocolFault("sends a line without an end")
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("ascii", "replace")

    def listen(self, seconds: float) -> bool:
        """Return whether the server sends something within some seconds. Raises OSError for an alert and a close."""
        self._connection.settimeout(max(0.01, min(seconds, self._deadline - time.monotonic())))
        with suppress(TimeoutError):
            self._receive(is_limited=False)
        return bool(self._buffer)

    def expect_nothing(self) -> None:
        """Raise ProtocolFault if the server sent more than was read: such bytes would be taken for a part of TLS."""
        if self._buffer:
            raise ProtocolFault("sends data before TLS begins")

    def _receive(self, *, is_limited: bool = True) -> None:
        if is_limited:
            self._limit_time()
        data = self._connection.recv(min(4096, self._left))
        if not data:
            raise ConnectionResetError("closes the connection without an answer")
        self._left -= len(data)
        if self._left <= 0:
            raise ProtocolFault(f"sends more than {LIMIT // 1024} kB")
        self._buffer += data

    def _limit_time(self) -> None:
        seconds_left = self._deadline - time.monotonic()
        if seconds_left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(seconds_left)


def shown(text: str) -> str:
    """Return a server's text for a message: one printable line of limited length."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= SHOWN else f"{printable[:SHOWN]}…"
