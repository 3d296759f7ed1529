"""Four proxies on one stage, each before two services."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, LiveHome, built, live_home
from tests.integration.proxies import CURRENT, PATIENCE, Answer, Proxy, Upstreams

HOSTS = {"nginx": "monitoring", "haproxy": "forge", "caddy": "media", "apache": "office", "traefik": "gate"}
MTLS = {"nginx": "grafana", "haproxy": "forgejo", "caddy": "photos", "apache": "wiki", "traefik": "board"}
TLS = {"nginx": "status", "haproxy": "pages", "caddy": "jellyfin", "apache": "news", "traefik": "shop"}
for _places in (HOSTS, MTLS, TLS):  # a current proxy stands where the older one of its kind does
    _places |= {kind: _places[kind.partition("-")[0]] for kind in CURRENT}
OFFICE = """hosts:
  office:
    network: dev
    proxy: apache
    services:
      wiki: {upstream: "http://127.0.0.1:3001", access: mtls}
      news: {upstream: "http://127.0.0.1:3002", access: tls}
  gate:
    network: dev
    proxy: traefik
    services:
      board: {upstream: "http://127.0.0.1:3003", access: mtls}
      shop: {upstream: "http://127.0.0.1:3004", access: tls}
"""


def address(service: str) -> str:
    return f"https://{service}.lab.internal/"


@dataclass(frozen=True)
class Stage:
    """One proxy with its two services, and the upstreams behind it."""

    proxy: Proxy
    upstreams: Upstreams

    @property
    def mtls(self) -> str:
        return MTLS[self.proxy.name]

    @property
    def tls(self) -> str:
        return TLS[self.proxy.name]

    @property
    def client(self) -> tuple[str | Path, ...]:
        """What curl is told to present the admin's certificate."""
        return "--cert", self.proxy.home.path / "ca/clients/admin/tls.pem"

    def assert_kept_out(self, answer: Answer) -> None:
        """Refused by the proxy, and nothing of it reached the service behind mTLS."""
        assert answer.refused, answer
        assert self.mtls not in self.upstreams.seen

    def session(self, version: str, service: str, *options: str | Path) -> str:
        """What `openssl s_client` sees of one handshake and one request; an empty service names none."""
        name = ("-servername", f"{service}.lab.internal") if service else ("-noservername",)
        request = f"GET / HTTP/1.1\r\nHost: {service}.lab.internal\r\nConnection: close\r\n\r\n"
        done = subprocess.run(
            [
                *("openssl", "s_client", "-connect", f"127.0.0.1:{self.proxy.port}", version, "-ign_eof"),
                *name,
                *options,
            ],
            input=request,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return done.stdout + done.stderr

    @contextmanager
    def stream(self, service: str, *headers: str) -> Iterator[ssl.SSLSocket]:
        """A connection of the admin's on which the upstream sends without an end."""
        home = self.proxy.home.path
        context = ssl.create_default_context(cafile=home / "build/trust/roots.pem")
        context.load_cert_chain(home / "ca/clients/admin/tls.pem")
        with (
            socket.create_connection(("127.0.0.1", self.proxy.port), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=f"{service}.lab.internal") as wire,
        ):
            lines = ("GET /stream HTTP/1.1", f"Host: {service}.lab.internal", *headers, "", "")
            wire.sendall("\r\n".join(lines).encode())
            yield wire

    @staticmethod
    def read_some(wire: ssl.SSLSocket) -> None:
        """Read more than any proxy holds back; a connection that ended fails the test."""
        left = 1 << 17
        while left > 0:
            data = wire.recv(1 << 16)
            assert data, "the connection ended"
            left -= len(data)


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Upstreams]:
    found = Upstreams()
    for service in {*MTLS.values(), *TLS.values()}:
        found.start(service)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def mixed(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """The example with a second service on each host, so that each has an open one and one behind mTLS."""
    home = live_home(tmp_path_factory.mktemp("mixed") / "home")
    serve_two_on_each_host(home, upstreams)
    return built(home)


def serve_two_on_each_host(home: LiveHome, upstreams: Upstreams) -> None:
    """Give each host of the example its missing service, and every service its upstream."""
    home.edit("hosts:\n", OFFICE)
    home.add_service("status", "monitoring", "tls")
    home.add_service("pages", "forge", "tls")
    home.add_service("photos", "media", "mtls")
    text = (home.path / "pki.yaml").read_text()
    for service, port in upstreams.ports.items():
        text = re.sub(rf'({service}: +{{upstream: "http://127.0.0.1:)\d+', rf"\g<1>{port}", text)
    home.write("pki.yaml", text)


CONTENT_TYPES = {
    "crl.crl": "application/pkix-crl",
    "ca.crt": "application/pkix-cert",
    "trust.crt": "application/x-x509-ca-cert",
    "trust.pem": "application/x-pem-file",
    "trust.mobileconfig": "application/x-apple-aspen-config",
}
