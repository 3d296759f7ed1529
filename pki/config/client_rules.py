"""The rules between the keys of a client, and between clients: each name by which services recognise one belongs to it alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from pki.config.error_messages import Fault, Place
from pki.config.leaf_certificates import (
    RESERVED_HOSTS,
    client_claims,
    is_test_name,
    is_within_domains,
    name_fault,
    new_name_registry,
)
from pki.config.model import Inventory
from pki.config.name_fields import is_like_dns_name, trust_domain

PositionText = Callable[[Place], str]


def find_faults(
    inventory: Inventory, removed_places: Collection[Place], position_text: PositionText
) -> Iterator[Fault]:
    """Yield the faults of clients.

    `removed_places` are the places with a fault of their own; `position_text` is as in validation.py.
    """
    yield from _common_name_faults(inventory, position_text)
    yield from _alternative_name_faults(inventory, removed_places)
    yield from _duplicates(inventory, position_text)


def _common_name_faults(inventory: Inventory, position_text: PositionText) -> Iterator[Fault]:
    """Yield CNs of clients that programs misread: as a DNS name, the probe, or the address of another client."""
    owners = dict[str, str]()
    for name, client in inventory.clients.items():
        if client.email:
            owners.setdefault(client.email.lower(), name)
    for name, client in inventory.clients.items():
        if is_test_name(name):
            yield ("clients", name), f"this name is reserved for {RESERVED_HOSTS[name.partition('.')[0]]}"
        elif is_like_dns_name(name) and not is_within_domains(inventory, name):
            fault = f"{name} looks like a DNS name, which OpenSSL checks against the name constraints"
            yield ("clients", name), f"{fault}; write {name}@device, or {name}.{inventory.domains[0]}"
        owner = owners.get(name, name)
        if owner != name and (client.email or "").lower() != name:
            whose = f"clients.{owner}{position_text(('clients', owner))}"
            yield ("clients", name), f"{name} is the e-mail address of {whose}; write NAME@DEVICE"


def _alternative_name_faults(inventory: Inventory, removed_places: Collection[Place]) -> Iterator[Fault]:
    """Yield clients without alternative name, and names outside the domains or reserved for the test identities."""
    for name, client in inventory.clients.items():
        has_faulty_name = any(place[:2] == ("clients", name) for place in removed_places)
        if not (client.email or client.dns or client.uri or has_faulty_name):
            yield ("clients", name), "has no name: write email for a person, dns or uri for a machine"
        for position, dns in enumerate(client.dns):
            if dns in client.dns[:position]:
                yield ("clients", name, "dns"), f"{dns} is listed twice"
            elif is_test_name(dns):
                yield ("clients", name, "dns"), f"{dns} is reserved for the test identities"
            elif fault := name_fault(inventory, dns):
                yield ("clients", name, "dns"), fault
        if client.uri and not is_within_domains(inventory, trust_domain(client.uri)):
            domains = ", ".join(inventory.domains)
            yield (
                ("clients", name, "uri"),
                f"its trust domain {trust_domain(client.uri)} is outside domains ({domains})",
            )


def _duplicates(inventory: Inventory, position_text: PositionText) -> Iterator[Fault]:
    """Yield the names by which services could mistake one client for another."""
    names = new_name_registry(inventory)
    for claim in client_claims(inventory):
        if conflict := names.conflict(claim):
            earlier = conflict.earlier_claim
            fault = f"{claim.name} is already a name of {earlier.owner}{position_text(earlier.place)}: it identifies one client"
            yield claim.place, fault
        names.add([claim])
