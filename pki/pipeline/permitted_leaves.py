"""The hosts, clients and leaves that the name constraints of the issuing intermediates permit.

Names that they do not permit need a ceremony first, which creates an intermediate with wider constraints.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

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
from pki.project.authorities import Authorities, own_authorities
from pki.x509.name_constraints import PermittedNames


def permitted_hosts(
    config: Inventory, authorities: Authorities, actions_required: list[Notice]
) -> tuple[dict[str, Host], dict[str, Leaf]]:
    """Return the hosts with their permitted services and names only, and the leaves of these hosts and of clients.

    Adds to `actions_required` a ceremony for each host of which something was left out.
    """
    server = authorities.issuing("server")
    permitted = PermittedNames.of_ca(server.certificate) if server else None
    hosts: dict[str, Host] = {}
    leaves: dict[str, Leaf] = {}
    for name, host in config.hosts.items():
        hosts[name] = host
        if permitted and server:
            hosts[name] = _permitted_host(config, name, host, permitted, server.name, actions_required)
        leaves |= {leaf.name: leaf for leaf in host_leaves(config, name, hosts[name])}
    domain = domain_of_clients(config, authorities)
    for name, client in config.clients.items():
        leaf = client_leaf(config, name, client, domain)
        leaves[leaf.name] = leaf
    is_mutual_tls_tested = any(
        has_clients(host) and (host.deliver in {"ssh", "local"} or host.is_probed) for host in hosts.values()
    )
    if is_mutual_tls_tested:  # with two test identities: one that must be accepted, one that must be refused
        leaves |= {PROBE: probe_leaf(config), CANARY: canary_leaf(config)}
    return hosts, leaves


def _permitted_host(
    config: Inventory, name: str, host: Host, permitted: PermittedNames, ca: str, actions_required: list[Notice]
) -> Host:
    """Return the host without the services and names that the present intermediate does not permit."""
    forbidden_names = [host_name for host_name in host.names if not permitted.permits(host_name)]
    services = {}
    for service_name, service in host.services.items():
        forbidden_of_service = [
            host_name for host_name in service_names(config, host, service_name) if not permitted.permits(host_name)
        ]
        forbidden_names += forbidden_of_service
        if not forbidden_of_service:
            services[service_name] = service
    if not forbidden_names:
        return host
    actions_required.append(needs_ceremony(ArtifactId("host", name), forbidden_names, ca))
    names = tuple(host_name for host_name in host.names if permitted.permits(host_name))
    return host.model_copy(update={"services": services, "names": names})


def leaves_without_permitted_names(
    config: Inventory, hosts: Mapping[str, Host], leaves: Container[str]
) -> set[ArtifactId]:
    """Return the leaves that pki.yaml declares and that are not in `leaves`, because none of their names is permitted.

    `hosts` and `leaves` are those of `permitted_hosts`, which replaces a host that has a name that is not permitted.
    """
    declared_leaves = (
        leaf
        for name, host in config.hosts.items()
        if hosts[name] is not host
        for leaf in host_leaves(config, name, host)
    )
    return {leaf.artifact for leaf in declared_leaves if leaf.name not in leaves}


def has_unchecked_names(config: Inventory, leaf: Leaf) -> bool:
    """Return whether `permitted_hosts`, which checks hosts alone, did not check all names of a leaf.

    Those are the DNS names of clients, and common names that look like DNS names: OpenSSL applies name constraints to
    them too.
    """
    return bool(leaf.profile == "peer" or leaf.is_named_like_dns or (leaf.client and config.clients[leaf.client].dns))


def needs_ceremony(subject: str, forbidden: list[str], ca: str) -> Notice:
    """Return the notice that names need a ceremony, because the intermediate `ca` does not permit them."""
    verb, pronoun = ("wait", "them") if len(forbidden) > 1 else ("waits", "it")
    return Notice(
        subject,
        f"{', '.join(forbidden)} {verb}: {ca} does not permit {pronoun}; needs a ceremony",
        f"./run invoke ceremony.request, for a new generation of {GenerationName.parse(ca).authority} with wider name constraints",
    )


def needs_peer_authority(subject: str) -> Notice:
    """Return the notice that a peer certificate waits for the ceremony that creates the root of clusters."""
    text = "waits for the root of clusters, which a ceremony creates"
    return Notice(subject, text, "./run invoke ceremony.request")


def split_by_constraints(
    authorities: Authorities, leaves: Iterable[Leaf], actions_required: list[Notice]
) -> tuple[list[Leaf], list[Leaf]]:
    """Return the leaves whose names their issuing intermediates permit, and the leaves with forbidden names.

    Adds to `actions_required` a ceremony for each of the latter.
    """
    permitted_leaves, forbidden_leaves = list[Leaf](), list[Leaf]()
    for leaf in leaves:
        ca = authorities.issuing(leaf.authority)
        if leaf.profile == "peer" and leaf.authority not in own_authorities(authorities):
            actions_required.append(needs_peer_authority(leaf.artifact))
            forbidden_leaves.append(leaf)
            continue
        constrained_names = (*leaf.dns, *leaf.addresses, *([leaf.common_name] if leaf.is_named_like_dns else []))
        forbidden_names = [
            name for name in constrained_names if ca and not PermittedNames.of_ca(ca.certificate).permits(name.lower())
        ]
        if ca and forbidden_names:
            actions_required.append(needs_ceremony(leaf.artifact, list(dict.fromkeys(forbidden_names)), ca.name))
            forbidden_leaves.append(leaf)
        else:
            permitted_leaves.append(leaf)
    return permitted_leaves, forbidden_leaves


def domain_of_clients(inventory: Inventory, authorities: Authorities) -> str:
    """Return the first domain that the name constraints of the client authority permit; "" if they permit none."""
    issuer = authorities.issuing("client")
    permitted = PermittedNames.of_ca(issuer.certificate) if issuer else None
    return next((domain for domain in inventory.domains if permitted is None or permitted.permits(domain)), "")


def has_clients(host: Host | None) -> bool:
    """Return whether a host has a service with mutual TLS."""
    return host is not None and any(service.access == "mtls" for service in host.services.values())
