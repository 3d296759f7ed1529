"""Five proxies killed, replaced and misconfigured: the run, status, plan, health, page, metrics and mail say the same."""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from pki.config.model import Leaf
from pki.deploy import tls_client
from pki.deploy.tls_client import Endpoint
from pki.monitor.check_result import Level
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from tests.integration.conftest import LiveHome, live_home, now
from tests.integration.proxies import Proxy, Upstreams, free_port, started
from tests.integration.proxy_stage import HOSTS, MTLS, TLS, serve_two_on_each_host
from tests.support import leavings
from tests.support.commands import said_by
from tests.support.mails import text_of

FIVE = ("nginx", "haproxy", "caddy", "apache", "traefik")
LEVELS = {"critical": Level.CRITICAL, "warning": Level.WARNING, "ok": Level.OK}
OPEN = {  # what lets everybody in where a certificate is asked for
    "nginx": (("ssl_verify_client on", "ssl_verify_client off"), ("pki_issuer_is_ours 0;", "pki_issuer_is_ours 1;")),
    "haproxy": (("verify required", "verify none"),),
    "caddy": (("mode require_and_verify", "mode verify_if_given"),),
    "apache": (("SSLVerifyClient require", "SSLVerifyClient none"),),
    "traefik": (("RequireAndVerifyClientCert", "NoClientCert"),),
}


@dataclass
class Stage:
    """The project, its five proxies on loopback, and the port at which each service is found now."""

    home: LiveHome
    proxies: list[Proxy]
    upstreams: Upstreams
    ports: dict[str, int]

    def services(self, places: dict[str, str]) -> list[str]:
        return [f"service:{HOSTS[one.name]}/{places[one.name]}" for one in self.proxies]

    def restart(self) -> None:
        for one in self.proxies:
            one.stop()
            one.start()

    def change(self, proxy: Proxy, old: str, new: str) -> None:
        """Replace text in whatever the proxy was configured with; it must be there."""
        found = [
            path for path in proxy.work.rglob("*") if path.is_file() and path.suffix != ".log" and path.name != "log"
        ]
        changed = [path for path in found if old in path.read_text(errors="surrogateescape")]
        assert changed, (proxy.name, old)
        for path in changed:
            path.write_text(path.read_text(errors="surrogateescape").replace(old, new), errors="surrogateescape")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    upstreams, home = Upstreams(), live_home(tmp_path_factory.mktemp("five") / "home")
    for service in (*(MTLS[kind] for kind in FIVE), *(TLS[kind] for kind in FIVE)):
        upstreams.start(service)
    serve_two_on_each_host(home, upstreams)
    home.write("pki.yaml", re.sub(r"(    proxy: \w+\n)", r"\1    probe: direct\n", home.read("pki.yaml").decode()))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        ports = dict[str, int]()
        patch.setattr(tls_client, "_connect_tcp", lambda one: _plain(one, ports))
        home.doit()
        proxies = []
        for kind in FIVE:
            work = tmp_path_factory.mktemp(kind) / "work"
            proxies.append(running.enter_context(started(kind, home, HOSTS[kind], work)))
        made = Stage(home, proxies, upstreams, ports)
        place(made)
        yield made
    upstreams.stop()


def place(stage: Stage) -> None:
    for proxy in stage.proxies:
        stage.ports |= dict.fromkeys(stage.home.project().inventory.hosts[proxy.host].services, proxy.port)


def _plain(endpoint: Endpoint, ports: dict[str, int]) -> socket.socket:
    return socket.create_connection(("127.0.0.1", ports.get(endpoint.service, 1)), tls_client.TIMEOUT)


def agreed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> dict[str, Level]:
    """What one run found of services, by subject: seven views of it that must not differ."""
    home = stage.home
    capsys.readouterr()
    report = home.doit()
    said = capsys.readouterr().out

    def invoke(*arguments: str) -> str:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment()).out

    table, plan = invoke("status"), invoke("plan")  # by what the run saw
    measured = {name: one[0] for name, one in leavings.checks(home.path / "build/report/pki.prom").items()}
    health = json.loads(invoke("health", "--json"))["checks"]  # by a look of its own
    found = {
        one["subject"]: LEVELS[one["level"]] for one in health if one["topic"] == "services" and one["level"] != "ok"
    }
    assert {name: level for name, level in measured.items() if name.startswith("service")} == found
    page = leavings.page(home.path)
    counts = {name: [*found.values()].count(LEVELS[name]) for name in ("critical", "warning")}
    assert (report.data["critical"], report.data["warnings"]) == (counts["critical"], counts["warning"]), said
    assert (report.status, report.data["result"]) == (int(bool(counts["critical"])), "ok")
    for name, count in counts.items():
        assert not count or re.search(rf"(?m)^(\d+ critical, )?{count} {name}s?[,:]", said), said
    for subject, level in found.items():
        assert re.search(rf"^{level.word} +{subject} .*\(probed ", plan, re.MULTILINE), plan
        assert subject in page
    unwell = {line.split()[0] for line in table.splitlines() if line.startswith("service:") and line.split()[1] != "ok"}
    assert {name.partition("/")[0] for name in unwell} == {name.partition("/")[0] for name in found}
    if found:
        letter = mail(home)
        assert all(subject in letter for subject in found), letter
    return found


def mail(home: LiveHome) -> str:
    newest = max((home.path / "build/report/outbox").iterdir(), key=lambda path: path.name)
    message = email.message_from_bytes(newest.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return text_of(message)


def test_services_that_are_well_are_no_finding(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert agreed(stage, capsys) == {}
    assert len(stage.ports) > len(FIVE)


def test_misconfigured_ones_are_found(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mTLS service lets everybody in, as far as its proxy does; each open one has an upstream that is not there."""
    before = [(path, path.read_bytes()) for one in stage.proxies for path in one.work.rglob("*") if path.is_file()]
    for proxy in stage.proxies:
        for old, new in OPEN[proxy.name]:
            stage.change(proxy, old, new)
        port = stage.upstreams.ports[TLS[proxy.name]]
        stage.change(proxy, f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    stage.restart()
    found = agreed(stage, capsys)
    for path, data in before:
        path.write_bytes(data)
    stage.restart()
    assert set(found) >= {*stage.services(MTLS), *stage.services(TLS)}
    assert {found[name] for name in stage.services(TLS)} == {Level.WARNING}
    assert agreed(stage, capsys) == {}


@contextmanager
def foreign(folder: Path) -> Iterator[int]:
    """A server with a certificate of its own making; its port."""
    key, days = keys.new_key("ec-p256"), timedelta(days=2)
    leaf = Leaf("x", "server", "x", ("x",), (), (), "ec-p256", True, days, days / 2, None, "hosts")
    dates: tuple[datetime, datetime] = certificate_signing.validity_dates(now(), days, None)
    cert = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Else", "x"),
        key.public_key(),
        dates,
        profiles.leaf_extensions(leaf, key.public_key()),
        key,
    )
    (folder / "foreign.pem").write_bytes(keys.private_pem(key) + pem_encoding.pem_of([cert]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "foreign.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                plain.settimeout(5)
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as inside:
                    inside.recv(4096)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_replaced_ones_are_critical(stage: Stage, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with foreign(tmp_path) as port:
        stage.ports |= dict.fromkeys(stage.ports, port)
        found = agreed(stage, capsys)
    place(stage)
    assert found == dict.fromkeys(found, Level.CRITICAL)
    assert set(found) >= {*stage.services(MTLS), *stage.services(TLS)}


def test_killed_ones_are_one_warning_for_each_host(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for proxy in stage.proxies:
        proxy.stop()  # with its workers, which outlive a master that is killed
    assert agreed(stage, capsys) == {f"service:{HOSTS[kind]}": Level.WARNING for kind in FIVE}
