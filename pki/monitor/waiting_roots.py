"""Hosts that were deployed under another root, and wait until the user accepts the new root for them."""

from __future__ import annotations

from collections.abc import Iterator

from pki.common.cache import Cache, digest_of
from pki.common.counts import join_names
from pki.common.notice import Notice
from pki.deploy.delivery import Delivery
from pki.deploy.new_root import COMMAND, NewRoot
from pki.pipeline.plan import Plan
from pki.project.layout import Store


def waiting_deliveries(store: Store, cache: Cache, plan: Plan) -> list[Delivery]:
    """Return the deliveries of the hosts that wait; receipts are read only after one of them changed."""
    remote = [delivery for delivery in plan.deliveries.values() if delivery.records.is_contacted]
    root = remote[0].root() if remote else None
    if root is None or not root.fingerprint:
        return []
    key = digest_of(root.fingerprint, sorted(root.connected), [delivery.host for delivery in remote])
    names = cache.cached(
        "hosts with another root",
        key,
        [str(store.receipt("x").parent)],
        lambda: [delivery.host for delivery in remote if delivery.root_acceptance.has_another_root],
    )
    return [plan.deliveries[name] for name in names if not root.is_accepted(name)]


def notes(store: Store, cache: Cache, plan: Plan) -> Iterator[Notice]:
    """Yield one notice for all hosts that wait."""
    if deliveries := waiting_deliveries(store, cache, plan):
        yield Notice("hosts", text([delivery.host for delivery in deliveries], deliveries[0].root()), COMMAND)


def text(hosts: list[str], root: NewRoot) -> str:
    """Return the sentence about the hosts that wait."""
    verb = "waits" if len(hosts) == 1 else "wait"
    return f"{join_names(hosts)} {verb}: deployed under another root, and {root.text} is not accepted there"
