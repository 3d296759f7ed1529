"""A project with one host whose services do not speak HTTP, that host in a folder, and real servers with its files."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from pki.common.template_folders import PROGRAM_TEMPLATES
from pki.config.fields import UNSEEN, RecipeName
from pki.deploy import access, receipt, verification
from pki.deploy.protocol import command_name
from pki.deploy.tls_client import Endpoint
from pki.deploy.transaction import Destination
from pki.deploy.verification import Verdict
from pki.pipeline import delivery_targets
from tests.integration.conftest import LiveHome, run
from tests.support.commands import Invoke
from tests.support.hosts import FolderHost

NAME = "db.lab.internal"
PROJECT = """organisation: Example Lab
domains: lab.internal
publish: {url: "http://pki.lab.internal", host: server}
networks: {loop: 127.0.0.0/8}
sandbox: true
hosts:
  server: {network: loop, address: 127.0.0.1, deliver: ssh, services: {SERVICES}}
clients: {anna@laptop: {email: anna@lab.internal}, app@server: {email: app@lab.internal}}
templates: {without: all}
"""
PATIENCE = 60  # seconds: a server is up within one


@dataclass
class ServiceHost:
    """The project, and the host that takes its files below a folder of its own."""

    home: LiveHome
    host: FolderHost
    ports: dict[str, int]

    @property
    def folder(self) -> Path:
        return self.host.root

    def file(self, name: str) -> Path:
        return self.host.etc / name

    def reloads_by(self, script: str) -> None:
        """What the host does when a file has changed."""
        (self.folder / "reload").write_text(f"set -e\n{script}\n")

    def deliver(self) -> None:
        report = self.home.doit()
        assert report.status in {0, 1}, report.data
        assert not report.failed, report.failed

    def endpoint(self, service: str) -> Endpoint:
        return next(endpoint for endpoint in self.destination.endpoints if endpoint.service == service)

    @property
    def destination(self) -> Destination:
        destination = self.home.plan().deliveries["server"].destination
        assert destination is not None
        return destination()

    @property
    def roots(self) -> Path:
        return self.home.path / "build/trust/roots.pem"

    def identity(self, leaf: str) -> Path:
        project = self.home.project()
        return project.store.bundle(self.home.plan().leaves[leaf])

    def entry(self, service: str, identity: Path) -> str:
        """How a client gets in; "" if it is refused for certain."""
        return access.acceptance_text(
            self.endpoint(service), self.roots, identity, None, self.destination.prober.as_probe
        )

    def verdicts(self) -> dict[str, Verdict]:
        record = receipt.load(self.home.project().store.receipt("server"))
        assert record is not None
        assert record.verification is not None
        return {service: result.verdict for service, result in record.verification.items()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def recipe_files(recipe: RecipeName, host: FolderHost, reload: str, changes: Mapping[str, str]) -> dict[str, str]:
    """The templates of a recipe, with the folder and the reload command of a host that is a folder itself.

    `changes` are texts to replace: what a server needs that listens on loopback alone.
    """
    folder = PROGRAM_TEMPLATES / "recipes" / recipe
    texts = dict[str, str]()
    for path in folder.iterdir():
        text = re.sub(r"(?m)(deploy-target: )/.*/", rf"\1{host.etc}/", path.read_text())
        text = text.replace(f"/etc/doit-pki/{recipe}", str(host.etc))
        for old, new in changes.items():
            text = text.replace(old, new)
        assert f"deploy-hosts: recipe:{recipe}\n" in text
        texts[f"templates/recipes/{recipe}/{path.name}"] = re.sub(r"(?<=deploy-reload: ).*", reload, text)
    return texts


@contextmanager
def service_host(
    protocols: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    owner: str = "root:root",
    *,
    recipe: RecipeName,
    changes: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[ServiceHost]:
    """A project with a service for each protocol and the files of a recipe, before its server was started."""
    folder = Path(tempfile.mkdtemp(prefix="pki-services-"))  # servers run under accounts of their own
    folder.chmod(0o755)
    try:
        ports = {service: free_port() for service in protocols}
        services = ", ".join(
            f"{service}: {{recipe: {recipe}, speaks: {speaks}, port: {ports[service]}, access: mtls, names: {NAME}}}"
            for service, speaks in protocols.items()
        )
        reload = f"sh {folder}/host/reload"
        host = FolderHost.new(folder / "host", commands={command_name(reload): reload}, name="server")
        host.permit(f"trust {owner.partition(':')[2]}")
        home = LiveHome(folder / "home")
        home.write("pki.yaml", PROJECT.replace("SERVICES", services))
        for name, text in recipe_files(recipe, host, reload, changes).items():
            home.write(name, text)
        transport = host.transport()
        monkeypatch.setattr(delivery_targets, "transport_of", lambda *_: transport)
        served = ServiceHost(home, host, ports)
        served.reloads_by("true")
        served.deliver()
        if UNSEEN.isdisjoint(protocols.values()):
            assert set(served.verdicts().values()) == {Verdict.UNREACHED}
        yield served
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process is None or process.poll() is None, "the server ended"
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


@contextmanager
def started(folder: Path, *command: str | Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, until the block ends."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
        )
    try:
        try:
            wait_for(port, process)
        except AssertionError as error:
            raise AssertionError(f"{error}: {(folder / 'log').read_text()[-2000:]}") from None
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stranger(folder: Path) -> Path:
    """A client with a certificate of its own making."""
    key, certificate = folder / "stranger.key", folder / "stranger.crt"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=stranger", "-days", "2", "-keyout", key, "-out", certificate),
    )
    (folder / "stranger.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    return folder / "stranger.pem"


def check_who_is_let_in(served: ServiceHost, invoke: Invoke, *services: str) -> None:
    """One verified delivery; then a stranger and the server's own certificate are refused, and status says so."""
    said = invoke(served.home, "deploy.push", "server")
    assert said.status == 0, said.out + said.error
    assert served.verdicts() == dict.fromkeys(services, Verdict.VERIFIED)
    unknown = stranger(served.folder)
    for service in services:
        assert served.entry(service, served.identity("client-anna@laptop")).startswith("lets it in")
        assert served.entry(service, unknown) == ""
        assert served.entry(service, served.identity("server-mtls")) == "", "a server's certificate passes as a client"
    health = invoke(served.home, "health")
    assert "who is let in" not in health.out, health.out
    status = invoke(served.home, "status")
    for service in services:
        row = next(line for line in status.out.splitlines() if line.startswith(f"service:server/{service}"))
        assert " ok " in row, row


def check_revocation(served: ServiceHost, invoke: Invoke, *services: str) -> str:
    """One client is revoked, and refused everywhere; the other one works on. Returns what the command printed."""
    said = invoke(served.home, "revoke", "anna@laptop", "--reason", "key-compromise", "--yes")
    assert said.status == 0, said.out + said.error
    for service in services:
        place = f"server/{service}"
        seen = next(line for line in said.out.splitlines() if line.startswith("verified") and place in line)
        assert "refuses the revoked identity in a new connection" in seen, said.out
        assert any(line.startswith("sessions") and place in line for line in said.out.splitlines()), said.out
        assert served.entry(service, served.identity("client-app@server")).startswith("lets it in")
    return said.out


def check_renewal(served: ServiceHost, invoke: Invoke, *services: str) -> None:
    """The server's certificate is renewed: the server serves the new one, and lets the same clients in."""
    before = served.identity("server-mtls").read_bytes()
    said = invoke(served.home, "renew", "server-mtls")
    assert said.status in {0, 1}, said.out + said.error
    assert "deployed  deploy:server" in said.out, said.out
    assert served.identity("server-mtls").read_bytes() != before
    assert served.verdicts() == dict.fromkeys(services, Verdict.VERIFIED)


def check_revocation_without_crl(
    served: ServiceHost, invoke: Invoke, reason: str, monkeypatch: pytest.MonkeyPatch, *services: str
) -> None:
    """The server reads no CRL: `revoke` says so, with the reason, and that it still accepts the client."""
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 1)
    said = invoke(served.home, "revoke", "anna@laptop", "--reason", "key-compromise", "--yes")
    assert said.status == 1
    assert reason in said.out
    places = ", ".join(f"server/{service}" for service in services)
    assert f"STILL ACCEPTED by {places}" in said.out + said.error
