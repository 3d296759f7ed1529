"""A server in a real container of Podman: the recipe restarts it, `reload` of pki.yaml sends a signal, and traps of mounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from pki.deploy.protocol import command_name
from tests.integration.conftest import run
from tests.integration.container_engine import Engine, podman_engine
from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation,
    check_who_is_let_in,
    free_port,
    service_host,
    wait_for,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

MOUNTED = "/etc/doit-pki/compose"  # in the container, as docs/how-to/recipe-compose.md says
NGINX = """user nobody nogroup;
daemon off;
pid /run/nginx.pid;
error_log /dev/stderr;
events {{}}
http {{
  access_log off;
  ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen 127.0.0.1:{folder} ssl;
    ssl_certificate {mounted}/fullchain.pem;
    ssl_certificate_key {mounted}/key.pem;
    ssl_client_certificate {mounted}/client-ca.pem;
    ssl_trusted_certificate {mounted}/client-chain.pem;
    ssl_crl {mounted}/client-crl.pem;
    ssl_verify_client on;
    ssl_session_cache off;
    ssl_session_tickets off;
    location / {{ return 200; }}
  }}
  server {{ listen 127.0.0.1:{file} ssl; ssl_certificate /file/tls.pem; ssl_certificate_key /file/tls.pem; }}
  server {{ listen 127.0.0.1:{set} ssl; ssl_certificate /set/tls.pem; ssl_certificate_key /set/tls.pem; }}
  server {{ listen 127.0.0.1:{set_in_folder} ssl; ssl_certificate {mounted}/set/tls.pem; ssl_certificate_key {mounted}/set/tls.pem; }}
}}
"""
PLACES = ("file", "set", "set_in_folder")
FILE = """# deploy-target: {folder}/{target}
# deploy-hosts: server
# deploy-artifact: tls:server-mtls
# deploy-reload: {reload}
"""


@dataclass
class Container:
    """A container called `app` with nginx, whose files are mounted in several ways."""

    served: ServiceHost
    engine: Engine
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PLACES})

    def start(self) -> None:
        etc, settings = self.served.host.etc, self.served.folder / "nginx"
        settings.mkdir()
        ports = {"folder": self.served.ports["app"], **self.ports}
        (settings / "nginx.conf").write_text(NGINX.format(mounted=MOUNTED, **ports))
        mounts = {etc: MOUNTED, etc / "file.pem": "/file/tls.pem", etc / "set": "/set", settings: "/etc/nginx"}
        self.engine.start("app", mounts, "nginx")
        wait_for(self.served.ports["app"])

    @property
    def started_at(self) -> str:
        return self.engine.podman("inspect", "--format", "{{.State.StartedAt}}", "app")

    def served_serials(self) -> dict[str, str]:
        """The serial numbers of the certificates that nginx serves, by the mount that they come through."""
        return {
            name: _serial(run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", ok=None))
            for name, port in {"folder": self.served.ports["app"], **self.ports}.items()
        }

    def delivered_serial(self) -> str:
        return _serial(self.served.file("fullchain.pem").read_text())


def _serial(text: str) -> str:
    return run("openssl", "x509", "-noout", "-serial", stdin=text[text.index("-----BEGIN CERTIFICATE") :])


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    with (
        podman_engine() as engine,
        service_host({"app": "https"}, monkeypatch, recipe="compose") as served,
    ):
        restart = f"sh {served.folder}/reload"
        for target, more in {"file.pem": "", "set/tls.pem": f"# deploy-set: {served.host.etc}/set\n"}.items():
            text = FILE.format(folder=served.host.etc, target=target, reload=restart)
            served.home.write(f"templates/own/{target.replace('/', '-')}", text + more)
        served.reloads_by(f"PATH={engine.program.parent}:$PATH sh {served.file('reload.sh')}")
        served.deliver()
        yield Container(served, engine)


def test_the_recipe_restarts_a_container_which_serves_the_new_certificate_of_a_mounted_folder(
    container: Container, invoke: Invoke
) -> None:
    container.start()
    before, started_at = container.served_serials(), container.started_at
    assert before == dict.fromkeys(before, container.delivered_serial())
    check_who_is_let_in(container.served, invoke, "app")
    check_renewal(container.served, invoke, "app")
    assert container.started_at != started_at, "the recipe did not restart the container"
    assert container.served_serials()["folder"] == container.delivered_serial() != before["folder"]
    check_revocation(container.served, invoke, "app")


def test_reload_of_pki_yaml_sends_a_signal_and_a_mounted_file_or_set_stays_the_old_one(
    container: Container, invoke: Invoke
) -> None:
    served = container.served
    line = f"{container.engine.program} kill -s HUP app"
    served.host.permit(f"run {command_name(line)} {line}")
    served.home.edit("deliver: ssh", f"deliver: ssh, proxy: nginx, reload: {line}")
    for path in sorted((served.home.path / "templates").glob("*/**/*.*")):
        if path.is_file():
            path.write_text(path.read_text().replace(f"sh {served.folder}/reload", "{{ host.reload }}"))
    container.start()
    before, started_at = container.served_serials(), container.started_at
    said = invoke(served.home, "renew", "server-mtls")
    assert "deployed  deploy:server" in said.out, said.out + said.error
    assert container.started_at == started_at
    after = container.served_serials()
    assert {name for name in after if after[name] != before[name]} == {"folder", "set_in_folder"}
    assert after["folder"] == container.delivered_serial()
    container.engine.podman("restart", "--time=1", "app")
    wait_for(served.ports["app"])
    assert container.served_serials() == dict.fromkeys(before, container.delivered_serial())
