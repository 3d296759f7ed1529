"""The rules between the keys of a service, and between the services of one host."""

from __future__ import annotations

from collections.abc import Iterator

from pki.config import recipes, upstreams
from pki.config.error_messages import Fault, Place
from pki.config.fields import UNSEEN
from pki.config.leaf_certificates import service_names
from pki.config.model import Host, Inventory, Service
from pki.config.service_protocols import PROTOCOLS, port_of


def find_faults(inventory: Inventory) -> Iterator[Fault]:
    """Yield the faults of services: keys that exclude each other, upstreams, ports, and names."""
    for name, host in inventory.hosts.items():
        for service, settings in host.services.items():
            place = ("hosts", name, "services", service)
            for key, fault in _key_faults(name, host, settings):
                yield (*place, key), fault
            if settings.upstream:
                names = service_names(inventory, host, service)
                for key, fault in upstreams.find_faults(settings.upstream, host.proxy, names):
                    yield (*place, "upstream", key), fault
        for service, fault in recipes.access_faults(host):
            yield ("hosts", name, "services", service, "access"), fault
        yield from _port_faults(inventory, name)
        yield from _name_faults(inventory, name)


def _key_faults(name: str, host: Host, service: Service) -> Iterator[tuple[str, str]]:
    """Yield the key and message of keys of one service that exclude each other, or that are missing."""
    speaks = service.speaks
    yield from recipes.key_faults(service)
    if service.upstream is not None and service.verifier:
        yield "verifier", "with upstream, the proxy checks clients: leave it out"
    if service.upstream is None:
        if not service.port and not PROTOCOLS[speaks].port:
            either = "upstream, the address that the proxy passes it on to" if speaks == "https" else ""
            own = f"port, such as port: {9090 if speaks == 'https' else 6379}, of the server that reads the certificate"
            yield "upstream" if either else "port", f"is missing: write {' or '.join(filter(None, (either, own)))}"
        if service.upgrade:
            yield "upgrade", "only a proxy uses it: write upstream too, or leave it out"
        return
    if speaks != "https":
        yield "upstream", f"no proxy passes {speaks} on: leave upstream out; the server reads the certificate itself"
    elif service.port:
        own = f"with upstream, the service is behind the proxy, at hosts.{name}.port ({host.port}): leave port out"
        yield "port", f"{own}; or leave upstream out if the server reads the certificate itself"


def _port_faults(inventory: Inventory, name: str) -> Iterator[Fault]:
    """Yield services on a port that another service of the host, its proxy, or publish.url uses."""
    host = inventory.hosts[name]
    owners = dict[tuple[bool, int], str]()
    if host.proxy or any(service.is_proxied for service in host.services.values()):
        owners[False, host.port] = f"the port of the proxy (hosts.{name}.port)"
    if inventory.publish.host == name:
        owners.setdefault((False, inventory.publish.port), "the port of publish.url")
    for service, settings in host.services.items():
        port = port_of(host, service)
        if settings.is_proxied or not port:
            continue
        owner = owners.setdefault((settings.speaks in UNSEEN, port), f"already used by hosts.{name}.services.{service}")
        if owner != f"already used by hosts.{name}.services.{service}":
            yield ("hosts", name, "services", service, "port"), f"{port} is {owner}; write another port"


def _name_faults(inventory: Inventory, name: str) -> Iterator[Fault]:
    """Yield services that have a name of another service of the host and another `access`.

    The host has one certificate for each access level: at such a name, it is not clear which one must be served.
    """
    host = inventory.hosts[name]
    owners = dict[str, str]()
    for service, settings in host.services.items():
        for service_name in service_names(inventory, host, service):
            owner = owners.setdefault(service_name, service)
            if _are_on_other_ports(host, owner, service) and host.services[owner].access != settings.access:
                other = f"{owner}, with access: {host.services[owner].access}"
                text = f"{service_name} is also a name of {other}: write the same access, or other names"
                yield ("hosts", name, "services", service, "access"), text


def share_name(inventory: Inventory, first: Place, second: Place) -> bool:
    """Return whether two claims of one host on a name are those of services on different ports, which may share it."""
    if not (len(first) == len(second) == 4 and first[2] == second[2] == "services"):
        return False
    return _are_on_other_ports(inventory.hosts[str(first[1])], str(first[3]), str(second[3]))


def _are_on_other_ports(host: Host, first: str, second: str) -> bool:
    return port_of(host, first) != port_of(host, second)
