"""Hosts for certificates only that must be bootstrapped again before they accept every root of the project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pki.common.cache import digest_of
from pki.config.identifiers import GenerationName
from pki.deploy.delivery import Delivery
from pki.deploy.release_roots import is_trust_store_path
from pki.monitor.check_result import named
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.generations import Generation
from pki.project.project import Project

COMMAND = "./run invoke deploy.bootstrap"


class Asked(NamedTuple):
    """What the receipt of a host says: whether a root is in a trust store there, and which files the host held back."""

    host: str
    has_root: bool
    held: Sequence[str]


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """What is told of them: who was bootstrapped in an earlier form, lacks a root, or accepts one that has left."""
    asked = list(_asked(project, plan))
    permitted = project.permitted_roots if asked else {}
    if older := [one.host for one in asked if one.has_root and one.host not in permitted]:
        verb, their = ("was", "its") if len(older) == 1 else ("were", "their")
        text = f"{named(older)} {verb} not bootstrapped for certificates only by this version: who has {their} key can put any root there"
        yield Notice("hosts", text, _remedy(older))
    live = [root for name in project.live("root") if (root := project.generation(name))] if asked else []
    lacking: dict[tuple[GenerationName, ...], list[Asked]] = {}
    for one in asked:
        accepted = permitted.get(one.host)  # empty for a host that gets no roots
        missing = tuple(root.name for root in live if accepted and root.fingerprint not in accepted)
        if missing or (one.held and one.host in permitted):
            lacking.setdefault(missing, []).append(one)
    for missing, some in lacking.items():
        hosts, new = [one.host for one in some], [root for root in live if root.name in missing]
        yield Notice("hosts", _lack(some, missing, _when(project, new, live, permitted[hosts[0]])), _remedy(hosts))
    named_already = {one.host for some in lacking.values() for one in some}
    ours = {root.fingerprint for root in live}
    more = [
        one.host for one in asked if one.host not in named_already and not ours.issuperset(permitted.get(one.host, ()))
    ]
    if more:
        verb, their = ("accepts", "its") if len(more) == 1 else ("accept", "their")
        text = f"{named(more)} still {verb} a root that has left: who has {their} key can put it there again"
        yield Notice("hosts", text, _remedy(more))


def _lack(some: Sequence[Asked], missing: Sequence[str], when: str) -> str:
    hosts, files = [one.host for one in some], sorted({path for one in some for path in one.held})
    verb, pronoun = ("does", "it is") if len(hosts) == 1 else ("do", "they are")
    what = f"{named(hosts)} {verb} not accept {', '.join(missing) or named(files)} before {pronoun} bootstrapped again"
    return f"{what}; {when}; {named(files) if files else 'its file'} is held back until then, and all else is deployed"


def _when(project: Project, new: list[Generation], live: list[Generation], accepted: Sequence[str]) -> str:
    """By when the new roots must be accepted: as long as a cross-certificate leads to each from one that is accepted."""
    ends = []
    for root in new:
        until = project.connected_roots(root)
        ends.append(max((until[digest] for digest in accepted if digest in until), default=project.now))
    if not new:  # the roots are the same, and a file of theirs is held back
        ends = [root.certificate.not_valid_after_utc for root in live]
    by = min(ends, default=project.now)
    return f"needed by {by:%Y-%m-%d}" if by > project.now else "needed now"


def _remedy(hosts: list[str]) -> str:
    return f"{COMMAND} {hosts[0]}" if len(hosts) == 1 else f"{COMMAND} HOST, for each of them"


def _asked(project: Project, plan: Plan) -> Iterator[Asked]:
    """The hosts for certificates only to which roots are deployed; receipts are read only where one of them changed."""
    said = project.inventory.hosts
    remote = [one for one in plan.deliveries.values() if one.is_remote and one.host in said]
    exact = [one for one in remote if said[one.host].scope == "certificates"]
    if not exact:
        return
    known = digest_of([one.host for one in exact])
    found = project.cache.recall("hosts asked for roots", known)
    if found is None:
        found = [_read(one) for one in exact]
        project.cache.remember("hosts asked for roots", known, [str(project.store.receipt("x").parent)], found)
    yield from (Asked(*one) for one in found)


def _read(delivery: Delivery) -> list[object]:
    receipt = delivery.receipt
    if receipt is None:
        return [delivery.host, False, []]
    return [delivery.host, any(is_trust_store_path(file["path"]) for file in receipt.files), sorted(receipt.held)]
