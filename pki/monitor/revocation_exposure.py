"""What a host's proxy cannot do: refuse revoked clients, and for how long at most; remove every forged header."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pki.common.durations import at_least
from pki.config.identifiers import ArtifactId
from pki.config.proxies import PROGRAMS, ProxyProgram
from pki.deploy.delivery import Delivery
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project


def phrases(project: Project, delivery: Delivery) -> list[str]:
    """What revoked clients can still do on a host; nothing where none of its services knows clients."""
    program, found = _program(project, delivery), list[str]()
    if program is None:
        return found
    if since := _not_reached_since(delivery):
        found.append(f"not up to date since {since}: {_unreached(project, program)}")
    if text := program.exposure(timedelta() if program.revokes else certificates(project)):
        found.append(text)
    return found


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """Hosts on which a revocation has no effect, where that lasts longer than an old CRL would, and those out of reach."""
    rules = project.inventory
    for delivery in plan.deliveries.values():
        program = _program(project, delivery)
        if program is None:
            continue
        name = ArtifactId("deploy", delivery.host)
        if not program.revokes and rules.profiles.client.lifetime > rules.authorities.client.crl.lifetime:
            remedy = "another proxy, or short ones: profiles.client: {lifetime: 7d, renew_before: 3d}; docs/proxies.md"
            yield Notice(name, program.exposure(certificates(project)), remedy)
        if since := _not_reached_since(delivery):
            text = f"not up to date since {since}: {_unreached(project, program)}"
            yield Notice(name, text, f"fix what keeps it, then: ./run doit {name}; or stop its services")


def forgeable(project: Project) -> Iterator[Notice]:
    """Hosts whose upstreams may get a header that they take for one of the proxy's."""
    for name, host in project.inventory.hosts.items():
        is_ours = bool(host.services) and host.scope == "config" and host.deliver != "none"
        if is_ours and host.proxy and not PROGRAMS[host.proxy].has_patterns:
            yield Notice(
                ArtifactId("host", name),
                f"{host.proxy} removes forged headers by exact names only: the upstreams of {', '.join(host.services)} "
                "may read X.Forwarded.Tls.Client.Cert.Info or X.Real.Ip, as a client sent it, for ours",
                "upstreams that read no other bytes as - or _; or aliasHeadersStrategy: docs/proxies.md",
            )


def certificates(project: Project) -> timedelta:
    """The time, at most, that a client certificate lives on which is valid now, in whole units."""
    kept = project.recall_from_ledger("clients end", "")
    if kept is None:
        valid = (one for one in project.unexpired() if one.profile == "client" and not one.revoked)
        kept = max((int(one.not_after.timestamp()) for one in valid), default=0)
        project.remember_from_ledger("clients end", "", kept)
    left = datetime.fromtimestamp(kept, UTC) - project.now
    return at_least(max(timedelta(), min(left, project.inventory.profiles.client.lifetime)))


def _unreached(project: Project, program: ProxyProgram) -> str:
    crls = project.inventory.authorities.client.crl.lifetime
    return program.exposure_unreached(crls, timedelta() if program.is_dated else certificates(project))


def _program(project: Project, delivery: Delivery) -> ProxyProgram | None:
    """The proxy of a host that lets clients in by their certificates."""
    host = project.inventory.hosts.get(delivery.host)
    if host is None or host.proxy is None or all(service.access != "mtls" for service in host.services.values()):
        return None
    return PROGRAMS[host.proxy]


def _not_reached_since(delivery: Delivery) -> str:
    return delivery.contact.failing_since[:10] if delivery.is_remote else ""
