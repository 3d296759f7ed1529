"""Decisions about hosts in the ledger, cached: pinned hosts, accepted roots, and permitted roots."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from pki.common.cache import Cache
from pki.ledger import last_seen
from pki.ledger.types import Decision, Pin
from pki.project import ledger_decisions
from pki.project.ledger_view import LedgerView


@dataclass
class HostDecisions:
    """The decisions about hosts in the ledger at the moment `now`. They outlast the loss of the ledger, in the cache."""

    ledger_view: LedgerView
    cache: Cache
    now: datetime

    @cached_property
    def accepted_roots(self) -> dict[str, list[str]]:
        """Return the SHA-256 of the roots that were accepted for hosts that trusted another one, by host."""
        return self._roots("accepted roots", ledger_decisions.accepted_roots)

    @cached_property
    def permitted_roots(self) -> dict[str, list[str]]:
        """Return the SHA-256 of the roots that a host accepts, for hosts that accept only listed ones, by host."""
        return self._roots("permitted roots", ledger_decisions.permitted_roots)

    def _roots(self, name: str, derive: Callable[[Iterable[Decision]], dict[str, list[str]]]) -> dict[str, list[str]]:
        view = self.ledger_view
        return view.cached(name, "", lambda: derive(view.ledger.decisions()) if view.has_ledger else {})

    @cached_property
    def pins(self) -> dict[str, Pin] | None:
        """Return the hosts that are pinned to an earlier release; None where ledger and cache are lost.

        Where the ledger cannot be trusted, the cache counts: a fault never unpins a host.
        """
        view = self.ledger_view
        if view.fault:
            pins = self.cache.recall("seen pins", last_seen.project_id(view.store.ca))
        else:
            pins = view.recall("pins", "")
            if pins is None:
                pins = ledger_decisions.pins(view.ledger.decisions()) if view.has_ledger else {}
        if pins is None:
            return None
        return {host: Pin(release, datetime.fromtimestamp(at, UTC)) for host, (release, at) in pins.items()}

    def pin(self, host: str) -> Pin | None:
        """Return the release to which a host is pinned, or None.

        If ledger and cache are lost, every host counts as pinned, to an unknown release (""): an old release stays then.
        """
        return Pin("", self.now) if self.pins is None else self.pins.get(host)

    def read_again(self) -> None:
        """Read the pinned hosts again at their next use: events were recovered, or a loss was accepted."""
        self.__dict__.pop("pins", None)

    def remember(self) -> None:
        """Cache the decisions, if this run opened the ledger; and always the pins, which outlast a lost ledger."""
        view = self.ledger_view
        if view.is_open:
            self._roots("accepted roots", ledger_decisions.accepted_roots)
            self._roots("permitted roots", ledger_decisions.permitted_roots)
        if not view.has_ledger:
            return
        pins = view.cached("pins", "", lambda: ledger_decisions.pins(view.ledger.decisions()))
        project = last_seen.project_id(view.store.ca)
        if self.cache.recall("seen pins", project) != pins:
            self.cache.remember("seen pins", project, [], pins)
