"""Hosts for the status page: how each is reached, what it took and when, and what keeps it from being well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pki.common.cache import token
from pki.config.identifiers import ArtifactId
from pki.deploy.delivery import Delivery
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import Scene

STATES = {"deploy": "failing", "hold": "held", "proof": "unproven", "drift": "drifted", "service": "services not well"}
NOT_REACHED = "not reached: what it needs failed"


@dataclass(frozen=True, slots=True)
class Host:
    """One host. `looked` is the last contact with a remote one, `since` the first of those that failed since then.

    `proven` of its `services` are as they should be by the last look, or were proven by the last delivery. `state` says in words what health found.
    """

    name: str
    network: str
    way: str
    delivered: date | None
    looked: date | None
    since: date | None
    proven: int
    services: int
    state: str
    level: Level


def remembered(scene: Scene) -> Any:
    """What receipts and contacts say, if none was written since it was last read; None otherwise."""
    return scene.project.memo.recall("page hosts", _known(scene))


def hosts(scene: Scene) -> list[Host]:
    """Every host that is delivered to, those that are not well first."""
    said, found = scene.project.inventory, remembered(scene)
    if found is None:
        found = {name: _taken(one) for name, one in scene.plan.deliveries.items()}
        scene.project.memo.remember("page hosts", _known(scene), folders(scene), found)
    told, probed = _told(scene.checks), dict[str, list[bool]]()
    for probe in scene.probes:
        probed.setdefault(probe.host, []).append(probe.is_well)
    rows = []
    for name, one in scene.plan.deliveries.items():
        delivered, looked, since, proven, services = found[name]
        host, checks = said.hosts.get(name), told.get(name, {})
        if name in probed:
            proven, services = sum(probed[name]), len(probed[name])
        rows.append(
            Host(
                name=name,
                network=host.network if host else "this machine",
                way="ansible" if one.engine else one.way,
                delivered=_day(delivered),
                looked=_day(looked),
                since=_day(since),
                proven=proven,
                services=services,
                state=", ".join(checks) or (NOT_REACHED if ArtifactId("deploy", name) in scene.run.unmet else ""),
                level=max(checks.values(), default=Level.OK),
            )
        )
    return sorted(rows, key=lambda row: (-row.level, row.network, row.name))


def folders(scene: Scene) -> list[str]:
    """Whenever a receipt or a contact is written, its folder changes too."""
    place = scene.project.store
    return [str(path) for path in (place.receipt("x").parent, place.contact("x").parent) if path.is_dir()]


def _known(scene: Scene) -> str:
    return token([(one.host, one.way) for one in scene.plan.deliveries.values()], folders(scene))


def _taken(one: Delivery) -> list[Any]:
    """What receipt and contact say, as days; a host in a folder has no contacts."""
    receipt = one.receipt
    looked, since = (one.contact.looked_at, one.contact.failing_since) if one.is_remote else ("", "")
    proof = (receipt.proof or {}) if receipt else {}
    proven = sum(one.is_proven for one in proof.values())
    return [receipt.delivered_at[:10] if receipt else "", looked[:10], since[:10], proven, len(proof)]


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
