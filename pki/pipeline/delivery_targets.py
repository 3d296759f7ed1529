"""Where each release is deployed: the transport to each host, the services of the host, and how they are verified."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.declared_keys import declared_kind
from pki.authority.pkcs12_files import passphrase_of
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.errors import PkiError
from pki.config.fields import UNSEEN, parse_jump_host
from pki.config.identifiers import ALL_AUTHORITIES, ArtifactId
from pki.config.ip_addresses import is_address
from pki.config.leaf_certificates import CANARY, PROBE, leaf_name, service_names
from pki.config.model import Host, Inventory
from pki.config.service_protocols import port_of, program_of
from pki.deploy import host_clocks, preflight, release
from pki.deploy.ansible.fleet import Fleet
from pki.deploy.contact import Contact
from pki.deploy.delivery import Delivery
from pki.deploy.gnutls_trust import files_without_root
from pki.deploy.host_payloads import HostPayloads
from pki.deploy.host_records import HostRecords
from pki.deploy.managed_files import CA_HOST
from pki.deploy.new_root import NO_ROOT, NewRoot
from pki.deploy.preflight import Trust
from pki.deploy.process import Limits
from pki.deploy.ssh import Transport, deploy_key_path
from pki.deploy.tls_client import Endpoint, Prober, fingerprint
from pki.deploy.transaction import Destination, expectations
from pki.deploy.verification import Expectation
from pki.pipeline.desired_state import DesiredState
from pki.pipeline.hook_delivery import hook_of
from pki.project.authorities import Authorities
from pki.project.clock_guard import Evidence, HostClock
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical, pem_encoding
from pki.x509.keys import ML_DSA


class ReleaseChecks:
    """The facts that every release of a run is checked against.

    They are computed once, when the first release is deployed: a run without a deployment does not need them.
    """

    def __init__(self, desired: DesiredState) -> None:
        self.desired = desired

    @cached_property
    def trust(self) -> Trust:
        """Return the CA certificates and the rules for the pre-flight checks."""
        project = self.desired.project
        names = [name for authority in ALL_AUTHORITIES for name in project.store.generations(authority)]
        generations = [generation for generation in map(project.authorities.generation, names) if generation]
        return Trust(
            roots_pem=b"".join(generation.pem for generation in generations if generation.authority == "root"),
            authorities_pem=b"".join(generation.pem for generation in generations),
            is_revoked=self.desired.is_revoked_for_hosts,
            has_expired=self.has_expired,
            adopted_pem=b"".join(_adopted_certificates(project.inventory, project.authorities)),
            pkcs12_passphrase=partial(passphrase_of, project.passphrases),
        )

    def compute_trust(self) -> Trust:
        """Return `trust`. A `Delivery` gets this method, so that the property is computed only if it deploys."""
        return self.trust

    @cached_property
    def root(self) -> NewRoot:
        """Return the root that hosts must accept; NO_ROOT in a sandbox."""
        project = self.desired.project
        root = project.authorities.issuing("root")
        if root is None or root.is_sandbox:
            return NO_ROOT
        return NewRoot(
            root.name,
            root.fingerprint,
            frozenset(project.authorities.connected_roots(root)),
            lambda: project.host_decisions.accepted_roots,
        )

    def compute_root(self) -> NewRoot:
        """Return `root`. A `Delivery` gets this method, so that the property is computed only if it deploys."""
        return self.root

    @cached_property
    def _expired_serials(self) -> frozenset[int]:
        """Return the serial numbers of expired certificates in the ledger."""
        project = self.desired.project
        if not project.ledger_view.has_ledger:
            return frozenset()
        return project.ledger.expired_serials(expired_before=project.clock.trusted_now)

    def has_expired(self, serial: int) -> bool:
        """Return whether the ledger records a certificate as expired: only such a certificate may leave a CRL."""
        return serial in self._expired_serials

    @cached_property
    def prober(self) -> Prober:
        """Return the TLS client with the test identities."""
        store, leaves = self.desired.project.store, self.desired.leaves
        probe, canary = (store.bundle(leaves[name]) if name in leaves else None for name in (PROBE, CANARY))
        return Prober(store.trust("roots.pem"), probe, canary)

    @cached_property
    def canary_serial(self) -> int:
        """Return the serial number of the canary's certificate; 0 while the canary has none."""
        path = self.prober.canary
        certificate = canonical.read_first_certificate(filesystem.read(path) or b"") if path else None
        return certificate.serial_number if certificate is not None else 0


def _adopted_certificates(inventory: Inventory, authorities: Authorities) -> Iterator[bytes]:
    """Yield the certificates of adopted CAs, as PEM."""
    for name in inventory.authorities.adopted:
        with suppress(PkiError):  # a certificate that cannot be read is reported by the artifact of the CA's CRL
            if ca := authorities.generation(name):
                yield pem_encoding.pem_of([ca.certificate])


def deliveries(desired: DesiredState) -> Iterator[Delivery]:
    """Yield the delivery of each host that a managed file is for, and of the machine that runs doit."""
    store, config, checks = desired.project.store, desired.project.inventory.deploy, ReleaseChecks(desired)
    fleet: Fleet | None = None
    if config.engine == "ansible":
        fleet = Fleet(store, config.ansible, lambda: _due_members(desired, _host_deliveries(desired, checks, fleet)))
    yield from _host_deliveries(desired, checks, fleet)
    if desired.library.for_host(CA_HOST, None).files or CA_HOST in desired.blocked_hosts:
        destination = partial(destination_of, checks, CA_HOST, None)
        records = HostRecords(CA_HOST, store, config.ca)
        payloads = HostPayloads(records, partial(desired.project.host_decisions.pin, CA_HOST))
        yield Delivery(payloads, destination=destination, trust=checks.compute_trust, root=checks.compute_root)


def _host_deliveries(desired: DesiredState, checks: ReleaseChecks, fleet: Fleet | None) -> Iterator[Delivery]:
    """Yield the delivery of each host that a managed file is for."""
    project = desired.project
    for name, host in desired.hosts.items():
        has_files = bool(desired.library.for_host(name, host).files) or name in desired.blocked_hosts
        if host.deliver == "none" or not has_files:
            continue
        records = HostRecords(name, project.store, host.transport)
        yield Delivery(
            HostPayloads(records, partial(project.host_decisions.pin, name)),
            window=host.window or "",
            destination=partial(destination_of, checks, name, host),
            engine=fleet if host.deliver == "ssh" else None,  # the others need no ssh, and so no Ansible
            trust=checks.compute_trust,
            root=checks.compute_root,
            hook=hook_of(desired, name, host),
        )


def _due_members(desired: DesiredState, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
    """Yield the deliveries by Ansible that this run must make: they were requested, are due, and have their sources."""
    project = desired.project
    for delivery in deliveries:
        is_member = delivery.engine is not None
        is_requested = not project.run.requested.isdisjoint({"deploy", ArtifactId("deploy", delivery.host)})
        if not (is_member and is_requested):
            continue
        if delivery.stale(project.cache, project.now) and _is_ready(desired, delivery):
            yield delivery


def _is_ready(desired: DesiredState, delivery: Delivery) -> bool:
    """Return whether the release of a host is up to date and every source of its delivery exists."""
    folder = str(desired.project.store.release(delivery.host))
    try:
        reasons = release.stale_reasons(desired.release_spec(delivery.host), folder, desired.project.cache)
    except PkiError:
        return False  # the release's own task reports the error
    return not reasons and all(map(os.path.exists, sources(desired, delivery)))


def sources(desired: DesiredState, delivery: Delivery) -> tuple[str, ...]:
    """Return the files that the verification of a host needs: the roots and the test identities."""
    if not delivery.records.has_verified_services:
        return ()
    store = desired.project.store
    files = [str(store.bundle(desired.leaves[name])) for name in (PROBE, CANARY) if name in desired.leaves]
    return (str(store.trust("roots.pem")), *files)


def destination_of(checks: ReleaseChecks, name: str, host: Host | None) -> Destination:
    """Return the transport, the endpoints and the rules for the delivery to a host."""
    desired, project = checks.desired, checks.desired.project
    is_by_ansible = host is not None and host.deliver == "ssh" and project.inventory.deploy.engine == "ansible"
    group = (host.group or "") if host else ""
    return Destination(
        transport=transport_of(project.inventory, project.store, name, host),
        endpoints=tuple(endpoint for endpoint in endpoints(desired, host) if host.serves(endpoint.service))
        if host
        else (),
        trust=checks.trust,
        prober=checks.prober,
        as_root=os.geteuid() == 0,
        canary=checks.canary_serial,
        without_root=files_without_root(host, desired.library.for_host(name, host).files),
        group=group,
        transport_name="ansible" if is_by_ansible else "",
        group_lock=project.store.hold_lock(f"group-{group}.lock") if group else nullcontext(),
    )


def transport_of(inventory: Inventory, store: Store, name: str, host: Host | None) -> Transport:
    """Return the transport to a host; the machine that runs doit and a `local` host need no ssh."""
    if host is None or host.deliver == "local":
        return Transport(name, limits=_limits(inventory))
    config, key = inventory.deploy, deploy_key_path(store.ca)
    return Transport(
        host=name,
        name=host.ssh.name or name,
        user=host.ssh.user or "",
        port=host.ssh.port or 0,
        address=str(host.addresses[0]) if host.addresses and not host.ssh.name else "",
        config=str(store.home / config.ssh_config) if config.ssh_config else "",
        identity=str(key) if key.exists() else "",
        limits=_limits(inventory),
    )


def _limits(inventory: Inventory) -> Limits:
    """Return the time limits for a host; they are the same for all hosts."""
    config = inventory.deploy
    return Limits(config.progress_timeout.total_seconds(), config.host_timeout.total_seconds())


def endpoints(desired: DesiredState, host: Host) -> Iterator[Endpoint]:
    """Yield an endpoint for each address of each service, with one DNS name of the service.

    A service without a DNS name is left out. For a wildcard, the name is one that the wildcard matches.
    """
    config, key = desired.project.inventory, declared_kind(desired.project.store, host.request, host.key or "")
    for service, rule in host.services.items():
        if rule.speaks in UNSEEN:
            continue
        name = next(
            (service_name for service_name in service_names(config, host, service) if not is_address(service_name)),
            None,
        )
        if name:
            addresses = list(map(str, host.addresses)) or [name.replace("*", "probe")]
            program = program_of(host, service)
            for address in addresses:
                yield Endpoint(
                    service,
                    name,
                    address,
                    port_of(host, service),
                    rule.access,
                    revokes=program is not None and program.revokes,
                    is_one_of_several=len(addresses) > 1,
                    speaks=rule.speaks,
                    is_proxied=rule.is_proxied,
                    has_ml_dsa_key=key == ML_DSA,
                )


def clock_evidence(project: Project) -> Evidence:
    """Return what confirms the clock: the kernel or, if the kernel does not, the clocks of hosts, asked over ssh.

    Hosts that answered last time are asked first. Hosts that share an address and port count as one. This machine does
    not count.
    """
    evidence = project.clock.kernel_evidence()
    if evidence.is_enough:
        return evidence
    remote = {name: host for name, host in project.inventory.hosts.items() if host.deliver == "ssh"}
    is_failing = {name: bool(Contact.load(project.store.contact(name)).failing_since) for name in remote}
    transports = [
        transport_of(project.inventory, project.store, name, remote[name])
        for name in sorted(remote, key=is_failing.__getitem__)
    ]
    # Of several hosts with one address, the first is kept: it comes last, and so replaces the others.
    by_address = {
        (transport.address or transport.name, transport.port): transport for transport in reversed(transports)
    }
    distinct = [transport for transport in transports if transport in by_address.values()]
    for name, ahead in host_clocks.clock_offsets(distinct, lambda: project.clock.present):
        evidence = replace(evidence, hosts=(*evidence.hosts, HostClock(name, ahead)))
        if evidence.is_enough:
            break
    return evidence


# -- services as they are seen over the network -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The services of a host, the expected certificate of each service, and the transport to the host's jump host, or None.

    The probe connects also to a service without an expectation, but does not compare its certificate.
    """

    host: str
    endpoints: tuple[Endpoint, ...]
    expectations: Mapping[str, Expectation]
    prober: Prober
    jump: Transport | None


def probe_targets(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> Iterator[ProbeTarget]:
    """Yield every host whose services are probed, with the certificates that it should serve.

    For a host that the program deploys to, those are the certificates of its last deployment: a host without a
    deployment so far is left out. For every other host, those are the certificates that were issued for it.
    """
    checks = ReleaseChecks(desired)
    for name, host in desired.hosts.items():
        if host.is_probed:
            service_endpoints = tuple(
                endpoint for endpoint in endpoints(desired, host) if host.probes(endpoint.service)
            )
            delivery = deliveries.get(name)
            expectations_by_name = (
                _expected_by_release(checks, delivery, service_endpoints)
                if delivery
                else _expected_by_certificates(checks, name, service_endpoints)
            )
            if expectations_by_name is not None:
                yield ProbeTarget(
                    name,
                    service_endpoints,
                    expectations_by_name,
                    checks.prober,
                    jump_transport(desired.project.inventory, desired.project.store, host),
                )


def _expected_by_release(
    checks: ReleaseChecks, delivery: Delivery, service_endpoints: Sequence[Endpoint]
) -> dict[str, Expectation] | None:
    """Return what the services of a host serve according to the release that was deployed there.

    Returns None without a deployment, and an empty dict if this machine's copy of the release is damaged.
    """
    cache, store, name = checks.desired.project.cache, delivery.records.store, f"promises:{delivery.host}"
    key = digest_of([endpoint.name for endpoint in service_endpoints], checks.canary_serial)
    cached = cache.recall(name, key)
    if cached is None:
        if delivery.records.receipt is None:
            return None
        payload = delivery.payloads.delivered
        if payload is None:
            return {}
        try:
            by_name = expectations(payload, preflight.read_contents(payload), service_endpoints, checks.canary_serial)
        except (PkiError, ValueError):
            return {}
        cached = [
            [endpoint, expectation.fingerprint, expectation.answers, expectation.revokes]
            for endpoint, expectation in by_name.items()
        ]
        cache.remember(name, key, [str(store.receipt(delivery.host)), *payload.manifest_paths], cached)
    return {endpoint: Expectation(*expectation) for endpoint, *expectation in cached}


def _expected_by_certificates(
    checks: ReleaseChecks, name: str, service_endpoints: Sequence[Endpoint]
) -> dict[str, Expectation]:
    """Return what the services of a host without deployments should serve: the certificates issued for it."""
    desired, expected = checks.desired, dict[str, Expectation]()
    for endpoint in service_endpoints:
        leaf = desired.leaves.get(leaf_name(name, "mtls" if endpoint.access == "mtls" else "tls"))
        certificate = (
            canonical.read_first_certificate(filesystem.read(desired.project.store.bundle(leaf)) or b"")
            if leaf
            else None
        )
        if certificate is not None:  # a damaged one is reported by the check of certificates
            expected[endpoint.name] = Expectation(
                fingerprint(certificate.public_bytes(Encoding.DER)), revokes=bool(checks.canary_serial)
            )
    return expected


def jump_transport(inventory: Inventory, store: Store, host: Host) -> Transport | None:
    """Return the transport to the jump host of a host; None if the host has no jump host.

    A jump host that is not in pki.yaml is reached by its name, with what the configuration of ssh says about it.
    """
    if not host.jump:
        return None
    user, name, port = parse_jump_host(host.jump)
    host_config = inventory.hosts.get(name)
    jump = transport_of(inventory, store, name, host_config or Host(network=host.network))
    return replace(jump, user=user or jump.user, port=port or jump.port)
