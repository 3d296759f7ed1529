"""Where each host's release goes: which way, to which services, with whose eyes it is proven there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

from pki.deploy.change import Destination
from pki.deploy.delivery import Delivery
from pki.deploy.preflight import Trust
from pki.deploy.proof import Endpoint, Eyes
from pki.deploy.ssh import Way, identity_in
from pki.house import House
from pki.leaves import PROBE, is_address, service_names
from pki.managed import CA_HOST
from pki.model import Host
from pki.store import AUTHORITIES
from pki.world import World


def deliveries(world: World) -> Iterator[Delivery]:
    """Every host that some managed file is for, and the machine that runs doit."""
    store = world.house.store
    for name, host in world.hosts.items():
        if host.deliver != "none" and world.library.for_host(name, host).files:
            yield Delivery(name, store, host.deliver, host.window or "", partial(destination, world, name, host))
    if world.library.for_host(CA_HOST, None).files or world.library.lost:
        yield Delivery(CA_HOST, store, world.house.inventory.deploy.ca, "", partial(destination, world, CA_HOST, None))


def sources(world: World, delivery: Delivery) -> tuple[str, ...]:
    """What must be there before a remote host can be proven: the roots, and the probe's identity."""
    if not delivery.is_remote:
        return ()
    probe = world.leaves.get(PROBE)
    files = [str(world.house.store.truth(probe))] if probe else []
    return (str(world.house.store.trust("roots.pem")), *files)


def destination(world: World, name: str, host: Host | None) -> Destination:
    house = world.house
    probe = world.leaves.get(PROBE)
    return Destination(
        way=way(house, name, host),
        endpoints=tuple(endpoints(world, host)) if host and host.proxy else (),
        trust=_trust(house),
        eyes=Eyes(house.store.trust("roots.pem"), house.store.truth(probe) if probe else None),
        as_root=os.geteuid() == 0,
        turn=house.store.turn(f"group-{host.group}") if host and host.group else nullcontext(),
    )


def way(house: House, name: str, host: Host | None) -> Way:
    """How a host is reached; `name` of the machine that runs doit, and a `local` host, need no ssh."""
    if host is None or host.deliver == "local":
        return Way(name)
    said, key = house.inventory.deploy, identity_in(house.store.ca)
    return Way(
        host=name,
        name=host.ssh.name or name,
        user=host.ssh.user or "",
        port=host.ssh.port or 0,
        address=str(host.address) if host.address and not host.ssh.name else "",
        config=str(house.store.home / said.ssh_config) if said.ssh_config else "",
        identity=str(key) if key.exists() else "",
    )


def endpoints(world: World, host: Host) -> Iterator[Endpoint]:
    """One name of every service; a wildcard is looked at under one of the names that it stands for."""
    said = world.house.inventory
    for service, rule in host.services.items():
        name = next((one for one in service_names(said, host, service) if not is_address(one)), None)
        if name:
            address = str(host.address) if host.address else name.replace("*", "probe")
            yield Endpoint(service, name, address, host.port, rule.access)


def _trust(house: House) -> Trust:
    generations = [house.generation(name) for authority in AUTHORITIES for name in house.store.generations(authority)]
    authorities = b"".join(one.pem for one in generations if one)
    roots = b"".join(one.pem for one in generations if one and one.authority == "root")
    return Trust(roots, authorities, partial(house.is_revoked, seen_before=False), partial(_has_ended, house))


def _has_ended(house: House, serial: int) -> bool:
    """Whether the ledger knows a certificate that ran out; asked only of one that left a CRL."""
    return any(one.not_after < house.now for one in house.ledger.certificates(serial=serial))
