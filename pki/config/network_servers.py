"""Servers that a client's device must recognise by name: RADIUS servers of a wireless network, OpenVPN servers."""

from __future__ import annotations

from dataclasses import dataclass

from pki.common.errors import PkiError
from pki.config.ip_addresses import is_address
from pki.config.leaf_certificates import host_leaves, leaf_name, service_names
from pki.config.model import Inventory
from pki.config.service_protocols import port_of


@dataclass(frozen=True, slots=True)
class NetworkServer:
    """One server of pki.yaml that a device connects to.

    `place` is `HOST/SERVICE`. `dns` are the DNS names of the service without wildcards, `addresses` those of the service and
    of its host. `common_name` is the CN of its certificate, "" if the certificate has none.
    """

    place: str
    dns: tuple[str, ...]
    addresses: tuple[str, ...]
    port: int
    common_name: str


def find_server(inventory: Inventory, speaks: str, place: str = "") -> NetworkServer:
    """Return the server for a protocol: `place`, or the only one. Raises PkiError if there is none, or several.

    Only services with `access: mtls` count, because the others do not ask for the certificate of the client.
    """
    servers = {
        f"{host_name}/{service}": (host_name, service)
        for host_name, host in inventory.hosts.items()
        for service, settings in host.services.items()
        if settings.speaks == speaks and settings.access == "mtls"
    }
    if not servers:
        example = f"{speaks}: {{speaks: {speaks}, access: mtls, names: [{speaks}.{inventory.domains[0]}]}}"
        text = f"pki.yaml has no service with speaks: {speaks} and access: mtls"
        raise PkiError(text, f"declare the server: below hosts.NAME.services write {example}")
    choices = ", ".join(servers)
    if place and place not in servers:
        raise PkiError(
            f"{place}: pki.yaml has no such service with speaks: {speaks} and access: mtls",
            f"--server is one of: {choices}",
        )
    if not place and len(servers) > 1:
        raise PkiError(
            f"pki.yaml has several services with speaks: {speaks}: {choices}",
            f"choose one: --server {next(iter(servers))}",
        )
    return _server(inventory, *servers[place or next(iter(servers))])


def _server(inventory: Inventory, host_name: str, service: str) -> NetworkServer:
    host = inventory.hosts[host_name]
    names = service_names(inventory, host, service)
    certificate = leaf_name(host_name, host.services[service].access)
    leaf = next(leaf for leaf in host_leaves(inventory, host_name, host) if leaf.name == certificate)
    dns = tuple(name for name in names if not is_address(name) and not name.startswith("*."))
    if not dns:
        place = f"hosts.{host_name}.services.{service}.names"
        raise PkiError(
            f"{place}: has no DNS name, by which devices recognise the server",
            f"add one to it, such as {service}.{inventory.domains[0]}",
        )
    addresses = (*filter(is_address, names), *map(str, host.addresses))
    return NetworkServer(
        f"{host_name}/{service}", dns, tuple(dict.fromkeys(addresses)), port_of(host, service), leaf.common_name
    )
