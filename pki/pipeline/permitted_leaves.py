"""The hosts, clients and leaves that the issuing intermediates permit; what they do not permit waits for a ceremony."""

from __future__ import annotations

from pki.common.notice import Notice
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.leaf_certificates import (
    CANARY,
    PROBE,
    canary_leaf,
    client_leaf,
    host_leaves,
    probe_leaf,
    service_names,
)
from pki.config.model import Host, Inventory, Leaf
from pki.project.authorities import Authorities
from pki.x509.name_constraints import PermittedNames


def permitted_hosts(
    inventory: Inventory, authorities: Authorities, notices: list[Notice]
) -> tuple[dict[str, Host], dict[str, Leaf]]:
    """Return hosts without services and names that need a ceremony, and the leaves of hosts and clients."""
    config, server = inventory, authorities.issuing("server")
    permitted = PermittedNames.of_ca(server.certificate) if server else None
    hosts: dict[str, Host] = {}
    leaves: dict[str, Leaf] = {}
    for name, host in config.hosts.items():
        hosts[name] = host
        if permitted and server:
            hosts[name] = _permitted_host(config, name, host, permitted, server.name, notices)
        leaves |= {leaf.name: leaf for leaf in host_leaves(config, name, hosts[name])}
    domain = domain_of_clients(inventory, authorities)
    for name, client in config.clients.items():
        leaf = client_leaf(config, name, client, domain)
        leaves[leaf.name] = leaf
    if any((host.deliver in {"ssh", "local"} or host.is_probed) and has_clients(host) for host in hosts.values()):
        leaves |= {PROBE: probe_leaf(config), CANARY: canary_leaf(config)}
    return hosts, leaves


def _permitted_host(
    config: Inventory, name: str, host: Host, permitted: PermittedNames, ca: str, notices: list[Notice]
) -> Host:
    """Return the host without the services and names that the present intermediate does not permit."""
    refused = [host_name for host_name in host.names if not permitted.permits(host_name)]
    services = {}
    for service_name, service in host.services.items():
        lacking = [
            host_name for host_name in service_names(config, host, service_name) if not permitted.permits(host_name)
        ]
        refused += lacking
        if not lacking:
            services[service_name] = service
    if not refused:
        return host
    notices.append(needs_ceremony(ArtifactId("host", name), refused, ca))
    names = tuple(host_name for host_name in host.names if permitted.permits(host_name))
    return host.model_copy(update={"services": services, "names": names})


def needs_ceremony(subject: str, refused: list[str], ca: str) -> Notice:
    verb = "wait" if len(refused) > 1 else "waits"
    return Notice(
        subject,
        f"{', '.join(refused)} {verb}: {ca} does not permit {'them' if len(refused) > 1 else 'it'}; needs a ceremony",
        f"./run invoke ceremony.request, for a new generation of {GenerationName.parse(ca).authority} with wider name constraints",
    )


def domain_of_clients(inventory: Inventory, authorities: Authorities) -> str:
    """Return the first domain that the name constraints of the client authority permit; "" without any."""
    issuer = authorities.issuing("client")
    permitted = PermittedNames.of_ca(issuer.certificate) if issuer else None
    return next((domain for domain in inventory.domains if permitted is None or permitted.permits(domain)), "")


def has_clients(host: Host | None) -> bool:
    """Return whether a host has a service with mutual TLS."""
    return host is not None and any(service.access == "mtls" for service in host.services.values())
