"""An appliance whose certificate is changed through its HTTP API, by the hook of docs/how-to/hooks.md."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pki.deploy import verification
from tests.integration.conftest import PROJECT, LiveHome, run

TOKEN = "a-token-of-the-appliance"
PAGE = PROJECT / "docs/how-to/hooks.md"
PKI_YAML = """organisation: Example Lab
domains: lab.internal
publish: {url: "http://pki.lab.internal", host: nas}
networks: {loop: 127.0.0.0/8}
sandbox: true
hosts:
  nas:
    network: loop
    address: 127.0.0.1
    deliver: {command: hooks/nas URL}
    services: {nas: {speaks: https, port: PORT, access: tls, names: nas.lab.internal}}
"""


@dataclass
class Appliance:
    """A web server over TLS, and an API that replaces its certificate for whoever has the token."""

    folder: Path
    refuses: bool = False
    forgets: bool = False
    uploads: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        appliance = self

        class Api(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_allowed = self.headers["Authorization"] == f"Bearer {TOKEN}" and not appliance.refuses
                if is_allowed:
                    appliance.take(body)
                self.send_response(200 if is_allowed else 403)
                self.end_headers()
                self.wfile.write(b"{}\n" if is_allowed else b"the token has expired\n")

            def log_message(self, *_: object) -> None:
                pass

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.site = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        first = self.folder / "first.pem"
        subject = ("-subj", "/CN=appliance", "-days", "9")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", first, "-out", first, *subject)
        self.context.load_cert_chain(first)
        self.site.socket = self.context.wrap_socket(self.site.socket, server_side=True, do_handshake_on_connect=False)
        for server in (self.api, self.site):
            server.handle_error = lambda *_: None  # type: ignore[method-assign] - clients that refuse the certificate
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.uploads.append(body)
        if not self.forgets:
            (self.folder / "taken.pem").write_bytes(body)
            self.context.load_cert_chain(self.folder / "taken.pem")

    def stop(self) -> None:
        for server in (self.api, self.site):
            server.shutdown()
            with suppress(OSError):
                server.server_close()


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    server = Appliance(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def nas(appliance: Appliance, tmp_path: Path) -> LiveHome:
    """A project with the script of the documentation."""
    home = LiveHome(tmp_path / "home")
    (home.path / "templates").mkdir(parents=True)
    url = f"http://127.0.0.1:{appliance.api.server_port}"
    home.write("pki.yaml", PKI_YAML.replace("URL", url).replace("PORT", str(appliance.site.server_port)))
    home.write("hooks/nas", script_of_the_page()).chmod(0o755)
    home.write("hooks/nas.token", TOKEN).chmod(0o600)
    return home


def script_of_the_page() -> str:
    match = re.search(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert match
    return match[1]


def test_an_appliance_gets_its_certificate_through_its_api_and_is_verified(nas: LiveHome, appliance: Appliance) -> None:
    report = nas.doit()
    assert report.failed == {}
    assert len(appliance.uploads) == 1
    receipt = json.loads(nas.read("build/receipts/nas.json"))
    assert receipt["transport"] == "command"
    assert receipt["verification"]["nas"][0] == "verified"
    roots, target = nas.path / "build/trust/roots.pem", f"127.0.0.1:{appliance.site.server_port}"
    said = run("openssl", "s_client", "-connect", target, "-CAfile", roots, "-verify_return_error", timeout=20)
    assert "Verify return code: 0 (ok)" in said
    assert nas.doit().made == {}
    assert len(appliance.uploads) == 1
    for place in ("build", "ca"):
        texts = [path.read_bytes() for path in (nas.path / place).rglob("*") if path.is_file()]
        assert TOKEN.encode() not in b"".join(texts)


def test_an_api_that_refuses_and_a_service_that_keeps_its_certificate_fail_and_are_tried_again(
    nas: LiveHome, appliance: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 0.5)
    appliance.refuses = True
    failure = nas.doit().failed["deploy:nas"]
    assert "for nas failed with exit status 22" in failure
    assert "403" in failure
    appliance.refuses, appliance.forgets = False, True
    failure = nas.doit().failed["deploy:nas"]
    assert "after its command: nas serves a certificate that does not verify" in failure
    assert len(appliance.uploads) == 1
    assert "failing" in nas.invoke("status")
    appliance.forgets = False
    assert nas.doit().failed == {}
    assert len(appliance.uploads) == 2
    assert "by command" in nas.invoke("status")
