"""Remarks before a run, which require no action: files that a service adds, services that nothing serves, rare keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pki.common.counts import join_names
from pki.common.notice import Notice
from pki.config.identifiers import ArtifactId
from pki.config.model import Host
from pki.deploy.delivery import Delivery
from pki.pipeline import unsupported_keys
from pki.pipeline.desired_state import DesiredState
from pki.x509.name_constraints import PermittedNames


def remarks(desired: DesiredState, deliveries: Mapping[str, Delivery]) -> Iterator[Notice]:
    """Yield the remarks about each host, about external authorities, and about the keys of certificates."""
    for name, host in desired.project.inventory.hosts.items():
        unserved_services = [service for service in host.services if not host.serves(service)]
        if unserved_services and host.probe is None:
            text = f"has no proxy: no managed file serves {', '.join(unserved_services)}"
            yield Notice(f"host:{name}", text, f"in pki.yaml, proxy: under hosts.{name}, or leave services out")
        if name in deliveries:
            yield from _added_files(desired, deliveries[name], host)
    yield from _shared_names(desired)
    yield from unsupported_keys.remarks(desired.project.store, desired.leaves.values())


def _added_files(desired: DesiredState, delivery: Delivery, host: Host) -> Iterator[Notice]:
    """Yield a remark about the files that a host gets only because of the name of a service, until they are deployed."""
    files = desired.library.for_host(delivery.host, host).files
    for service in host.services:
        service_files = [file for file in files if f"service:{service}" in file.selectors]
        targets = [file.header("deploy-target") for file in service_files]
        receipt = delivery.records.receipt
        deployed_paths = {row["path"] for row in receipt.files} if receipt else set[str]()
        if not service_files or not deployed_paths.isdisjoint(targets):
            continue
        commands = dict.fromkeys(file.header("deploy-reload") for file in service_files if file.header("deploy-reload"))
        text = f"a service called {service} adds files: {', '.join(targets)}"
        text += f"; then runs on the host: {'; '.join(commands)}" if commands else ""
        names = " and ".join(f"templates/{file.name}" for file in service_files)
        remedy = f"if you do not want that, replace service:{service} in the header deploy-hosts: {names}"
        yield Notice(ArtifactId("deploy", delivery.host), text, remedy)


def _shared_names(desired: DesiredState) -> Iterator[Notice]:
    """Yield a remark for each external authority that may certify our servers too, as long as the ceremony is due."""
    names = {name for leaf in desired.leaves.values() if leaf.profile == "server" for name in leaf.dns}
    for authority, rule in desired.project.inventory.authorities.externals.items():
        permitted = PermittedNames(tuple(f".{domain}" for domain in rule.domains), ())
        shared = sorted(filter(permitted.permits, names))
        if shared and desired.project.authorities.has_new_request(authority):
            text = f"whoever has its key can be {join_names(shared)}, which this project certifies"
            remedy = f"in pki.yaml, a domain of its own under authorities.{authority}.domains; it may stay for its own server"
            yield Notice(f"authority:{authority}", text, remedy)
