"""Servers that speak the first bytes of a protocol, step by step, with TLS in between."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.tls_servers import Behaviour

Step = (
    bytes | int | None
)  # what the server sends; None: it waits for what the client sends, a number: for so many bytes
HEARS: Step = None


@dataclass(frozen=True)
class Conversation:
    """What a server says before TLS, and within it to a client that it lets in, and to one whose account it refuses."""

    before: tuple[Step, ...]
    admits: tuple[Step, ...]
    refuses: tuple[Step, ...] = ()


def _postgres_error(code: str, text: str) -> bytes:
    body = f"SFATAL\0C{code}\0M{text}\0\0".encode()
    return b"E" + struct.pack("!I", len(body) + 4) + body


def _mysql(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


GREETING = b"\x0a5.5.5-10.11\0" + b"\x01\0\0\0" + b"saltsalt\0" + b"\xff\xff" + b"\x2d\x02\0" + b"\xff\xff" + bytes(11)
DENIED = b"\xff\x15\x04#28000Access denied for user"
BIND_DONE = bytes.fromhex("300c 020101 7807 0a0100 0400 0400")
ENTRY = bytes.fromhex("3009 020102 6404 0400 3000")
CAPABILITIES = b"* CAPABILITY IMAP4rev1 AUTH=EXTERNAL\r\na2 OK done\r\n"
EHLO = b"250-mail.lab.internal\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"

IMAP = ((HEARS, CAPABILITIES, HEARS, b"a3 OK logged in\r\n"),)
IMAP += ((HEARS, CAPABILITIES, HEARS, b"a3 NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"),)
SMTP = ((HEARS, b"250 mail.lab.internal\r\n"),)
CONVERSATIONS = {
    "postgres": Conversation(
        (HEARS, b"S"),
        (HEARS, b"R\0\0\0\x08\0\0\0\0"),
        (HEARS, _postgres_error("28000", 'certificate authentication failed for user "x"')),
    ),
    "mysql": Conversation(
        (_mysql(0, GREETING), 36), (HEARS, _mysql(3, b"\0\0\0\x02\0\0\0")), (HEARS, _mysql(3, DENIED))
    ),
    "smtp": Conversation((b"220 mail.lab.internal\r\n", HEARS, EHLO, HEARS, b"220 go ahead\r\n"), *SMTP),
    "smtps": Conversation((), (b"220 mail.lab.internal ESMTP\r\n", *SMTP[0])),
    "imap": Conversation((b"* OK ready\r\n", HEARS, b"a1 OK begin TLS\r\n"), *IMAP),
    "imaps": Conversation((), (b"* OK ready\r\n", *IMAP[0]), (b"* OK ready\r\n", *IMAP[1])),
    "ldap": Conversation(
        (HEARS, BIND_DONE), (HEARS, ENTRY), (HEARS, bytes.fromhex("300c 020102 6507 0a0132 0400 0400"))
    ),
    "ldaps": Conversation((), (HEARS, ENTRY), (HEARS, bytes.fromhex("300c 020102 6507 0a0130 0400 0400"))),
    "mqtts": Conversation((), (HEARS, b"\x20\x02\0\0"), (HEARS, b"\x20\x02\0\x05")),
}


def follow(connection: socket.socket, steps: Sequence[Step]) -> None:
    """Send and wait for bytes, step by step, until the client closes the connection."""
    for step in steps:
        if isinstance(step, int):
            connection.recv(step, socket.MSG_WAITALL)
        elif step is HEARS:
            if not connection.recv(4096):
                return
        else:
            connection.sendall(step)


def converses(before: Sequence[Step], within: Sequence[Step], *, trusts: Path | None = None) -> Behaviour:
    """A server that follows these steps; with `trusts`, it demands a certificate that this root signed."""

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        if trusts:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(trusts)
        follow(connection, before)
        with context.wrap_socket(connection, server_side=True) as inside:
            follow(inside, within)
            with suppress(OSError):
                inside.recv(4096)  # until the client says good-bye

    return behave


def closes_after_tls(before: Sequence[Step]) -> Behaviour:
    """A server as GnuTLS makes them: it finishes the handshake, and then closes the connection without an alert."""

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        follow(connection, before)
        inside = context.wrap_socket(connection, server_side=True)
        with suppress(OSError):
            inside.unwrap()
        inside.close()

    return behave
