"""One network with IPv4 and IPv6: seven servers of one project, their clients, a revocation and a renewal.

nginx, PostgreSQL, Mosquitto, OpenLDAP, Dovecot with Postfix, and FreeRADIUS are on hosts in namespaces, with the
recipes as they are. Files are delivered over ssh, with a key that starts pki-apply and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pki.demo.namespace_machine import check_programs
from tests.integration import lan_clients
from tests.integration.lan_clients import RADIUS, TLS, Service, Visit
from tests.integration.lan_servers import Lan, addresses_of, lan

ANNA, BEN = "anna@laptop", "ben@desk"
RELOADED = {"nginx": "web", "postgresql": "db", "mosquitto": "broker", "dovecot": "mail", "postfix": "mail"}
RESTARTED = {"slapd": "directory", "freeradius": "radius"}  # these servers read files only when they start
ALL = (*TLS, RADIUS)
UNCHECKED = [service for service in TLS if service.place in {"mail/smtp", "mail/smtps"}]  # Postfix reads no CRL
Outcome = dict[tuple[str, str], bool]  # (service, address) → whether the client gets in


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    check_programs(*lan_clients.PROGRAMS, *RELOADED.keys() - {"postgresql"}, *RESTARTED, "sshd")
    with lan(tmp_path_factory.mktemp("together") / "home") as started:
        yield started


def copied(network: Lan, name: str) -> Path:
    """A copy of what a client has: after a revocation, the project has another one."""
    home = network.fleet.home
    return Path(shutil.copy(home / f"ca/clients/{name}/tls.pem", home / f"{name}.pem"))


def visits(network: Lan, name: str, identity: Path, services: Sequence[Service]) -> Iterator[tuple[Service, Visit]]:
    for service in services:
        for address in addresses_of(service.host):
            yield service, Visit(name, identity, network.roots, address)


def entries(network: Lan, name: str, identity: Path) -> Outcome:
    """Where a client gets in, with its own programs."""
    return {
        (service.place, visit.address): service.answers(network, visit)
        for service, visit in visits(network, name, identity, ALL)
    }


def everywhere(*, gets_in: bool, services: Sequence[Service] = ALL) -> Outcome:
    return {(service.place, address): gets_in for service in services for address in addresses_of(service.host)}


def processes(network: Lan, units: dict[str, str]) -> dict[str, int]:
    return {unit: network.process(host, unit) for unit, host in units.items()}


def check_all_is_verified(network: Lan) -> None:
    """There is nothing left to do, and status and receipts say so of each service but the one that cannot be asked."""
    assert " tasks up to date " in network.fleet.program("doit")
    rows = {line.split()[0]: line for line in network.fleet.program("invoke", "status").splitlines() if line.strip()}
    for service in TLS:
        row = rows[f"service:{service.place}"]
        assert row.split()[1] == "ok", row
        assert "serves what was deployed" in row
        verification = network.fleet.receipt(service.host)["verification"]
        assert verification[service.place.partition("/")[2]] == ["verified", "verified"]
    radius = rows[f"service:{RADIUS.place}"]
    assert radius.split()[1] == "unknown", radius
    assert "not verifiable from here: a RADIUS server answers only to access points" in radius


def check_revocation(network: Lan, printed: str) -> None:
    """What `revoke` printed of each service at each address."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for service, visit in visits(network, ANNA, Path(), TLS):
        place = f"{service.place} at {visit.address}"
        refusal = f"verified {place} refuses the revoked identity in a new connection"
        acceptance = f"failed {place} lets it in: it answers EHLO; accepts the certificate until"
        start = acceptance if service in UNCHECKED else refusal
        assert any(line.startswith(start) for line in lines), (start, printed)
    assert any(line.startswith(f"unknown {RADIUS.place} not verifiable from here") for line in lines), printed


def test_one_run_brings_all_servers_up_and_neither_a_revocation_nor_a_renewal_interrupts_the_others(
    network: Lan,
) -> None:
    fleet = network.fleet
    fleet.program("doit", "-n", "3")
    check_all_is_verified(network)
    network.create_roles(ANNA, BEN)
    anna, ben = copied(network, ANNA), copied(network, BEN)
    assert entries(network, ANNA, anna) == everywhere(gets_in=True)
    assert entries(network, BEN, ben) == everywhere(gets_in=True)
    reloaded, restarted = processes(network, RELOADED), processes(network, RESTARTED)
    at_broker = Visit(BEN, ben, network.roots, addresses_of("broker")[0])
    subscriber = lan_clients.subscriber(network, at_broker)

    printed = fleet.program("invoke", "revoke", ANNA, "--reason", "key-compromise", "--yes", status=frozenset({1}))
    check_revocation(network, printed)
    assert entries(network, ANNA, anna) == everywhere(gets_in=False) | everywhere(gets_in=True, services=UNCHECKED)
    assert entries(network, BEN, ben) == everywhere(gets_in=True)

    fleet.edit("pki.yaml", "{lifetime: 20d, renew_before: 5d}", "{lifetime: 60d, renew_before: 30d}")
    old = {service.host: fleet.issued(service.host, "-mtls") for service in ALL}
    renewal = fleet.program("doit", "-n", "3")
    for host, serial in old.items():
        assert f"renewed   cert:{host}-mtls" in renewal, renewal
        assert fleet.issued(host, "-mtls") != serial
    for service, visit in visits(network, BEN, ben, ALL):
        assert service.served(network, visit) == fleet.issued(service.host, "-mtls"), (service.place, visit.address)
    check_all_is_verified(network)
    assert entries(network, BEN, ben) == everywhere(gets_in=True)
    assert processes(network, RELOADED) == reloaded
    assert not processes(network, RESTARTED).items() & restarted.items()
    lan_clients.publish(network, at_broker, "after the renewal")
    subscriber.wait_for("after the renewal")
