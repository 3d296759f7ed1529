"""Hosts for the status page: how each is reached, what it took and when, and what keeps it from being well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pki.common.cache import digest_of
from pki.config.identifiers import ArtifactId
from pki.deploy.delivery import Delivery
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import CheckContext

STATES = {
    "deploy": "failing",
    "pinned": "pinned",
    "verification": "not_verified",
    "drift": "drifted",
    "service": "services not well",
}
NOT_REACHED = "not reached: what it needs failed"


@dataclass(frozen=True, slots=True)
class Host:
    """One host. `looked` is the last contact with a remote one, `since` the first of those that failed since then.

    `verified` of its `services` are as they should be by the last look, or were verified by the last delivery. `state` says in words what health found.
    """

    name: str
    network: str
    way: str
    delivered: date | None
    looked: date | None
    since: date | None
    verified: int
    services: int
    state: str
    level: Level


def remembered(context: CheckContext) -> Any:
    """What receipts and contacts say, if none was written since it was last read; None otherwise."""
    return context.project.cache.recall("page hosts", _known(context))


def hosts(context: CheckContext) -> list[Host]:
    """Every host that is delivered to, those that are not well first."""
    said, found = context.project.inventory, remembered(context)
    if found is None:
        found = {name: _taken(one) for name, one in context.plan.deliveries.items()}
        context.project.cache.remember("page hosts", _known(context), folders(context), found)
    told, probed = _told(context.checks), dict[str, list[bool]]()
    for probe in context.probes:
        probed.setdefault(probe.host, []).append(probe.is_well)
    rows = []
    for name, one in context.plan.deliveries.items():
        delivered, looked, since, verified, services = found[name]
        host, checks = said.hosts.get(name), told.get(name, {})
        if name in probed:
            verified, services = sum(probed[name]), len(probed[name])
        rows.append(
            Host(
                name=name,
                network=host.network if host else "this machine",
                way="ansible" if one.engine else one.transport,
                delivered=_day(delivered),
                looked=_day(looked),
                since=_day(since),
                verified=verified,
                services=services,
                state=", ".join(checks) or (NOT_REACHED if ArtifactId("deploy", name) in context.run.unmet else ""),
                level=max(checks.values(), default=Level.OK),
            )
        )
    return sorted(rows, key=lambda row: (-row.level, row.network, row.name))


def folders(context: CheckContext) -> list[str]:
    """Whenever a receipt or a contact is written, its folder changes too."""
    place = context.project.store
    return [str(path) for path in (place.receipt("x").parent, place.contact("x").parent) if path.is_dir()]


def _known(context: CheckContext) -> str:
    return digest_of([(one.host, one.transport) for one in context.plan.deliveries.values()], folders(context))


def _taken(one: Delivery) -> list[Any]:
    """What receipt and contact say, as days; a host in a folder has no contacts."""
    receipt = one.receipt
    looked, since = (one.contact.checked_at, one.contact.failing_since) if one.is_remote else ("", "")
    verification = (receipt.verification or {}) if receipt else {}
    verified = sum(one.is_verified for one in verification.values())
    return [receipt.delivered_at[:10] if receipt else "", looked[:10], since[:10], verified, len(verification)]


def _told(checks: Sequence[Finding]) -> Mapping[str, dict[str, Level]]:
    """What health says of each host, by words for it."""
    found: dict[str, dict[str, Level]] = {}
    for check in checks:
        kind, subject = check.about.kind, check.about.name
        if check.level and kind in STATES:
            states, state = found.setdefault(subject.partition("/")[0], {}), STATES[kind]
            states[state] = max(check.level, states.get(state, Level.OK))
    return found


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
