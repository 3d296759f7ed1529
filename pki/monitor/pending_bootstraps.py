"""Hosts with `scope: certificates` that must be bootstrapped again before they accept every root of the project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from pki.common.cache import Cache, digest_of
from pki.common.counts import join_names
from pki.common.notice import Notice
from pki.config.identifiers import ROOTS, GenerationName
from pki.config.model import Inventory
from pki.deploy.host_records import HostRecords
from pki.deploy.release_roots import is_trust_store_path
from pki.pipeline.plan import Plan
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project

COMMAND = "./run invoke deploy.bootstrap"


class HostRoots(NamedTuple):
    """What the receipt of a host records: whether it has a trust store with a root, and which files it held back."""

    host: str
    has_root: bool
    held_back: Sequence[str]


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """Yield notices for hosts that were bootstrapped by an earlier version, lack a root, or accept one that was removed."""
    hosts_with_roots = list(_hosts_with_roots(project.inventory, project.store, project.cache, plan))
    permitted = project.host_decisions.permitted_roots if hosts_with_roots else {}
    if older := [
        host_roots.host for host_roots in hosts_with_roots if host_roots.has_root and host_roots.host not in permitted
    ]:
        verb, their = ("was", "its") if len(older) == 1 else ("were", "their")
        text = f"{join_names(older)} {verb} bootstrapped for certificates only by an earlier version: an attacker with {their} deployment key can install any root there"
        yield Notice("hosts", text, _remedy(older))
    live_roots = _live_roots(project.authorities) if hosts_with_roots else []
    hosts_by_missing: dict[tuple[GenerationName, ...], list[HostRoots]] = {}
    for host_roots in hosts_with_roots:
        accepted = permitted.get(host_roots.host)  # empty for a host that gets no roots
        missing_roots = missing_roots_of(frozenset(accepted or ()), live_roots)
        if missing_roots or (host_roots.held_back and host_roots.host in permitted):
            hosts_by_missing.setdefault(missing_roots, []).append(host_roots)
    for missing_roots, group in hosts_by_missing.items():
        hosts = [host_roots.host for host_roots in group]
        new_roots = [root for root in live_roots if root.name in missing_roots]
        when = _when(project.now, project.authorities, new_roots, live_roots, permitted[hosts[0]])
        yield Notice(
            "hosts",
            _lack_text(group, missing_roots, when),
            _remedy(hosts),
        )
    noted_hosts = {host_roots.host for group in hosts_by_missing.values() for host_roots in group}
    fingerprints = {root.fingerprint for root in live_roots}
    outdated_hosts = [
        host_roots.host
        for host_roots in hosts_with_roots
        if host_roots.host not in noted_hosts and not fingerprints.issuperset(permitted.get(host_roots.host, ()))
    ]
    if outdated_hosts:
        verb, their = ("accepts", "its") if len(outdated_hosts) == 1 else ("accept", "their")
        text = f"{join_names(outdated_hosts)} still {verb} a root that was removed: an attacker with {their} deployment key can install it again"
        yield Notice("hosts", text, _remedy(outdated_hosts))


def _live_roots(authorities: Authorities) -> list[Generation]:
    """Return the roots that are neither expired nor revoked: of servers and clients, and of clusters."""
    names = [name for root in ROOTS if authorities.generations(root) for name in authorities.live(root)]
    return [root for name in names if (root := authorities.generation(name))]


def missing_roots_of(accepted: frozenset[str], live_roots: Sequence[Generation]) -> tuple[GenerationName, ...]:
    """Return the live roots that a host does not accept; `accepted` are SHA-256.

    Not every host gets both the roots of servers and those of clusters: it lacks none of a kind of which it accepts none.
    """
    peer_roots = {root.fingerprint for root in live_roots if root.authority == "root-peer"}
    return tuple(
        root.name
        for root in live_roots
        if root.fingerprint not in accepted
        and (accepted & peer_roots if root.authority == "root-peer" else accepted - peer_roots)
    )


def _lack_text(group: Sequence[HostRoots], missing: Sequence[str], when: str) -> str:
    """Return the text for hosts that do not accept some roots yet."""
    hosts = [host_roots.host for host_roots in group]
    files = sorted({path for host_roots in group for path in host_roots.held_back})
    verb, pronoun = ("does", "it is") if len(hosts) == 1 else ("do", "they are")
    text = f"{join_names(hosts)} {verb} not accept {', '.join(missing) or join_names(files)} before {pronoun} bootstrapped again"
    return (
        f"{text}; {when}; {join_names(files) if files else 'its file'} is not deployed until then; everything else is"
    )


def _when(
    now: datetime,
    authorities: Authorities,
    new_roots: list[Generation],
    live_roots: list[Generation],
    accepted: Sequence[str],
) -> str:
    """Return by when the new roots must be accepted: until then, cross-certificates lead to them from an accepted root."""
    deadlines = []
    for root in new_roots:
        connected_until = authorities.connected_roots(root)
        deadlines.append(
            max((connected_until[digest] for digest in accepted if digest in connected_until), default=now)
        )
    if not new_roots:  # all roots are accepted; only a file is held back
        deadlines = [root.not_after for root in live_roots]
    by = min(deadlines, default=now)
    return f"needed by {by:%Y-%m-%d}" if by > now else "needed now"


def _remedy(hosts: list[str]) -> str:
    return f"{COMMAND} {hosts[0]}" if len(hosts) == 1 else f"{COMMAND} HOST, for each of them"


def _hosts_with_roots(inventory: Inventory, store: Store, cache: Cache, plan: Plan) -> Iterator[HostRoots]:
    """Yield hosts with `scope: certificates` that get roots; receipts are read only after one of them changed."""
    hosts = inventory.hosts
    remote = [
        delivery for delivery in plan.deliveries.values() if delivery.records.is_contacted and delivery.host in hosts
    ]
    limited = [delivery for delivery in remote if hosts[delivery.host].scope == "certificates"]
    if not limited:
        return
    key = digest_of([delivery.host for delivery in limited])
    folder = str(store.receipt("x").parent)
    rows = cache.cached(
        "hosts asked for roots", key, [folder], lambda: [_read(delivery.records) for delivery in limited]
    )
    yield from (HostRoots(*row) for row in rows)


def _read(records: HostRecords) -> HostRoots:
    """Return what the receipt of a host records about roots."""
    receipt = records.receipt
    if receipt is None:
        return HostRoots(records.host, False, [])
    return HostRoots(
        records.host, any(is_trust_store_path(file["path"]) for file in receipt.files), sorted(receipt.held_back)
    )
