"""The leaf certificates that follow from pki.yaml, their names, and the names that the project permits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

from pki.config.fields import Access, ProfileName
from pki.config.identifiers import ArtifactId
from pki.config.ip_addresses import IpNetwork, as_tuple, is_address, is_within
from pki.config.model import Client, Host, Inventory, Leaf, ServerRule
from pki.config.name_claims import Claim, IsUpstream, NameRegistry
from pki.config.name_fields import CLIENT_PREFIX, LABEL

PROBE, PROBE_LIFETIME = "doit-pki-probe", timedelta(days=14)
CANARY, CANARY_RENEW_BEFORE = "doit-pki-canary", timedelta(days=30)
RESERVED_HOSTS = {
    "ca": "the machine that runs doit",
    PROBE: "the certificate that verifies deliveries",
    CANARY: "the certificate that verifies revocation",
}
PRIVATE_BLOCKS: tuple[IpNetwork, ...] = (  # RFC 1918 and RFC 4193
    *(IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    IPv6Network("fc00::/7"),
)


def permitted_addresses(inventory: Inventory) -> tuple[IpNetwork, ...]:
    """Return the networks of which certificates may name addresses; by default the private blocks of `networks`."""
    if inventory.permit_addresses is not None:
        return inventory.permit_addresses
    blocks = {
        next((block for block in PRIVATE_BLOCKS if is_within(network, (block,))), network)
        for networks in inventory.networks.values()
        for network in as_tuple(networks)
    }
    return tuple(sorted(blocks, key=lambda block: (block.version, int(block.network_address), block.prefixlen)))


def service_names(inventory: Inventory, host: Host, service: str) -> tuple[str, ...]:
    """Return the DNS names and addresses of a service: its `names`, else `<service>.<first domain>`."""
    return host.services[service].names or (f"{service}.{inventory.domains[0]}",)


def listens_on_ipv6(inventory: Inventory, name: str) -> bool:
    """Return whether the proxy of a host listens on IPv6 too.

    nginx and HAProxy do not start with a listener on IPv6 where the kernel has none, so a host gets one only for an IPv6
    address in pki.yaml, or without any address in a network with an IPv6 block.
    """
    host, publish = inventory.hosts[name], inventory.publish
    addresses = host.addresses or inventory.blocks(host.network)
    return any(address.version == 6 for address in addresses) or (publish.host == name and ":" in publish.hostname)


def mtls_names(inventory: Inventory) -> list[str]:
    """Return the names of all services for browsers that require mutual TLS, without duplicates."""
    names = (
        name
        for host in inventory.hosts.values()
        for service, settings in host.services.items()
        if settings.access == "mtls" and settings.speaks == "https"
        for name in service_names(inventory, host, service)
    )
    return list(dict.fromkeys(names))


def leaf_name(host: str, access: Access) -> str:
    """Return the name of a host's leaf for one access level."""
    return f"{host}-mtls" if access == "mtls" else host


def renew_before(rule: ServerRule, name: str) -> timedelta:
    """Return how long before its expiry a leaf is renewed: `renew_before` plus a part of `renew_spread`.

    The part is a hash of the leaf's name: certificates that were issued on one day are renewed on different days, and
    the day of each is the same on every machine. The part is in whole days, or in minutes if the spread is below one day.
    """
    if not rule.renew_spread:
        return rule.renew_before
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])  # of 2**64
    step = timedelta(days=1) if rule.renew_spread >= timedelta(days=1) else timedelta(minutes=1)
    choices = rule.renew_spread // step + 1  # from no step at all to every step of the spread
    return rule.renew_before + (share * choices >> 64) * step


def host_leaves(inventory: Inventory, name: str, host: Host) -> Iterator[Leaf]:
    """Yield one leaf for each access level of a host, with the names of the services of that level, then its peer leaf."""
    by_access: dict[Access, list[str]] = {"tls": list(host.names), "mtls": []}
    for service_name, service in host.services.items():
        by_access[service.access] += service_names(inventory, host, service_name)
    for access, all_names in by_access.items():
        names = list(dict.fromkeys(all_names))  # services on different ports may share a name
        if names:
            leaf = _host_leaf(leaf_name(name, access), "server", host, inventory.profiles.server, names)
            yield replace(leaf, request=host.request, declared=f"hosts.{name}")
    if host.peer:
        leaf = _host_leaf(peer_leaf_name(name), "peer", host, inventory.profiles.peer, host.peer)
        yield replace(leaf, declared=f"hosts.{name}")


def peer_leaf_name(host: str) -> str:
    """Return the name of a host's leaf as a member of a cluster."""
    return f"{host}-peer"


def _host_leaf(name: str, profile: ProfileName, host: Host, rule: ServerRule, names: Sequence[str]) -> Leaf:
    """Return a leaf of a host for `names`."""
    addresses = tuple(filter(is_address, names))
    dns = tuple(dns_name for dns_name in names if dns_name not in addresses)
    return Leaf(
        name=name,
        profile=profile,
        common_name=dns[0] if dns and len(dns[0]) <= 64 else "",
        dns=dns,
        addresses=addresses,
        emails=(),
        key=host.key or rule.key,
        rekey=(host.rekey or rule.rekey) == "new",
        lifetime=rule.lifetime,
        renew_before=renew_before(rule, name),
        request=None,
        declared="hosts",
    )


def client_artifact(name: str) -> ArtifactId:
    """Return the identifier of a client's certificate in doit, messages and the ledger."""
    return ArtifactId("cert", f"{CLIENT_PREFIX}{name}")


def client_leaf(inventory: Inventory, name: str, client: Client, domain: str = "") -> Leaf:
    """Return the leaf of a client: the CN is its name, its other names are alternative names.

    Java treats the CN of a certificate without DNS names as a DNS name, unless it contains `@`, and checks it against
    the name constraints. So a client without DNS names whose CN is one label gets one that no host has, in `domain` or the
    first domain.
    """
    rule = inventory.profiles.client
    is_label = re.fullmatch(LABEL, name) is not None
    default_dns = (f"{name}.client.{domain or inventory.domains[0]}",) if is_label else ()
    return Leaf(
        name=f"{CLIENT_PREFIX}{name}",
        profile="client",
        common_name=name,
        dns=client.dns or default_dns,
        addresses=(),
        emails=(client.email,) if client.email else (),
        key=client.key or rule.key,
        rekey=(client.rekey or rule.rekey) == "new",
        lifetime=rule.lifetime,
        renew_before=renew_before(rule, f"{CLIENT_PREFIX}{name}"),
        request=client.request,
        declared=f"clients.{name}",
        uris=(client.uri,) if client.uri else (),
    )


def probe_leaf(inventory: Inventory) -> Leaf:
    """Return the leaf of the probe: deliveries verify with it that a proxy accepts valid clients."""
    rule = inventory.profiles.client
    return _test_leaf(inventory, PROBE, min(rule.lifetime, PROBE_LIFETIME), min(rule.renew_before, PROBE_LIFETIME / 2))


def canary_leaf(inventory: Inventory) -> Leaf:
    """Return the leaf of the canary: it is revoked when it is issued, and verifies that a proxy refuses revoked clients."""
    lifetime = inventory.profiles.client.lifetime
    return replace(_test_leaf(inventory, CANARY, lifetime, min(lifetime / 2, CANARY_RENEW_BEFORE)), is_canary=True)


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
    """Return whether a CN or DNS name is that of the probe or the canary."""
    return name.lower().partition(".")[0] in {PROBE, CANARY}


def name_fault(inventory: Inventory, name: str) -> str:
    """Return why a DNS name or an address must not be in a certificate of this project, or ""."""
    if is_address(name):
        blocks = permitted_addresses(inventory)
        if not any(ip_address(name) in block for block in blocks):
            return f"{name} is outside permit_addresses ({', '.join(map(str, blocks)) or 'none'})"
    elif not is_within_domains(inventory, name):
        return f"{name} is outside domains ({', '.join(inventory.domains)})"
    return ""


def is_within_domains(inventory: Inventory, name: str) -> bool:
    """Return whether a DNS name is one of `domains` or below one."""
    return any(name == domain or name.endswith(f".{domain}") for domain in inventory.domains)


# -- claims on names ----------------------------------------------------------------------------------------------


def host_claims(inventory: Inventory, only: Container[str] | None = None) -> Iterator[Claim]:
    """Yield the claims of hosts on names (on `only` these, if given); claims of shared hosts are last."""
    for host_name, host in sorted(inventory.hosts.items(), key=lambda item: item[1].shared):
        for name in host.names:
            if only is None or name in only:
                yield Claim("server", name, host_name, ("hosts", host_name, "names"), host.shared)
        for name in host.peer:
            if only is None or name in only:
                yield Claim("server", name, host_name, ("hosts", host_name, "peer"), host.shared)
        for service, settings in host.services.items():
            for name in service_names(inventory, host, service):
                if only is None or name in only:
                    place = ("hosts", host_name, "services", service)
                    upstream = settings.upstream
                    url, proves = (upstream.url, upstream.name or "") if upstream else ("", "")
                    yield Claim("server", name, host_name, place, host.shared, url, proves)


def client_claims(inventory: Inventory) -> Iterator[Claim]:
    """Yield the claims of clients on names by which services may recognise them: DNS names, SPIFFE IDs, and the CN.

    The CN counts because a service may compare it with DNS names. The e-mail address may be that of several clients.
    """
    for name, client in inventory.clients.items():
        owner = f"clients.{name}"
        yield Claim("client", name, owner, ("clients", name))
        for dns in client_leaf(inventory, name, client).dns:
            yield Claim("client", dns, owner, ("clients", name, "dns") if client.dns else ("clients", name))
        if client.uri:
            yield Claim("client", client.uri, owner, ("clients", name, "uri"))


def address_claims(inventory: Inventory) -> Iterator[Claim]:
    """Yield a claim of each host on its own addresses: certificates of other hosts must not name them."""
    for name, host in inventory.hosts.items():
        for address in host.addresses:
            yield Claim("server", str(address), name, ("hosts", name, "address"))


def new_name_registry(inventory: Inventory) -> NameRegistry:
    """Return an empty registry of names with the rules of this project."""
    return NameRegistry(_is_upstream(inventory))


def _is_upstream(inventory: Inventory) -> IsUpstream:
    def is_upstream(host_name: str, claim: Claim) -> bool:
        """Return whether the upstream of the claiming service is this host, by its address or one of its names."""
        host, upstream = inventory.hosts.get(host_name), urlsplit(claim.upstream).hostname
        if host is None or not upstream:
            return False
        own_names = {name for service in host.services for name in service_names(inventory, host, service)}
        own_names |= {*map(str, host.addresses), *host.names}
        own_names |= {host_name, *(f"{host_name}.{domain}" for domain in inventory.domains)}
        return upstream in own_names - {claim.name}  # two services with the name in dispute prove nothing

    return is_upstream
