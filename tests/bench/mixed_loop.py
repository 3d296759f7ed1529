"""The least that a check of many services can cost: a bare loop of Python's ssl over the same connections.

python -m tests.bench.mixed_loop HOME LISTING, where each line of LISTING is an address, a port, a protocol, a level of
access and a name. Prints the wall and the processor time of the connections alone, in seconds.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pki.deploy.binary_protocols import LOGIN, MQTT_CONNECT, PLUGIN, ROOT_DSE, SSL_REQUEST, START_TLS, UNBIND
from pki.deploy.tls_client import WATCHED
from pki.monitor.probes import PARALLEL_PROBES

Step = (
    bytes | float | None
)  # what the client sends; None: it waits for an answer; a number: it watches for so many seconds
ANSWER: Step = None
ACCOUNT = b"doit-pki-probe"
NO_CRL = {"https", "tls", "smtp", "smtps"}  # such servers read none: nobody connects with a revoked certificate
MYSQL_LOGIN = LOGIN + ACCOUNT + b"\0\0" + PLUGIN
STARTUP = b"user\0" + ACCOUNT + b"\0database\0postgres\0\0"
EHLO = b"EHLO doit-pki.invalid\r\n"
IMAP = (b"a2 CAPABILITY\r\n", ANSWER)
DIALOGUES: dict[str, tuple[Sequence[Step], Sequence[Step]]] = {  # before TLS, and within it
    "https": ((), (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ANSWER)),
    "tls": ((), (WATCHED,)),
    "postgres": (
        (SSL_REQUEST, ANSWER),
        ((len(STARTUP) + 8).to_bytes(4) + (196608).to_bytes(4) + STARTUP, ANSWER, b"X\0\0\0\x04"),
    ),
    "mysql": (
        (ANSWER, len(LOGIN).to_bytes(3, "little") + b"\x01" + LOGIN),
        (len(MYSQL_LOGIN).to_bytes(3, "little") + b"\x02" + MYSQL_LOGIN, ANSWER, b"\x01\0\0\0\x01"),
    ),
    "smtp": ((ANSWER, EHLO, ANSWER, b"STARTTLS\r\n", ANSWER), (EHLO, ANSWER, b"QUIT\r\n")),
    "smtps": ((), (ANSWER, EHLO, ANSWER, b"QUIT\r\n")),
    "imap": ((ANSWER, b"a1 STARTTLS\r\n", ANSWER), IMAP),
    "imaps": ((), (ANSWER, *IMAP)),
    "ldap": ((START_TLS, ANSWER), (ROOT_DSE, ANSWER, UNBIND)),
    "ldaps": ((), (ROOT_DSE, ANSWER, UNBIND)),
    "mqtts": ((), (MQTT_CONNECT, ANSWER, b"\xe0\0")),
}
IMAP_LOG_IN = (b"a3 AUTHENTICATE EXTERNAL =\r\n", ANSWER)  # where the certificate decides who is let in
GOOD_BYE = {"imap": (b"a9 LOGOUT\r\n",), "imaps": (b"a9 LOGOUT\r\n",)}


@dataclass(frozen=True)
class Clients:
    """The clients that connect to each service, each with one context for all of them."""

    probe: ssl.SSLContext
    nobody: ssl.SSLContext
    canary: ssl.SSLContext
    old: ssl.SSLContext

    def connections(self, speaks: str, access: str) -> Iterator[tuple[ssl.SSLContext, bool, bool]]:
        """Yield each connection to a service: the client, whether it asks a question, and whether it is let in."""
        yield self.probe, access == "mtls", True
        yield self.old, False, False
        yield self.nobody, True, access == "tls"
        if access == "tls":
            yield self.probe, True, True
        elif speaks not in NO_CRL:
            yield self.canary, True, False


def contexts(home: Path) -> Clients:
    """The four clients, with the identities of a project."""

    def client(identity: str = "") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(home / "build/trust/roots.pem")
        if identity:
            context.load_cert_chain(home / f"build/certs/{identity}/tls.pem")
        return context

    old = client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return Clients(client("doit-pki-probe"), client(), client("doit-pki-canary"), old)


def check(clients: Clients, service: str) -> None:
    """Make the connections to one service. Raises AssertionError if a client is let in or refused that must not be."""
    address, port, speaks, access, name = service.split()
    before, question = DIALOGUES[speaks]
    if speaks in GOOD_BYE:
        question = (*question, *(IMAP_LOG_IN if access == "mtls" else ()), *GOOD_BYE[speaks])
    for context, asks, expected in clients.connections(speaks, access):
        try:
            with socket.create_connection((address, int(port)), 5) as connection:
                _follow(connection, before)
                with context.wrap_socket(connection, server_hostname=name) as inside:
                    _follow(inside, question if asks else ())
            is_let_in = True
        except ssl.SSLError:
            is_let_in = False
        assert is_let_in == expected, service


def _follow(connection: socket.socket, steps: Sequence[Step]) -> None:
    for step in steps:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, float):
            connection.settimeout(step)
            with suppress(TimeoutError):
                connection.recv(4096)
        else:
            assert connection.recv(4096)


def main(home: str, listing: str) -> None:
    """Make all connections, as many at once as a run does."""
    clients, services = contexts(Path(home)), Path(listing).read_text().splitlines()
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(PARALLEL_PROBES) as pool:
        for _ in pool.map(lambda service: check(clients, service), services):
            pass
    print(time.perf_counter() - started, time.process_time() - cpu)


if __name__ == "__main__":
    main(*sys.argv[1:])
