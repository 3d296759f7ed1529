"""What is to be known before a run and is no fault: what a service's name brings along, and services that nothing serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pki.config.identifiers import ArtifactId
from pki.config.model import Host
from pki.deploy.delivery import Delivery
from pki.pipeline.desired_state import Notice, World


def notices(world: World, deliveries: Mapping[str, Delivery]) -> Iterator[Notice]:
    for name, host in world.project.inventory.hosts.items():
        if host.services and host.proxy is None and host.probe is None:
            text = f"has no proxy: nothing that is delivered serves {', '.join(host.services)}"
            yield Notice(f"host:{name}", text, f"in pki.yaml, proxy: under hosts.{name}, or leave services out")
        if name in deliveries:
            yield from _first_deliveries(world, deliveries[name], host)


def _first_deliveries(world: World, delivery: Delivery, host: Host) -> Iterator[Notice]:
    """Files that come to a host for the name of one of its services alone, before they are delivered the first time."""
    files = world.library.for_host(delivery.host, host).files
    for service in host.services:
        brought = [file for file in files if f"service:{service}" in file.selectors]
        targets = [file.header("deploy-target") for file in brought]
        if not brought or (
            (receipt := delivery.receipt) and not {one["path"] for one in receipt.files}.isdisjoint(targets)
        ):
            continue
        commands = dict.fromkeys(file.header("deploy-reload") for file in brought if file.header("deploy-reload"))
        text = f"a service called {service} brings files along: {', '.join(targets)}"
        text += f"; then runs there: {'; '.join(commands)}" if commands else ""
        names = " and ".join(f"templates/{file.name}" for file in brought)
        remedy = f"if that is not wanted: another deploy-hosts than service:{service} in {names}"
        yield Notice(ArtifactId("deploy", delivery.host), text, remedy)
