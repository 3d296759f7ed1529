"""Names and leaves: what an inventory asks to be certified, and what it permits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import urlsplit

from pki.config.fields import ADDRESS, CLIENT_PREFIX, LABEL, Access
from pki.config.identifiers import ArtifactId
from pki.config.model import Client, Host, Inventory, Leaf, ServerRule
from pki.config.name_claims import Claim, IsUpstream, Names

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
    """Every name under which a service behind mutual TLS is reached, each once."""
    found = (
        name
        for host in inventory.hosts.values()
        for service, one in host.services.items()
        if one.access == "mtls"
        for name in service_names(inventory, host, service)
    )
    return list(dict.fromkeys(found))


def leaf_name(host: str, access: Access) -> str:
    return f"{host}-mtls" if access == "mtls" else host


def renew_before(rule: ServerRule, name: str) -> timedelta:
    """How long before its end a leaf is renewed: its name says how much of the profile's `renew_spread` it takes on top.

    So what was issued on one day is not renewed on one day, and each leaf has its own day on every machine and for good.
    In whole days, unless the spread is less than one: a run a day is what most projects have.
    """
    if not rule.renew_spread:
        return rule.renew_before
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    step = timedelta(days=1) if rule.renew_spread >= timedelta(days=1) else timedelta(minutes=1)
    return rule.renew_before + (share * (rule.renew_spread // step + 1) >> 64) * step


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


def client_artifact(name: str) -> ArtifactId:
    """The certificate of a client in pki.yaml, as doit, messages and the ledger name it."""
    return ArtifactId("cert", f"{CLIENT_PREFIX}{name}")


def client_leaf(inventory: Inventory, name: str, client: Client, domain: str = "") -> Leaf:
    """The certificate of a client: its CN is its name, its e-mail address an alternative one.

    Java takes the CN of a certificate without DNS names for one, unless it has an `@`, and holds it against the name
    constraints: one without dot and `@` gets a DNS name that no host has, below `domain`, or else the first domain.
    """
    rule = inventory.profiles.client
    is_label = re.fullmatch(LABEL, name) is not None
    return Leaf(
        name=f"{CLIENT_PREFIX}{name}",
        profile="client",
        common_name=name,
        dns=(f"{name}.client.{domain or inventory.domains[0]}",) if is_label else (),
        addresses=(),
        emails=(client.email,),
        key=client.key or rule.key,
        rekey=(client.rekey or rule.rekey) == "new",
        lifetime=rule.lifetime,
        renew_before=renew_before(rule, f"{CLIENT_PREFIX}{name}"),
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


def is_test_name(name: str) -> bool:
    """Whether a CN or DNS name is that of the probe or the canary, which proxies know by it."""
    return name.lower().partition(".")[0] in {PROBE, CANARY}


def is_address(name: str) -> bool:
    return name[-1:].isdigit() and ADDRESS.fullmatch(name) is not None


def name_fault(inventory: Inventory, name: str) -> str:
    """Why a DNS name or an IPv4 address may not be certified in this project; empty when it may."""
    if is_address(name):
        blocks = permitted_addresses(inventory)
        if not any(IPv4Address(name) in block for block in blocks):
            return f"{name} lies outside permit_addresses ({', '.join(map(str, blocks)) or 'none'})"
    elif not is_within_domains(inventory, name):
        return f"{name} lies outside domains ({', '.join(inventory.domains)})"
    return ""


def is_within_domains(inventory: Inventory, name: str) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in inventory.domains)


# -- who owns which name ----------------------------------------------------------------------------------------------


def host_claims(inventory: Inventory, only: Container[str] | None = None) -> Iterator[Claim]:
    """The names that hosts ask for (of `only` these), in the order in which they are given away: shared hosts last."""
    for host_name, host in sorted(inventory.hosts.items(), key=lambda item: item[1].shared):
        for name in host.names:
            if only is None or name in only:
                yield Claim("server", name, host_name, ("hosts", host_name, "names"), host.shared)
        for service, one in host.services.items():
            for name in service_names(inventory, host, service):
                if only is None or name in only:
                    place = ("hosts", host_name, "services", service)
                    yield Claim(
                        "server", name, host_name, place, host.shared, one.upstream.url, one.upstream.name or ""
                    )


def address_claims(inventory: Inventory) -> Iterator[Claim]:
    """The address of each host: whether its certificates name it or not, those of other hosts may not."""
    for name, host in inventory.hosts.items():
        if host.address is not None:
            yield Claim("server", str(host.address), name, ("hosts", name, "address"))


def names_of(inventory: Inventory) -> Names:
    """The names that nobody has taken yet, with the rules by which this inventory gives them away."""
    return Names(_is_upstream(inventory))


def _is_upstream(inventory: Inventory) -> IsUpstream:
    def is_upstream(host_name: str, claim: Claim) -> bool:
        """Whether a service passes requests on to this host: by its address, its name, or another name of its own."""
        host, upstream = inventory.hosts.get(host_name), urlsplit(claim.upstream).hostname
        if host is None or not upstream:
            return False
        own = {name for service in host.services for name in service_names(inventory, host, service)}
        own |= {str(host.address), host_name, *host.names, *(f"{host_name}.{one}" for one in inventory.domains)}
        return upstream in own - {claim.name, "None"}

    return is_upstream
