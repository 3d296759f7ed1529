"""Mosquitto with files of a project: who is let in, and a revocation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.services import ServiceHost, check_revocation, check_who_is_let_in, service_host, started
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"broker": "mqtts"}, monkeypatch) as host:
        port, config, pid = host.ports["broker"], host.folder / "mosquitto.conf", host.folder / "pid"
        lines = {
            "user": "root",
            "pid_file": pid,
            "listener": f"{port} 127.0.0.1",
            "cafile": host.file("client-chain.pem"),
            "certfile": host.file("tls.pem"),
            "keyfile": host.file("tls.pem"),
            "crlfile": host.file("client-crl.pem"),
            "require_certificate": "true",
            "use_identity_as_username": "true",
        }
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        host.reloads_by(f"kill -HUP $(cat {pid})")
        with started(host.folder, "mosquitto", "-c", config, port=port):
            yield host


def test_mosquitto_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    check_who_is_let_in(served, invoke, "broker")
    check_revocation(served, invoke, "broker")
