"""Where each host's release goes: which way, to which services, with whose eyes it is verified there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

from cryptography.hazmat.primitives.serialization import Encoding

from pki.common import filesystem
from pki.common.cache import token
from pki.common.errors import PkiError
from pki.config.fields import parse_jump_host
from pki.config.identifiers import AUTHORITIES, ArtifactId
from pki.config.leaf_certificates import CANARY, PROBE, is_address, leaf_name, service_names
from pki.config.model import Host
from pki.config.proxies import PROGRAMS
from pki.deploy import host_clocks, preflight, release
from pki.deploy.ansible.fleet import Fleet
from pki.deploy.contact import Contact
from pki.deploy.delivery import Delivery
from pki.deploy.managed_files import CA_HOST
from pki.deploy.new_root import NO_ROOT, NewRoot
from pki.deploy.preflight import Trust
from pki.deploy.process import Limits
from pki.deploy.ssh import Transport, deploy_key_path
from pki.deploy.tls_client import Endpoint, Prober, fingerprint
from pki.deploy.transaction import Destination, expectations
from pki.deploy.verification import Expectation
from pki.pipeline.desired_state import World
from pki.project.clock_guard import Evidence, HostClock
from pki.project.project import Project
from pki.x509 import canonical, pem_encoding


class Outlook:
    """What every release of a run is judged by: made when the first one leaves, and once for all of them."""

    def __init__(self, world: World) -> None:
        self.world = world

    @cached_property
    def trust(self) -> Trust:
        project = self.world.project
        names = [name for authority in AUTHORITIES for name in project.store.generations(authority)]
        found = [one for one in map(project.generation, names) if one]
        roots = b"".join(one.pem for one in found if one.authority == "root")
        authorities = b"".join(one.pem for one in found)
        return Trust(
            roots,
            authorities,
            partial(_may_not_leave, self.world),
            self.has_ended,
            b"".join(_adopted(project)),
        )

    def judge(self) -> Trust:
        return self.trust

    @cached_property
    def root(self) -> NewRoot:
        project = self.world.project
        found = project.issuing("root")
        if found is None or found.is_sandbox:
            return NO_ROOT
        return NewRoot(
            found.name, found.fingerprint, frozenset(project.vouching(found)), lambda: project.accepted_roots
        )

    def new_root(self) -> NewRoot:
        return self.root

    @cached_property
    def _ended(self) -> frozenset[int]:
        project = self.world.project
        return project.ledger.ended_serials(project.clock.believed) if project.has_ledger else frozenset()

    def has_ended(self, serial: int) -> bool:
        """Whether the ledger knows a certificate that ran out; asked only of one that left a CRL."""
        return serial in self._ended

    @cached_property
    def prober(self) -> Prober:
        disk, leaves = self.world.project.store, self.world.leaves
        probe, canary = (disk.bundle(leaves[name]) if name in leaves else None for name in (PROBE, CANARY))
        return Prober(disk.trust("roots.pem"), probe, canary)

    @cached_property
    def canary(self) -> int:
        """The serial number of the canary; 0 while there is none."""
        path = self.prober.canary
        held = canonical.read_first_certificate(filesystem.read(path) or b"") if path else None
        return held.serial_number if held is not None else 0


def _adopted(project: Project) -> Iterator[bytes]:
    """Certificates of adopted authorities; one whose folder is not there says so where its CRL is made."""
    for name in project.inventory.authorities.adopted:
        with suppress(PkiError):
            if found := project.generation(name):
                yield pem_encoding.pem_of([found.certificate])


def deliveries(world: World) -> Iterator[Delivery]:
    """Every host that some managed file is for, and the machine that runs doit."""
    disk, said, outlook = world.project.store, world.project.inventory.deploy, Outlook(world)
    members: list[Delivery] = []
    fleet = Fleet(disk, said.ansible, partial(_waiting, world, members)) if said.engine == "ansible" else None
    for name, host in world.hosts.items():
        if host.deliver != "none" and (world.library.for_host(name, host).files or name in world.kept_back):
            engine = fleet if host.deliver == "ssh" else None
            to = partial(destination, outlook, name, host)
            pin = partial(world.project.pin, name)
            window, new_root = host.window or "", outlook.new_root
            delivery = Delivery(name, disk, host.deliver, window, to, engine, outlook.judge, pin, new_root)
            members += [delivery] if engine else []
            yield delivery
    if world.library.for_host(CA_HOST, None).files or CA_HOST in world.kept_back:
        to = partial(destination, outlook, CA_HOST, None)
        pin = partial(world.project.pin, CA_HOST)
        yield Delivery(CA_HOST, disk, said.ca, "", to, trust=outlook.judge, pinned=pin, root=outlook.new_root)


def _waiting(world: World, members: list[Delivery]) -> Iterator[Delivery]:
    """Those that this run was asked for, that are due, and for which all is there."""
    project = world.project
    for one in members:
        is_asked = not project.asked.isdisjoint({"deploy", ArtifactId("deploy", one.host)})
        if is_asked and one.stale(project.cache, project.now) and _is_ready(world, one):
            yield one


def _is_ready(world: World, delivery: Delivery) -> bool:
    try:
        is_due = release.stale_reasons(
            world.release_spec(delivery.host), str(world.project.store.release(delivery.host)), world.project.cache
        )
    except PkiError:
        return False
    return not is_due and all(map(os.path.exists, sources(world, delivery)))


def sources(world: World, delivery: Delivery) -> tuple[str, ...]:
    """What must be there before a remote host can be verified: the roots, and the test identities."""
    if not delivery.is_remote:
        return ()
    disk = world.project.store
    files = [str(disk.bundle(world.leaves[name])) for name in (PROBE, CANARY) if name in world.leaves]
    return (str(disk.trust("roots.pem")), *files)


def destination(outlook: Outlook, name: str, host: Host | None) -> Destination:
    world, project = outlook.world, outlook.world.project
    return Destination(
        transport=transport_of(project, name, host),
        endpoints=tuple(endpoints(world, host)) if host and host.proxy else (),
        trust=outlook.trust,
        prober=outlook.prober,
        as_root=os.geteuid() == 0,
        canary=outlook.canary,
        group=(host.group or "") if host else "",
        transport_name="ansible"
        if host and host.deliver == "ssh" and project.inventory.deploy.engine == "ansible"
        else "",
        group_lock=project.store.turn(f"group-{host.group}.lock") if host and host.group else nullcontext(),
    )


def transport_of(project: Project, name: str, host: Host | None) -> Transport:
    """How a host is reached; `name` of the machine that runs doit, and a `local` host, need no ssh."""
    if host is None or host.deliver == "local":
        return Transport(name, limits=_limits(project))
    said, key = project.inventory.deploy, deploy_key_path(project.store.ca)
    return Transport(
        host=name,
        name=host.ssh.name or name,
        user=host.ssh.user or "",
        port=host.ssh.port or 0,
        address=str(host.address) if host.address and not host.ssh.name else "",
        config=str(project.store.home / said.ssh_config) if said.ssh_config else "",
        identity=str(key) if key.exists() else "",
        limits=_limits(project),
    )


def _limits(project: Project) -> Limits:
    """How long a host may take: the same for each of them."""
    said = project.inventory.deploy
    return Limits(said.progress_timeout.total_seconds(), said.host_timeout.total_seconds())


def endpoints(world: World, host: Host) -> Iterator[Endpoint]:
    """One name of every service; a wildcard is looked at under one of the names that it stands for."""
    said = world.project.inventory
    for service, rule in host.services.items():
        name = next((one for one in service_names(said, host, service) if not is_address(one)), None)
        if name:
            address = str(host.address) if host.address else name.replace("*", "probe")
            revokes = host.proxy is not None and PROGRAMS[host.proxy].revokes
            yield Endpoint(service, name, address, host.port, rule.access, revokes)


def clock_evidence(project: Project) -> Evidence:
    """Ask the kernel and, where it settles nothing, hosts over ssh what time it is; those that answered last come first.

    A host that is reached in the same way as another one is the same witness, and this machine is none.
    """
    found = project.clock.kernel()
    if found.is_enough:
        return found
    remote = {name: host for name, host in project.inventory.hosts.items() if host.deliver == "ssh"}
    failing = {name: bool(Contact.load(project.store.contact(name)).failing_since) for name in remote}
    ways = [transport_of(project, name, remote[name]) for name in sorted(remote, key=failing.__getitem__)]
    distinct = {(one.address or one.name, one.port): one for one in reversed(ways)}
    for name, ahead in host_clocks.clock_offsets(
        [one for one in ways if one in distinct.values()], lambda: project.clock.present
    ):
        found = replace(found, hosts=(*found.hosts, HostClock(name, ahead)))
        if found.is_enough:
            break
    return found


# -- services as they are seen from outside ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A host's services, what each was promised to be by its name, and the way to a jump host before it, or None.

    Of a service without a promise nobody knows what it should serve.
    """

    host: str
    endpoints: tuple[Endpoint, ...]
    expectations: Mapping[str, Expectation]
    prober: Prober
    jump: Transport | None


def probe_targets(world: World, deliveries: Mapping[str, Delivery]) -> Iterator[ProbeTarget]:
    """Every host whose services are to be looked at, held against what it took; of one that took nothing there is none."""
    outlook = Outlook(world)
    for name, host in world.hosts.items():
        if host.is_probed:
            ends, delivery = tuple(endpoints(world, host)), deliveries.get(name)
            promised = _delivered(outlook, delivery, ends) if delivery else _issued(outlook, name, ends)
            if promised is not None:
                yield ProbeTarget(name, ends, promised, outlook.prober, jump_way(world.project, host))


def _delivered(outlook: Outlook, delivery: Delivery, ends: Sequence[Endpoint]) -> dict[str, Expectation] | None:
    """What the release promises that a host took, None where it took none; nothing where its copy here is damaged."""
    cache, disk, name = outlook.world.project.cache, delivery.store, f"promises:{delivery.host}"
    known = token([one.name for one in ends], outlook.canary)
    kept = cache.recall(name, known)
    if kept is None:
        if delivery.receipt is None:
            return None
        payload = delivery.delivered_payload
        if payload is None:
            return {}
        try:
            found = expectations(payload, preflight.read_release(payload), ends, outlook.canary)
        except (PkiError, ValueError):
            return {}
        kept = [[one, said.fingerprint, said.answers, said.revokes] for one, said in found.items()]
        cache.remember(name, known, [str(disk.receipt(delivery.host)), *payload.manifest_paths], kept)
    return {one: Expectation(*said) for one, *said in kept}


def _issued(outlook: Outlook, name: str, ends: Sequence[Endpoint]) -> dict[str, Expectation]:
    """What a host should serve that nothing is delivered to: the certificates that were issued for it."""
    world, found = outlook.world, dict[str, Expectation]()
    for one in ends:
        leaf = world.leaves.get(leaf_name(name, "mtls" if one.access == "mtls" else "tls"))
        held = (
            canonical.read_first_certificate(filesystem.read(world.project.store.bundle(leaf)) or b"") if leaf else None
        )
        if held is not None:  # one that is damaged is told by the look at certificates
            found[one.name] = Expectation(fingerprint(held.public_bytes(Encoding.DER)), revokes=bool(outlook.canary))
    return found


def jump_way(project: Project, host: Host) -> Transport | None:
    """How the jump host is reached that a host's services lie behind: by pki.yaml, else as ssh itself knows it."""
    if not host.jump:
        return None
    user, name, port = parse_jump_host(host.jump)
    known = project.inventory.hosts.get(name)
    found = transport_of(project, name, known or Host(network=host.network))
    return replace(found, user=user or found.user, port=port or found.port)


def _may_not_leave(world: World, serial: int) -> bool:
    """Whether a certificate is revoked, and not the one that a host keeps because its replacement is withheld."""
    return world.project.is_revoked(serial, seen_before=False) and serial not in world.withheld_serials
