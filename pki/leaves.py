"""Names and leaves: what an inventory asks to be certified, and what it permits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network

from pki.model import Client, Host, Inventory, Leaf, ServerRule
from pki.scalars import Access

PROBE, PROBE_LIFETIME = "doit-pki-probe", timedelta(days=14)
CANARY, CANARY_NOTICE = "doit-pki-canary", timedelta(days=30)
PRIVATE_BLOCKS = tuple(IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def permitted_addresses(inventory: Inventory) -> tuple[IPv4Network, ...]:
    """IPv4 networks in which IP names may lie; by default the private blocks around `networks`."""
    if inventory.permit_addresses is not None:
        return inventory.permit_addresses
    around = {
        next((block for block in PRIVATE_BLOCKS if network.subnet_of(block)), network)
        for network in inventory.networks.values()
    }
    return tuple(sorted(around))


def service_names(inventory: Inventory, host: Host, service: str) -> tuple[str, ...]:
    """The names under which a service is reached: its own `names`, else `<service>.<first domain>`."""
    return host.services[service].names or (f"{service}.{inventory.domains[0]}",)


def mtls_names(inventory: Inventory) -> list[str]:
    """Every name under which a service behind mutual TLS is reached."""
    return [
        name
        for host in inventory.hosts.values()
        for service, one in host.services.items()
        if one.access == "mtls"
        for name in service_names(inventory, host, service)
    ]


def leaf_name(host: str, access: Access) -> str:
    return f"{host}-mtls" if access == "mtls" else host


def renew_before(rule: ServerRule, name: str) -> timedelta:
    """How long before its end a leaf is renewed: its name says how much of the profile's `spread` it takes on top.

    So what was issued on one day is not renewed on one day, and each leaf has its own day on every machine and for good.
    In whole days, unless the spread is less than one: a run a day is what most houses have.
    """
    if not rule.spread:
        return rule.renew_before
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    step = timedelta(days=1) if rule.spread >= timedelta(days=1) else timedelta(minutes=1)
    return rule.renew_before + (share * (rule.spread // step + 1) >> 64) * step


def host_leaves(inventory: Inventory, name: str, host: Host) -> Iterator[Leaf]:
    """One leaf per access level of a host, with the names of its services there."""
    rule = inventory.profiles.server
    by_access: dict[Access, list[str]] = {"tls": list(host.names), "mtls": []}
    for service_name, service in host.services.items():
        by_access[service.access] += service_names(inventory, host, service_name)
    for access, names in by_access.items():
        if not names:
            continue
        called, addresses = leaf_name(name, access), tuple(n for n in names if is_address(n))
        dns = tuple(n for n in names if n not in addresses) if addresses else tuple(names)
        yield Leaf(
            name=called,
            profile="server",
            common_name=dns[0] if dns and len(dns[0]) <= 64 else "",
            dns=dns,
            addresses=addresses,
            emails=(),
            key=host.key or rule.key,
            rekey=(host.rekey or rule.rekey) == "new",
            lifetime=rule.lifetime,
            renew_before=renew_before(rule, called),
            request=host.request,
            declared=f"hosts.{name}",
        )


def client_leaf(inventory: Inventory, name: str, client: Client) -> Leaf:
    rule = inventory.profiles.client
    return Leaf(
        name=f"client-{name}",
        profile="client",
        common_name=name if "@" in name else client.email,  # Java reads a CN without @ as a DNS name
        dns=(),
        addresses=(),
        emails=(client.email,),
        key=client.key or rule.key,
        rekey=(client.rekey or rule.rekey) == "new",
        lifetime=rule.lifetime,
        renew_before=renew_before(rule, f"client-{name}"),
        request=client.request,
        declared=f"clients.{name}",
    )


def probe_leaf(inventory: Inventory) -> Leaf:
    """The client certificate with which deliveries prove that a proxy lets clients in."""
    rule = inventory.profiles.client
    return _test_leaf(inventory, PROBE, min(rule.lifetime, PROBE_LIFETIME), min(rule.renew_before, PROBE_LIFETIME / 2))


def canary_leaf(inventory: Inventory) -> Leaf:
    """The client certificate that is revoked from the first moment on, and proves that a proxy keeps such ones out."""
    lifetime = inventory.profiles.client.lifetime
    return replace(_test_leaf(inventory, CANARY, lifetime, min(lifetime / 2, CANARY_NOTICE)), is_revoked=True)


def _test_leaf(inventory: Inventory, name: str, lifetime: timedelta, renew_before: timedelta) -> Leaf:
    return Leaf(
        name=name,
        profile="client",
        common_name=name,
        dns=(f"{name}.{inventory.domains[0]}",),
        addresses=(),
        emails=(),
        key=inventory.profiles.client.key,
        rekey=True,
        lifetime=lifetime,
        renew_before=renew_before,
        request=None,
        declared="hosts",
    )


def is_address(name: str) -> bool:
    return name[-1].isdigit() and name.replace(".", "").isdigit()


def name_fault(inventory: Inventory, name: str) -> str:
    """Why a DNS name or an IPv4 address may not be certified in this house; empty when it may."""
    if is_address(name):
        blocks = permitted_addresses(inventory)
        if not any(IPv4Address(name) in block for block in blocks):
            return f"{name} lies outside permit_addresses ({', '.join(map(str, blocks)) or 'none'})"
    elif not any(name == domain or name.endswith(f".{domain}") for domain in inventory.domains):
        return f"{name} lies outside domains ({', '.join(inventory.domains)})"
    return ""
