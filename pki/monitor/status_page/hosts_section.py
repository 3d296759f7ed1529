"""Hosts on the status page: how each is reached, when it was deployed, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pki.common.cache import digest_of
from pki.common.timestamps import parse_day
from pki.config.identifiers import ArtifactId
from pki.deploy.host_records import HostRecords
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import CheckedProject

STATES = {
    "deploy": "failing",
    "pinned": "pinned",
    "verification": "not_verified",
    "drift": "drifted",
    "service": "services not well",
}
NOT_REACHED = "not deployed: an artifact that it needs failed"


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host. `contacted` is the last contact with a remote host, `since` is the first failed contact after that.

    `verified` is how many of its `services` were well in the last probe; without a probe, at the last deployment. `state`
    lists its findings.
    """

    name: str
    network: str
    way: str
    delivered: date | None
    contacted: date | None
    since: date | None
    verified: int
    services: int
    state: str
    level: Level


def cached(checked: CheckedProject) -> Any:
    """Return what receipts and contacts record, if none was written since they were last read; else None."""
    return checked.project.cache.recall("page hosts", _cache_key(checked))


def hosts(checked: CheckedProject) -> list[HostRow]:
    """Return every host with deployments, those with findings first."""
    config = checked.project.inventory
    records = checked.project.cache.cached(
        "page hosts",
        _cache_key(checked),
        folders(checked),
        lambda: {name: _record(delivery.records) for name, delivery in checked.plan.deliveries.items()},
    )
    states_by_host, probe_results = _states(checked.findings), dict[str, list[bool]]()
    for probe in checked.probes:
        probe_results.setdefault(probe.host, []).append(probe.is_well)
    rows = []
    for name, delivery in checked.plan.deliveries.items():
        delivered, contacted, since, verified, services = records[name]
        host, states = config.hosts.get(name), states_by_host.get(name, {})
        if name in probe_results:
            verified, services = sum(probe_results[name]), len(probe_results[name])
        rows.append(
            HostRow(
                name=name,
                network=host.network if host else "this machine",
                way="ansible" if delivery.engine else delivery.records.transport,
                delivered=parse_day(delivered),
                contacted=parse_day(contacted),
                since=parse_day(since),
                verified=verified,
                services=services,
                state=", ".join(states) or (NOT_REACHED if ArtifactId("deploy", name) in checked.run.blocked else ""),
                level=max(states.values(), default=Level.OK),
            )
        )
    return sorted(rows, key=lambda row: (-row.level, row.network, row.name))


def folders(checked: CheckedProject) -> list[str]:
    """Return the folders of receipts and contacts: a folder changes whenever a file in it is written."""
    store = checked.project.store
    return [str(path) for path in (store.receipt("x").parent, store.contact("x").parent) if path.is_dir()]


def _cache_key(checked: CheckedProject) -> str:
    """Return the cache key: the hosts with their transports, and the folders."""
    return digest_of(
        [(delivery.host, delivery.records.transport) for delivery in checked.plan.deliveries.values()], folders(checked)
    )


def _record(records: HostRecords) -> list[Any]:
    """Return what receipt and contact of a host record, as days; a host in a folder has no contact."""
    receipt = records.receipt
    contacted, since = (
        (records.contact.checked_at, records.contact.failing_since) if records.has_verified_services else ("", "")
    )
    verification = (receipt.verification or {}) if receipt else {}
    verified_count = sum(service.is_verified for service in verification.values())
    return [receipt.delivered_at[:10] if receipt else "", contacted[:10], since[:10], verified_count, len(verification)]


def _states(findings: Sequence[Finding]) -> Mapping[str, dict[str, Level]]:
    """Return the states of each host, with the level of each."""
    states_by_host: dict[str, dict[str, Level]] = {}
    for finding in findings:
        kind, subject = finding.about.kind, finding.about.name
        if finding.level and kind in STATES:
            states, state = states_by_host.setdefault(subject.partition("/")[0], {}), STATES[kind]
            states[state] = max(finding.level, states.get(state, Level.OK))
    return states_by_host
