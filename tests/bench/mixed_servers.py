"""Servers of many services in one process: python -m tests.bench.mixed_servers HOME < LISTING.

Each line of LISTING is an address, a port, a protocol, a level of access and a leaf. Prints a line when all listen; then
answers each further line of its input with the number of connections so far, and ends with its input.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.support.protocol_servers import CONVERSATIONS, HEARS, Conversation, follow

WIDTH = 128  # connections that are served at the same time: as many as a run makes
PATIENCE = 10.0  # seconds that a client may be silent
OTHERS = {
    "https": Conversation((), (HEARS, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
    "tls": Conversation((), ()),  # an unknown protocol: the server waits for the client
}


class Servers:
    """The servers of one project; `count` is the number of connections that they accepted."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.count = 0
        self.selector = selectors.DefaultSelector()
        self.context = cache(self._context)

    def listen(self, address: str, port: str, speaks: str, access: str, leaf: str) -> None:
        """Open the port of one service."""
        listener = socket.create_server((address, int(port)), backlog=WIDTH)
        service = self.context(leaf, access), (OTHERS | CONVERSATIONS)[speaks]
        self.selector.register(listener, selectors.EVENT_READ, service)

    def serve(self) -> None:
        """Accept connections for ever."""
        with ThreadPoolExecutor(WIDTH) as pool:
            while True:
                for key, _ in self.selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    connection, _ = key.fileobj.accept()
                    self.count += 1
                    pool.submit(_answer, connection, *key.data)

    def _context(self, leaf: str, access: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.home / f"build/certs/{leaf}/tls.pem")
        if access == "mtls":
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
            context.load_verify_locations(self.home / "build/trust/client-chain.pem")
            context.load_verify_locations(self.home / "build/crl/bundle-client.pem")
        return context


def _answer(connection: socket.socket, context: ssl.SSLContext, conversation: Conversation) -> None:
    connection.settimeout(PATIENCE)
    with suppress(OSError), connection:
        follow(connection, conversation.before)
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as inside:
            try:
                inside.do_handshake()
                follow(inside, conversation.admits)
            except ssl.SSLError:
                inside.shutdown(socket.SHUT_WR)
            while inside.recv(4096):  # until the client closes: an alert is lost if the connection is reset before
                pass


def main(home: str) -> None:
    """Listen, then count on request."""
    servers = Servers(Path(home))
    for line in iter(sys.stdin.readline, "\n"):
        servers.listen(*line.split())
    threading.Thread(target=servers.serve, daemon=True).start()
    print("listening", flush=True)
    for _ in sys.stdin:
        print(servers.count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
