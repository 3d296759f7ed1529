"""OpenVPN with files of its recipe, in a network namespace, judged by its own client: doit does not connect to it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import run
from tests.integration.services import NAME, PATIENCE, ServiceHost, service_host, stranger
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

SERVER = """server 10.8.0.0 255.255.255.0
topology subnet
dev tun
proto udp
local 127.0.0.1
keepalive 1 10
config FOLDER
"""
UP = "Initialization Sequence Completed"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"vpn": "openvpn"}, monkeypatch, recipe="openvpn") as host:
        config, pid, log = (host.folder / name for name in ("server.conf", "pid", "openvpn.log"))
        config.write_text(SERVER.replace("FOLDER", str(host.file("tls.conf"))))
        network = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 900"], stdout=subprocess.PIPE
        )
        try:
            assert network.stdout is not None
            network.stdout.readline()
            (host.folder / "network").write_text(str(network.pid))
            start = (
                f"nsenter -t {network.pid} -n openvpn --config {config} --daemon --writepid {pid} --log-append {log}"
            )
            stop = f"kill $(cat {pid}); while kill -0 $(cat {pid}) 2>/dev/null; do sleep 0.05; done"
            host.reloads_by(f"{stop}\n{start}")
            run("sh", "-c", start)
            try:
                yield host
            finally:
                run("sh", "-c", stop)
        finally:
            network.kill()
            network.wait()


def client(served: ServiceHost, identity: Path) -> tuple[bool, str]:
    """Whether a client gets a tunnel, and what it printed."""
    address = ("--client", "--remote", "127.0.0.1", str(served.ports["vpn"]), "--proto", "udp", "--nobind")
    ours = ("--ca", served.roots, "--cert", identity, "--key", identity)
    checks = ("--remote-cert-tls", "server", "--verify-x509-name", NAME, "name", "--verb", "4")
    nothing = ("--dev", "null", "--ifconfig-noexec", "--route-noexec", "--hand-window", "5", "--tls-exit")
    command = (
        "nsenter",
        "-t",
        (served.folder / "network").read_text(),
        "-n",
        "openvpn",
        *address,
        *ours,
        *checks,
        *nothing,
    )
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed, end = "", time.monotonic() + PATIENCE
    try:
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if UP in line or "TLS Error" in line or time.monotonic() > end:
                break
    finally:
        process.kill()
        process.wait()
    assert UP in printed or "TLS Error" in printed or "AUTH_FAILED" in printed, printed
    return UP in printed, printed


def server_log(served: ServiceHost) -> str:
    return (served.folder / "openvpn.log").read_text()


def test_openvpn_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    anna, app = served.identity("client-anna@laptop"), served.identity("client-app@server")
    assert client(served, anna)[0]
    assert not client(served, stranger(served.folder))[0]
    assert not client(served, served.identity("server-mtls"))[0], "a server's certificate passes as a client"
    restarts = server_log(served).count(UP)
    said = invoke(served.home, "renew", "server-mtls")
    assert "deployed  deploy:server" in said.out, said.out + said.error
    assert server_log(served).count(UP) == restarts + 1
    assert client(served, anna)[0]
    old = served.folder / "anna.pem"
    old.write_bytes(anna.read_bytes())
    said = invoke(served.home, "revoke", "anna@laptop", "--reason", "key-compromise", "--yes")
    assert "OpenVPN answers only to packets of its own protocol" in said.out, said.out + said.error
    assert not client(served, old)[0]
    assert "certificate revoked" in server_log(served)
    assert client(served, app)[0]
    assert server_log(served).count(UP) == restarts + 1, "the new CRL needs no restart"
