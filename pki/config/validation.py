"""The rules between the fields of pki.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import time, timedelta
from ipaddress import IPv4Address

from pki.common.durations import backdate, is_usable, longest_pause
from pki.common.remedies import RESTORE
from pki.config import upstreams
from pki.config.error_messages import Fault, Place, did_you_mean, dotted
from pki.config.fields import SOURCED, SOURCED_NAMES, brief, is_like_dns_name, is_within, jump_of
from pki.config.leaf_certificates import (
    CANARY,
    PROBE,
    address_claims,
    host_claims,
    host_leaves,
    is_test_name,
    is_within_domains,
    name_fault,
    names_of,
    service_names,
)
from pki.config.limits import PRESIGNED_CRL_LIMIT, ROOT_LIMIT
from pki.config.model import Authorities, CrlRule, Host, Inventory, ServerRule
from pki.config.proxies import PROGRAMS

Line = Callable[[Place], str]

KEPT = {
    "ca": "the machine that runs doit",
    PROBE: "the certificate that proves deliveries",
    CANARY: "the certificate that proves revocation",
}
APPLE_LIMIT = timedelta(days=825)
LOST = ("build", "offline")  # folders that no backup holds
OWN = ("ca/root", "ca/server", "ca/client", "ca/clients", "ca/ceremonies")
LEAST_USE = 4  # a certificate is used for at least a quarter of its life, however its renewals are spread


def cross_faults(inventory: Inventory, cut: set[Place], line: Line = lambda _: "") -> Iterator[Fault]:
    """Faults between fields; what was `cut` out as faulty in itself is not blamed on its neighbours.

    `line` says where a second place stands that a fault names: ` (pki.yaml:26)`, or nothing where there is no file.
    """
    if not {"authorities", "profiles"} & {place[0] for place in cut}:
        yield from _lifetime_faults(inventory)
        yield from _root_faults(inventory.authorities)
        if not {"schedule"} & {place[0] for place in cut}:
            yield from _schedule_faults(inventory)
    if "authorities" not in {place[0] for place in cut}:
        yield from _adopted_faults(inventory)
    yield from _named_root_faults(inventory)
    yield from _place_faults(inventory, cut)
    if not {"domains", "permit_addresses"} & {place[0] for place in cut}:
        yield from _name_faults(inventory, line)
        yield from _client_faults(inventory, line)
        yield from _upstream_faults(inventory)
    yield from _leaf_faults(inventory)


def _lifetime_faults(inventory: Inventory) -> Iterator[Fault]:
    authorities = inventory.authorities
    for name in ("server", "client"):
        authority, profile = getattr(authorities, name), getattr(inventory.profiles, name)
        if authority.lifetime > authorities.root.lifetime:
            yield (
                ("authorities", name, "lifetime"),
                f"{brief(authority.lifetime)} outlives the root's {brief(authorities.root.lifetime)}",
            )
        if profile.lifetime >= authority.lifetime:
            yield (
                ("profiles", name, "lifetime"),
                f"{brief(profile.lifetime)} is not shorter than the {name} authority's {brief(authority.lifetime)}",
            )
        elif profile.lifetime + authority.overlap >= authority.lifetime:
            yield (
                ("authorities", name, "overlap"),
                _no_usable_life(authority.overlap, authority.lifetime, profile.lifetime),
            )
        if not is_usable(profile.lifetime, profile.renew_before):
            yield ("profiles", name, "renew_before"), _no_life(profile)
        elif (
            profile.renew_spread
            and profile.lifetime - profile.renew_before - profile.renew_spread < profile.lifetime / LEAST_USE
        ):
            yield ("profiles", name, "renew_spread"), _no_use(profile)
        if fault := _crl_fault(authority.crl):
            yield ("authorities", name, "crl", "refresh"), fault
    if inventory.profiles.server.lifetime > APPLE_LIMIT:
        yield ("profiles", "server", "lifetime"), "more than 825d, which Apple's systems refuse"


def _no_life(profile: ServerRule) -> str:
    """Why certificates are never used: they are renewed before their issue, or as soon as they are issued."""
    before, lifetime, begins = profile.renew_before, profile.lifetime, backdate(profile.lifetime)
    if before >= lifetime:
        return f"{brief(before)} is not shorter than the lifetime of {brief(lifetime)}"
    return (
        f"{brief(before)} leaves no time of use: a certificate of {brief(lifetime)} begins {brief(begins)} before its "
        f"issue; expected at most {brief(lifetime - 2 * begins)}"
    )


def _schedule_faults(inventory: Inventory) -> Iterator[Fault]:
    """Times of `schedule` between which something ends that only a run makes again."""
    between = longest_pause(inventory.schedule)
    if not between:
        return
    why = f"is shorter than {brief(between)}, the longest time between two runs (schedule)"
    for name in ("server", "client"):
        crl, before = getattr(inventory.authorities, name).crl, getattr(inventory.profiles, name).renew_before
        if before < between:
            yield ("profiles", name, "renew_before"), f"{brief(before)} {why}"
        if timedelta() < crl.lifetime - crl.refresh < between:
            left = f"a CRL of {brief(crl.lifetime)} lives on for {brief(crl.lifetime - crl.refresh)} after its refresh"
            yield ("authorities", name, "crl", "lifetime"), f"{left}, which {why}"


def _no_use(profile: ServerRule) -> str:
    """Why renewals that are spread this far come too early."""
    use = profile.lifetime / LEAST_USE
    most = (profile.lifetime - profile.renew_before - use) // timedelta(days=1)
    room = f"at most {most}d" if most > 0 else "no spread at all"
    return (
        f"{brief(profile.renew_spread)} before renew_before ({brief(profile.renew_before)}) renews some certificates in the "
        f"first quarter of their {brief(profile.lifetime)}; there is room for {room}"
    )


def _root_faults(authorities: Authorities) -> Iterator[Fault]:
    longest, root = max(authorities.server.lifetime, authorities.client.lifetime), authorities.root
    if longest <= root.lifetime <= longest + root.overlap:
        yield (
            ("authorities", "root", "overlap"),
            _no_usable_life(root.overlap, root.lifetime, longest),
        )
    if authorities.root.lifetime > ROOT_LIMIT:
        yield ("authorities", "root", "lifetime"), f"more than {brief(ROOT_LIMIT)}: no vault makes such a root"
    if authorities.root.crl.lifetime > PRESIGNED_CRL_LIMIT:
        yield (
            ("authorities", "root", "crl", "lifetime"),
            f"more than {brief(PRESIGNED_CRL_LIMIT)}: no vault signs such a CRL",
        )
    if authorities.root.crl.lifetime < timedelta(days=60):
        yield ("authorities", "root", "crl", "lifetime"), "expected at least 60d: pre-signed CRLs overlap by 30d"


def _named_root_faults(inventory: Inventory) -> Iterator[Fault]:
    for position, root in enumerate(inventory.roots):
        if root in inventory.roots[:position]:
            yield ("roots", position), f"duplicate of roots[{inventory.roots.index(root)}]"
    if inventory.roots and inventory.sandbox:
        yield ("sandbox",), f"true is refused: roots names the root of a real CA; if ca/ is lost: {RESTORE}"


def _adopted_faults(inventory: Inventory) -> Iterator[Fault]:
    adopted, seen = inventory.authorities.adopted, dict[str, str]()
    for name, rule in adopted.items():
        place = ("authorities", name, "adopt")
        if fault := _crl_fault(rule.crl):
            yield ("authorities", name, "crl", "refresh"), fault
        if any(f"{rule.adopt}/".startswith(f"{folder}/") for folder in LOST):
            yield place, f"{rule.adopt} may be lost, no backup holds it; expected a folder such as ca/{name}"
        if rule.adopt == "ca" or any(f"{rule.adopt}/".startswith(f"{folder}/") for folder in OWN):
            yield place, f"{rule.adopt} holds what this project made itself; expected a folder such as ca/{name}"
        if seen.setdefault(rule.adopt, name) != name:
            yield place, f"{rule.adopt} is {seen[rule.adopt]}'s already"
    for name in inventory.secrets.names:
        if not re.fullmatch(SOURCED, name) and name not in adopted:
            yield ("secrets", name), SOURCED_NAMES


def _crl_fault(rule: CrlRule) -> str:
    if rule.refresh < rule.lifetime:
        return ""
    return f"{brief(rule.refresh)} is not shorter than the CRL's lifetime of {brief(rule.lifetime)}"


def _no_usable_life(overlap: timedelta, lifetime: timedelta, longest: timedelta) -> str:
    """A CA is usable until its end, minus the longest life below it, minus the time to hold a ceremony in."""
    return f"{brief(overlap)} leaves no usable life: of {brief(lifetime)}, certificates below take {brief(longest)}"


def _place_faults(inventory: Inventory, cut: set[Place]) -> Iterator[Fault]:
    seen: dict[IPv4Address, str] = {}
    for name, host in inventory.hosts.items():
        if name in KEPT:
            yield ("hosts", name), f"this name is kept for {KEPT[name]}"
        yield from _window_faults(inventory, name)
        yield from _trust_faults(name, host)
        yield from _probe_faults(inventory, name)
        network = inventory.networks.get(host.network)
        if network is None and not {("networks",), ("networks", host.network)} & cut:
            hint = did_you_mean(host.network, list(inventory.networks))
            yield ("hosts", name, "network"), f"{host.network!r} is not one of the networks{hint}"
        if network and host.address is not None and host.address not in network:
            yield (
                ("hosts", name, "address"),
                f"{host.address} lies outside network {host.network} ({network})",
            )
        if host.address is not None and seen.setdefault(host.address, name) != name:
            yield ("hosts", name, "address"), f"{host.address} is host {seen[host.address]}'s already"
    if inventory.publish.host not in inventory.hosts and not {("hosts",), ("hosts", inventory.publish.host)} & cut:
        hint = did_you_mean(inventory.publish.host, list(inventory.hosts))
        yield ("publish", "host"), f"{inventory.publish.host!r} is not one of the hosts{hint}"
    yield from _publisher_faults(inventory)
    yield from _local_faults(inventory)


def _trust_faults(name: str, host: Host) -> Iterator[Fault]:
    if "none" in host.trust and len(host.trust) > 1:
        yield ("hosts", name, "trust"), "none stands alone: the root goes into no store of the host"
    if twice := [store for store in dict.fromkeys(host.trust) if host.trust.count(store) > 1]:
        yield ("hosts", name, "trust"), f"{twice[0]} stands twice"


def _probe_faults(inventory: Inventory, name: str) -> Iterator[Fault]:
    """What is to be looked at is there, and the way leads over another machine."""
    host, place = inventory.hosts[name], ("hosts", name, "probe")
    if host.probe not in {None, "none"} and not host.services:
        yield place, f"there is no service on {name} to look at; leave it out"
    jump = jump_of(host.jump)[1]
    if jump == name:
        yield place, f"{jump} is this host itself; write direct, or the name of another one"
    elif jump in inventory.hosts and inventory.hosts[jump].deliver == "local":
        yield place, f"{jump} is this machine; write direct"


def _publisher_faults(inventory: Inventory) -> Iterator[Fault]:
    publisher_name = inventory.publish.host
    publisher = inventory.hosts.get(publisher_name)
    if publisher and publisher.proxy and not PROGRAMS[publisher.proxy].serves_files:
        yield (
            ("publish", "host"),
            f"{publisher.proxy}, the proxy of {publisher_name}, serves no files; name a host with another proxy, or with none",
        )
    if publisher and publisher.proxy and publisher.port == inventory.publish.port:
        yield (
            ("hosts", publisher_name, "port"),
            f"{publisher.port} is the port of publish.url, where it answers plain http",
        )


def _local_faults(inventory: Inventory) -> Iterator[Fault]:
    """One machine takes one release: pki-apply knows it by one name."""
    here = ["deploy.ca"] if inventory.deploy.ca == "local" else []
    for name, host in inventory.hosts.items():
        if host.deliver == "local":
            if here:
                yield (
                    ("hosts", name, "deliver"),
                    f"this machine takes the files of {here[0]} already; one of them can be local",
                )
            here.append(f"hosts.{name}")


def _window_faults(inventory: Inventory, name: str) -> Iterator[Fault]:
    """A window that no run ever meets would keep its host as it is for ever."""
    window, times = inventory.hosts[name].window, inventory.schedule
    if window and not times:
        yield (
            ("hosts", name, "window"),
            "needs schedule: [06:00], the times at which cron runs doit, to be held against",
        )
    elif window and not any(is_within(time.fromisoformat(one), window) for one in times):
        yield ("hosts", name, "window"), f"{window} is never met: doit is run at {', '.join(times)} (schedule)"


def _name_faults(inventory: Inventory, line: Line) -> Iterator[Fault]:
    """Names outside the name constraints, twice at one host, or at two hosts of which neither may join the other."""
    names, at_host = names_of(inventory), dict[tuple[str, str], str]()
    names.take(address_claims(inventory))
    for claim in host_claims(inventory):
        here = dotted(claim.place)[:-2]
        if fault := name_fault(inventory, claim.name):
            yield claim.place, fault
        if before := at_host.get((claim.owner, claim.name)):
            yield claim.place, f"{claim.name} {'stands twice' if before == here else f'is taken already, by {before}'}"
        elif conflict := names.conflict(claim):
            held = conflict.held
            fault = f"{claim.name} is taken already, by {dotted(held.place)[:-2]}{line(held.place)}"
            yield claim.place, f"{fault}; where both hosts serve it: hosts.{claim.owner}.shared: true"
        at_host.setdefault((claim.owner, claim.name), here)
        names.take([claim])


def _upstream_faults(inventory: Inventory) -> Iterator[Fault]:
    for name, host in inventory.hosts.items():
        for service, one in host.services.items():
            for key, fault in upstreams.faults(one.upstream, host.proxy, service_names(inventory, host, service)):
                yield ("hosts", name, "services", service, "upstream", key), fault


def _client_faults(inventory: Inventory, line: Line) -> Iterator[Fault]:
    """CNs of clients that programs would take for something else: a DNS name, the probe, somebody else's address."""
    owners = dict[str, str]()
    for name, client in inventory.clients.items():
        owners.setdefault(client.email.lower(), name)
    for name, client in inventory.clients.items():
        if is_test_name(name):
            yield ("clients", name), f"this name is kept for {KEPT[name.partition('.')[0]]}"
        elif is_like_dns_name(name) and not is_within_domains(inventory, name):
            fault = f"{name} looks like a DNS name, which OpenSSL then holds against the name constraints"
            yield ("clients", name), f"{fault}; write {name}@device, or {name}.{inventory.domains[0]}"
        owner = owners.get(name, name)
        if owner != name and client.email.lower() != name:
            whose = f"clients.{owner}{line(('clients', owner))}"
            yield ("clients", name), f"{name} is the e-mail address of {whose}; write NAME@DEVICE"


def _leaf_faults(inventory: Inventory) -> Iterator[Fault]:
    seen = {f"client-{name}": f"clients.{name}" for name in inventory.clients}
    for name, host in inventory.hosts.items():
        found = [leaf.name for leaf in host_leaves(inventory, name, host)]
        for leaf in found:
            if leaf in seen:
                yield ("hosts", name), f"its certificate would be called {leaf}, as that of {seen[leaf]} is"
            seen[leaf] = f"hosts.{name}"
        if host.request and len(found) > 1:
            yield (
                ("hosts", name, "request"),
                "one request cannot serve two access levels; split the host in two",
            )
        if host.request and not found:
            yield ("hosts", name, "request"), "the host has no name to certify; give it names or services"
