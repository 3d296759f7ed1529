"""A delivery that is looked at from outside: verified by real handshakes, or put back."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pki.deploy.tls_client import Endpoint
from pki.deploy.verification import NOT_VERIFIED
from tests.integration.conftest import LiveHome
from tests.support.live_host import NAME, Live, delivered, delivered_once
from tests.support.projects import Home

__all__ = ["delivered", "delivered_once"]


@pytest.fixture(scope="session")
def kind() -> type[Home]:
    """Handshakes take the time from the system."""
    return LiveHome


class Server:
    """A service on the host: it serves the pair that it read when it was last told to."""

    def __init__(self, pair: Path) -> None:
        self.pair = pair
        self._mine = pair.parents[2] / "served.pem"
        self.stubborn = False
        self.left: float = float("inf")  # connections that it still answers
        self._serves = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.left -= 1
                if self.left < 0:
                    connection.close()
                    continue
                with suppress(OSError), connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        if not (self.stubborn and self._serves):
            self._serves = self.pair.read_bytes()
        self._mine.write_bytes(self._serves)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._mine)
        with context.wrap_socket(connection, server_side=True) as inside:
            asked = inside.recv(4096)
            if asked:
                status = b"200 OK" if f"Host: {NAME}".encode() in asked else b"421 Misdirected Request"
                inside.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def served(delivered: Live) -> Iterator[tuple[Live, Server]]:
    """The same, and its service can be reached."""
    server = Server(delivered.on("/etc/doit-pki/media.pem"))
    delivered.endpoints.append(Endpoint("jellyfin", NAME, "127.0.0.1", server.port, "tls"))
    yield delivered, server
    server.close()


def test_a_release_that_is_served_is_proven_and_one_that_is_not_is_put_back(served: tuple[Live, Server]) -> None:
    live, server = served
    live.home.edit("auto_https off", "auto_https off # verified", "templates/caddy/Caddyfile")
    assert live.doit().status == 0
    assert live.receipt()["verification"] == {"jellyfin": ["verified", "verified"]}
    before = live.host.holds()
    server.stubborn = True
    shutil.rmtree(live.home.path / "build/certs/media")
    said = live.because(live.doit())
    assert re.match(r"jellyfin serves another certificate \(SHA-256 \w+…\) than the deployed one", said)
    assert {name: seen for name, seen in live.host.holds().items() if "crl" not in name} == {
        name: seen for name, seen in before.items() if "crl" not in name
    }
    assert live.host.litter() == []
    server.stubborn = False
    assert live.doit().status == 0
    assert live.receipt()["verification"] == {"jellyfin": ["verified", "verified"]}


def test_services_are_looked_at_daily_though_nothing_differs_on_their_host(served: tuple[Live, Server]) -> None:
    live, server = served
    assert live.doit(days=0.6).made == {"deploy:media": "jellyfin is verified"}
    assert live.receipt()["verification"] == {"jellyfin": ["verified", "verified"]}
    assert live.doit(days=0.6).made == live.doit(days=1.2).made == {}
    assert [note["what"] for note in live.history()] == ["delivered", "checked"]
    before, receipt = live.host.touched(), live.receipt()
    mine, server.pair = server.pair, live.home.path / "build/certs/forge-mtls/tls.pem"
    said = live.because(live.doit(days=1.8))
    assert said.startswith("jellyfin serves a certificate that does not verify: Hostname mismatch")
    assert re.search(r" → on media: sh \S+/reload; then: ./run doit deploy:media$", said)
    assert (live.host.touched(), live.receipt()) == (before, receipt)
    server.pair = mine
    report = live.doit(days=1.8)
    assert (report.status, report.made) == (0, {})


def test_a_service_that_is_out_of_reach_is_unproven_and_no_fault(served: tuple[Live, Server]) -> None:
    live, _ = served
    assert live.doit(days=0.6).status == 0
    live.endpoints[:] = [replace(live.endpoints[0], port=1)]
    report = live.doit(days=1.2)
    assert (report.status, report.made) == (0, {"deploy:media": f"jellyfin is {NOT_VERIFIED}"})
    assert live.doit(days=1.2).made == {}
    assert live.delivery(1.2).state(live.home.moment(1.2)) == "not verified: jellyfin"


def test_what_goes_on_answering_for_a_moment_after_its_reload_proves_nothing(served: tuple[Live, Server]) -> None:
    """The certificate stays, so old workers look like new ones: until they are gone."""
    live, server = served
    before = live.on("/etc/caddy/Caddyfile").read_bytes()
    live.home.edit("auto_https off", "auto_https off # nobody listens any more", "templates/caddy/Caddyfile")
    server.left = 6  # one to reach it, one before the change, four in a first look
    assert live.because(live.doit()).endswith("→ rolled back")
    assert live.on("/etc/caddy/Caddyfile").read_bytes() == before
    server.left = float("inf")
    assert live.doit().status == 0
