"""Services of hosts with an IPv4 and an IPv6 address: both are verified and probed, and a fault names the address."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.deploy import verification
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint, Prober
from pki.deploy.tunnel import Tunnel
from pki.deploy.verification import Expectation, ServiceBefore, Verdict, Verification
from pki.monitor import probes
from pki.monitor.probes import ProbeFault
from pki.pipeline.delivery_targets import ProbeTarget, endpoints, transport_of
from pki.pipeline.desired_state import DesiredState
from pki.project.layout import Store
from tests.support.projects import START, Home
from tests.support.tls_servers import NAME, Pairs, pairs, serving

__all__ = ["pairs"]

DUAL = "address: [10.30.0.10, fd00:30::10]"


def answers(context: ssl.SSLContext, connection: socket.socket) -> None:
    """Answer 200 to requests for the name of the handshake, and 421 to others."""
    with context.wrap_socket(connection, server_side=True) as inside:
        status = "421 Misdirected" if verification.CROSSED.encode() in inside.recv(4096) else "200 OK"
        inside.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.fixture
def both(pairs: Pairs) -> Iterator[tuple[Endpoint, Endpoint]]:
    """A service that answers at its IPv4 address, and the endpoint of its IPv6 address, where nothing listens."""
    with serving(pairs, answers) as end:
        answering = replace(end, access="tls", is_one_of_several=True)
        yield answering, replace(answering, address="::1")


@pytest.fixture
def expectations(pairs: Pairs) -> dict[str, Expectation]:
    certificate = x509.load_pem_x509_certificates(pairs.server.read_bytes())[0]
    return {NAME: Expectation(certificate.fingerprint(hashes.SHA256()).hex())}


def verdict(
    both: tuple[Endpoint, Endpoint],
    expectations: dict[str, Expectation],
    pairs: Pairs,
    before: dict[Endpoint, ServiceBefore] | None,
) -> Verification:
    return verification.verify_services(both, expectations, before, Prober(pairs.root, pairs.client))["grafana"]


def test_an_address_that_stops_answering_refutes_the_change_and_is_named(
    both: tuple[Endpoint, Endpoint],
    expectations: dict[str, Expectation],
    pairs: Pairs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 0)
    found = verdict(both, expectations, pairs, dict.fromkeys(both, ServiceBefore(200)))
    assert found.verdict is Verdict.WRONG
    assert found.text.startswith("at ::1 does not answer: ")


def test_an_address_that_never_answered_leaves_the_service_unverified(
    both: tuple[Endpoint, Endpoint],
    expectations: dict[str, Expectation],
    pairs: Pairs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verification, "SETTLING", 0)
    found = verdict(both, expectations, pairs, {both[0]: ServiceBefore(200)})
    assert (found.verdict, found.text) == (
        Verdict.UNREACHED,
        "at ::1 not verified: cannot be reached from this machine",
    )
    assert verdict((both[0], both[0]), expectations, pairs, {both[0]: ServiceBefore(200)}) == verification.VERIFIED, (
        "both answer"
    )
    neither = verdict((both[1], replace(both[1], port=1)), expectations, pairs, {})
    assert neither == verification.NOT_VERIFIED, "what all addresses have in common names none of them"


def test_a_probe_names_the_address_that_does_not_answer(
    both: tuple[Endpoint, Endpoint], expectations: dict[str, Expectation], pairs: Pairs
) -> None:
    target = ProbeTarget("media", both, expectations, Prober(pairs.root, pairs.client), None)
    plan: Any = SimpleNamespace(probe_targets=lambda: iter([target]))
    [result] = probes.probe_services(SimpleNamespace(shown=str), START, plan)  # type: ignore[arg-type]
    assert (result.host, result.service, result.reached, result.is_well) == ("media", "grafana", True, False)
    assert (result.fault, result.fingerprint) == (ProbeFault.SILENT, expectations[NAME].fingerprint)
    assert result.wrong.startswith("at ::1 does not answer: ")
    assert result.not_after


def test_each_address_of_a_host_is_an_endpoint_and_ssh_takes_the_first(home: Home) -> None:
    home.edit("permit_addresses: [10.0.0.0/8]", "permit_addresses: [10.0.0.0/8, fd00::/8]")
    home.edit("av: 10.30.0.0/24", "av: [10.30.0.0/24, fd00:30::/64]")
    home.edit("address: 10.30.0.10", f"{DUAL}\n    deliver: ssh")
    desired = DesiredState.of(home.project())
    config = desired.project.inventory
    host = config.hosts["media"]
    assert [(one.service, one.address, one.is_one_of_several) for one in endpoints(desired, host)] == [
        ("jellyfin", "10.30.0.10", True),
        ("jellyfin", "fd00:30::10", True),
    ]
    assert [one.is_one_of_several for one in endpoints(desired, config.hosts["forge"])] == [False]
    transport = transport_of(config, Store(home.path), "media", host)
    assert transport.address == "10.30.0.10"
    home.edit(DUAL, "address: fd00:30::10")
    transport = transport_of(config := home.project().inventory, Store(home.path), "media", config.hosts["media"])
    assert "HostName=fd00:30::10" in transport.ssh_command()


def test_a_tunnel_forwards_to_an_address_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ssh takes the last colon but one for the end of the address otherwise."""
    asked: list[dict[str, str]] = []
    monkeypatch.setattr("pki.deploy.tunnel._configured_forwards", lambda _: "")

    def command(_: Transport, forwards: dict[str, str], _seconds: int) -> tuple[str, ...]:
        asked.append(forwards)
        return ("true",)

    monkeypatch.setattr(Transport, "tunnel_command", command)
    ends = [Endpoint("web", NAME, address, 443, "tls") for address in ("fd00:30::10", "10.30.0.10")]
    with Tunnel(Transport("jump", "jump"), ends):
        pass
    assert list(asked[0].values()) == ["[fd00:30::10]:443", "10.30.0.10:443"]


def test_a_changed_key_of_a_host_with_another_port_is_looked_up_in_brackets(tmp_path: Path) -> None:
    """sshd(8): known_hosts has `[ADDRESS]:PORT` for another port than 22, and the bare address for port 22."""
    complaint = "REMOTE HOST IDENTIFICATION HAS CHANGED"
    for port, known_as in ((2222, "'[fd00:30::10]:2222'"), (0, "fd00:30::10")):
        (config := tmp_path / "config").write_text(f"Host *\n  UserKnownHostsFile {tmp_path}/known\n")
        transport = Transport("media", "media", port=port, address="fd00:30::10", config=str(config))
        fault = transport.host_key_fault(complaint)
        assert fault
        assert f"-R {known_as} && ssh" in fault[1]
