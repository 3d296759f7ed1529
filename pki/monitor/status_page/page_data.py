"""What the status page says, in plain values: days and words, nothing that a second run of the same day would change.

Dates of certificates are those that the run itself has just seen; only what it could not use is read again.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from cryptography import x509

from pki.common.errors import PkiError
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.monitor.check_result import Finding, Level, levels
from pki.monitor.checks import check_certificates
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.probes import Probed
from pki.monitor.status_page import authorities_section, forecast_section, hosts_section
from pki.monitor.status_page.authorities_section import Authority, Crl
from pki.monitor.status_page.forecast_section import Ahead
from pki.monitor.status_page.hosts_section import Host
from pki.monitor.status_page.runs_section import calm
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Certificate:
    """A leaf and what it has; no days while it has none. `state` is empty when nothing is to be said."""

    name: str
    group: str
    start: date | None
    end: date | None
    renewal: date | None
    state: str
    level: Level


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page says of the project itself; what the run did comes on top of it."""

    organisation: str
    place: str
    is_sandbox: bool
    today: date
    checks: tuple[Finding, ...]
    certificates: tuple[Certificate, ...]
    authorities: tuple[Authority, ...]
    crls: tuple[Crl, ...]
    hosts: tuple[Host, ...]
    services: tuple[Probed, ...]
    ahead: Ahead
    head: str


def gather(context: CheckContext) -> Facts:
    project = context.project
    said = project.inventory
    found = list(_certificates(context))
    return Facts(
        organisation=said.organisation,
        place=f"{socket.gethostname()}, in {project.store.home}",
        is_sandbox=said.sandbox,
        today=project.now.date(),
        checks=tuple(calm(check, project.now.date()) for check in context.checks),
        certificates=tuple(sorted((one for one, _ in found), key=lambda one: (one.end or date.max, one.name))),
        authorities=tuple(authorities_section.authorities(project, Counter(issuer for _, issuer in found))),
        crls=tuple(authorities_section.crls(context)),
        hosts=tuple(hosts_section.hosts(context)),
        services=tuple(replace(one, seconds=0.0, at=None) for one in context.probes),
        ahead=forecast_section.ahead(context),
        head=context.head,
    )


# -- certificates -----------------------------------------------------------------------------------------------------


def _certificates(context: CheckContext) -> Iterator[tuple[Certificate, str]]:
    """Every leaf, and the generation that issued what it has."""
    project, today, level = context.project, context.project.now.date(), levels(context.checks)
    withheld = dict.fromkeys(_withheld(project), "revoked, replacement withheld")
    issuers = {name: found.name if (found := project.issuing(name)) else "" for name in ("server", "client")}
    for name, leaf in context.plan.leaves.items():
        artifact = ArtifactId("cert", name)
        seen = project.cache.recalled(artifact)
        issuer, start, end = issuers[leaf.authority], None, None
        if seen:
            start, end = (datetime.fromtimestamp(at, UTC) for at in seen[:2])
        elif held := check_certificates.certificate(project, leaf):
            start, end = held.not_valid_before_utc, held.not_valid_after_utc
            issuer = _issuer(project, leaf.authority, held)
        renewal = (end - leaf.renew_before).date() if end else None
        yield (
            Certificate(
                name=name,
                group=_group(project, leaf),
                start=start.date() if start else None,
                end=end.date() if end else None,
                renewal=renewal,
                state=withheld.get(artifact) or _state(project, leaf, end, is_due=bool(renewal and renewal <= today)),
                level=level.get(artifact, Level.OK),
            ),
            issuer if end else "",
        )


def _withheld(project: Project) -> Iterable[str]:
    """Artifacts that nothing replaces; none, where the ledger that would know is damaged, as other looks tell."""
    try:
        return project.replacement_stopped
    except PkiError:
        return ()


def _issuer(project: Project, authority: str, held: x509.Certificate) -> str:
    found = (project.generation(name) for name in project.store.generations(authority))
    return next((one.name for one in found if one and one.certificate.subject == held.issuer), "")


def _group(project: Project, leaf: Leaf) -> str:
    kind, _, name = leaf.declared.partition(".")
    if kind == "hosts" and (host := project.inventory.hosts.get(name)):
        return f"network {host.network}"
    return "clients" if kind == "clients" else "test identities" if kind == "hosts" else "requests in templates/"


def _state(project: Project, leaf: Leaf, end: datetime | None, *, is_due: bool) -> str:
    if end is None:
        return "is not there"
    if end <= project.now:
        return "ended"
    return "revoked on purpose" if leaf.is_revoked else "renewal is due" if is_due else ""
