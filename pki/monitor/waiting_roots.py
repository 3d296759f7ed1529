"""Hosts that wait until their new root is accepted for them."""

from __future__ import annotations

from collections.abc import Iterator

from pki.common.cache import digest_of
from pki.deploy.delivery import Delivery
from pki.deploy.new_root import COMMAND, NewRoot
from pki.monitor.check_result import named
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project


def waiting(project: Project, plan: Plan) -> list[Delivery]:
    """Return the hosts that are deployed under another root; no receipt is read where none of them changed."""
    remote = [one for one in plan.deliveries.values() if one.is_remote]
    root = remote[0].root() if remote else None
    if root is None or not root.fingerprint:
        return []
    known = digest_of(root.fingerprint, sorted(root.connected), [one.host for one in remote])
    names = project.cache.recall("hosts with another root", known)
    if names is None:
        names = [one.host for one in remote if one.has_another_root]
        project.cache.remember("hosts with another root", known, [str(project.store.receipt("x").parent)], names)
    return [plan.deliveries[name] for name in names if not root.is_accepted(name)]


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """What is told of them: one sentence for all."""
    if found := waiting(project, plan):
        yield Notice("hosts", text([one.host for one in found], found[0].root()), COMMAND)


def text(hosts: list[str], root: NewRoot) -> str:
    verb = "waits" if len(hosts) == 1 else "wait"
    return f"{named(hosts)} {verb}: deployed under another root, and {root.text} is not accepted there"
