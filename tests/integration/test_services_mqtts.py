"""Mosquitto with files of a project: who is let in, and a revocation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import run
from tests.integration.services import (
    ServiceHost,
    check_renewal,
    check_revocation,
    check_who_is_let_in,
    service_host,
    started,
)
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    on_loopback = {
        "listener {{ recipes.mosquitto.ports.mqtts }}": "listener {{ recipes.mosquitto.ports.mqtts }} 127.0.0.1"
    }
    owner = "root:mosquitto"
    with service_host({"broker": "mqtts"}, monkeypatch, owner, recipe="mosquitto", changes=on_loopback) as host:
        port, config, pid = host.ports["broker"], host.folder / "mosquitto.conf", host.folder / "run/pid"
        pid.parent.mkdir()
        run("chown", "mosquitto", pid.parent)
        included = host.folder / "conf.d"
        included.mkdir()
        (included / "doit-pki.conf").symlink_to(host.file("doit-pki.conf"))
        config.write_text(f"pid_file {pid}\ninclude_dir {included}\n")
        host.reloads_by(f"kill -HUP $(cat {pid})")
        with started(host.folder, "mosquitto", "-c", config, port=port):
            yield host


def test_mosquitto_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    check_who_is_let_in(served, invoke, "broker")
    check_renewal(served, invoke, "broker")
    check_revocation(served, invoke, "broker")
