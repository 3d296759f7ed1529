"""The data of the status page, as days and phrases that do not change if the run is repeated on the same day.

Dates of certificates come from the checks of this run; only what it could not use is read again.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from cryptography import x509

from pki.common.errors import PkiError
from pki.common.remedies import commands_folder
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory, Leaf
from pki.monitor.check_result import Finding, Level, worst_by_subject
from pki.monitor.checks import check_certificates
from pki.monitor.checks.check_context import CheckedProject
from pki.monitor.probes import ProbeResult
from pki.monitor.status_page import authorities_section, forecast_section, hosts_section
from pki.monitor.status_page.authorities_section import AuthorityRow, CrlRow
from pki.monitor.status_page.forecast_section import Forecast
from pki.monitor.status_page.hosts_section import HostRow
from pki.monitor.status_page.runs_section import without_changing_figures
from pki.monitor.unseen_services import unseen_services
from pki.project.authorities import Authorities
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """A leaf and its certificate; no dates if it has none. `state` is empty if there is nothing to report."""

    name: str
    group: str
    start: date | None
    end: date | None
    renewal: date | None
    state: str
    level: Level


@dataclass(frozen=True, slots=True)
class PageData:
    """All data of the page about the project; the report of the run is added to it."""

    organisation: str
    place: str
    is_sandbox: bool
    today: date
    findings: tuple[Finding, ...]
    certificates: tuple[CertificateRow, ...]
    authorities: tuple[AuthorityRow, ...]
    crls: tuple[CrlRow, ...]
    hosts: tuple[HostRow, ...]
    services: tuple[ProbeResult, ...]
    ahead: Forecast
    head: str
    awaits_ceremony: bool = False


def gather(checked: CheckedProject) -> PageData:
    """Collect the data of the page."""
    project = checked.project
    config = project.inventory
    certificates = list(_certificates(checked))
    return PageData(
        organisation=config.organisation,
        place=f"{socket.gethostname()}, in {commands_folder(project.store.home)}",
        is_sandbox=config.sandbox,
        today=project.now.date(),
        findings=tuple(without_changing_figures(finding, project.now.date()) for finding in checked.findings),
        certificates=tuple(
            sorted(
                (certificate for certificate, _ in certificates),
                key=lambda certificate: (certificate.end or date.max, certificate.name),
            )
        ),
        authorities=tuple(authorities_section.authorities(project, Counter(issuer for _, issuer in certificates))),
        crls=tuple(authorities_section.crls(checked)),
        hosts=tuple(hosts_section.hosts(checked)),
        services=(
            *(replace(result, seconds=0.0, at=None) for result in checked.probes),
            *unseen_services(checked.project.inventory),
        ),
        ahead=forecast_section.read_forecast(checked),
        head=checked.head,
        awaits_ceremony=project.roots.awaits_first_ceremony,
    )


# -- certificates -----------------------------------------------------------------------------------------------------


def _certificates(checked: CheckedProject) -> Iterator[tuple[CertificateRow, str]]:
    """Yield every leaf, with the generation that issued its certificate."""
    project, today, level = checked.project, checked.project.now.date(), worst_by_subject(checked.findings)
    states_of_stopped = dict.fromkeys(_stopped(project.revocations), "revoked, replacement stopped")
    issuers = {
        name: generation.name if (generation := project.authorities.issuing(name)) else ""
        for name in ("server", "client", "peer")
    }
    for name, leaf in checked.plan.leaves.items():
        artifact = ArtifactId("cert", name)
        dates = project.cache.checked_in_this_run(artifact)
        issuer, start, end = issuers[leaf.authority], None, None
        if dates:
            start, end = (datetime.fromtimestamp(at, UTC) for at in dates[:2])
        elif certificate := check_certificates.read_current_certificate(project.store, leaf):
            start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            issuer = _issuer(project.store, project.authorities, leaf.authority, certificate)
        renewal = leaf.renewal_start(end).date() if end else None
        present_issuer = issuers[leaf.authority]  # which renews it, and may not be the one that issued it
        renewal_state = "renewal is due" if renewal and renewal <= today else ""
        if present_issuer in project.signing_keys.cached_faults:
            renewal_state = f"renewal waits for {present_issuer}"
        yield (
            CertificateRow(
                name=name,
                group=_group(project.inventory, leaf),
                start=start.date() if start else None,
                end=end.date() if end else None,
                renewal=renewal,
                state=states_of_stopped.get(artifact) or _state(project.now, leaf, end, renewal_state),
                level=level.get(artifact, Level.OK),
            ),
            issuer if end else "",
        )


def _stopped(revocations: Revocations) -> Iterable[str]:
    """Return the names whose replacement is stopped; none if the ledger is damaged, which other checks report."""
    try:
        return revocations.replacement_stopped
    except PkiError:
        return ()


def _issuer(store: Store, authorities: Authorities, authority: str, certificate: x509.Certificate) -> str:
    generations = (authorities.generation(name) for name in store.generations(authority))
    return next(
        (
            generation.name
            for generation in generations
            if generation and generation.certificate.subject == certificate.issuer
        ),
        "",
    )


def _group(inventory: Inventory, leaf: Leaf) -> str:
    kind, _, name = leaf.declared.partition(".")
    if kind == "hosts" and (host := inventory.hosts.get(name)):
        return f"network {host.network}"
    if kind == "hosts":  # but no host of this name
        return "test identities"
    return "clients" if kind == "clients" else "requests in templates/"


def _state(now: datetime, leaf: Leaf, end: datetime | None, renewal_state: str) -> str:
    if end is None:
        return "missing"
    if end <= now:
        return "expired"
    return "revoked on purpose" if leaf.is_canary else renewal_state
