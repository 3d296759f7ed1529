"""The ledger as a run sees it: its records, what is cached of them, and whether the ledger can be trusted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar

from pki.common.cache import Cache
from pki.common.errors import LedgerError, PkiError
from pki.config import identifiers
from pki.config.model import Inventory
from pki.ledger import last_seen
from pki.ledger.types import Head, Issued, Ledger, LedgerFault, Pin
from pki.project import ledger_decisions
from pki.project.clock_guard import ClockGuard
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.ledger_cache import LedgerCache
from pki.project.ledger_guard import Guard, fault_of


class Endable(Protocol):
    """A resource that `LedgerView.close` ends."""

    def end(self) -> None: ...


E = TypeVar("E", bound=Endable)


@dataclass
class LedgerView:
    """What a run reads from the ledger. `Project` implements the methods that need authorities and clock."""

    inventory: Inventory
    store: Store
    now: datetime
    cache: Cache
    _at_end: list[Endable] = field(default_factory=list, init=False)

    # -- implemented by `Project` --

    def generation(self, name: str) -> Generation | None:
        """Return a generation by name, None while it has no certificate."""
        raise NotImplementedError

    def issuing(self, authority: str) -> Generation | None:
        """Return the generation of an authority that signs."""
        raise NotImplementedError

    def check_roots(self) -> None:
        """Raise PkiError where a root is missing."""
        raise NotImplementedError

    @property
    def clock(self) -> ClockGuard:
        """Return the guard of the clock, which is asked before anything is signed or recorded."""
        raise NotImplementedError

    # -- the ledger itself --

    @cached_property
    def ledger(self) -> Ledger:
        """Return the opened ledger.

        Raises PkiError where a root is missing and opening it would create a new ledger.
        """
        if not (self.store.ca / last_seen.PROJECT_ID).exists():
            self.check_roots()  # opening the ledger might create the file
        from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - SQLAlchemy takes longer to import than a run with nothing to do

        return SqlLedger(self.inventory.ledger, self.store.ca, self.check_ledger, self.clock.check)

    def last_event(self) -> datetime | None:
        """Return the time of the newest event; None without a ledger or any event."""
        if not self.has_ledger:
            return None
        cached = self.recall_from_ledger("last event", "")
        if cached is None:
            cached = [int(event.at.timestamp()) for event in self.ledger.events(last=1)]
            self.remember_from_ledger("last event", "", cached)
        return datetime.fromtimestamp(cached[0], UTC) if cached else None

    def is_revoked(self, serial: int, *, unchanged: bool) -> bool:
        """Return whether the certificate is revoked.

        `unchanged` means that the certificate is as it was in the last run. If the ledger did not change since a
        successful run either, it is not read: that run acted on every revocation.
        """
        return not (unchanged and self.ledger_is_settled) and serial in self._revoked_serials

    @cached_property
    def _revoked_serials(self) -> frozenset[int]:
        """Return the serial numbers of all revoked certificates that have not expired."""
        cached = self.recall_from_ledger("revoked", "")
        if isinstance(cached, str):
            return frozenset(int(serial, 16) for serial in cached.split())
        return self.ledger.revoked_serials(self.now) if self.has_ledger else frozenset()

    def forget_revocations(self) -> None:
        """Forget what is cached of revocations, after this run revoked a certificate."""
        for name in ("ledger_is_settled", "_revoked_serials"):
            self.__dict__.pop(name, None)

    @cached_property
    def replacement_stopped(self) -> dict[str, datetime]:
        """Return the revoked artifacts that are not replaced until the user renews them, each with its time."""
        self.recall_from_ledger("plan", "")  # notes the state of the ledger before anything is planned
        cached = self.recall_from_ledger("replacement stopped", "")
        if cached is None:
            cached = ledger_decisions.replacement_stopped(self.ledger.decisions()) if self.has_ledger else {}
        return {artifact: datetime.fromtimestamp(at, UTC) for artifact, at in cached.items()}

    @cached_property
    def accepted_roots(self) -> dict[str, list[str]]:
        """Return the SHA-256 of the roots that were accepted for hosts that trusted another one, by host."""
        cached = self.recall_from_ledger("accepted roots", "")
        if cached is None:
            cached = ledger_decisions.accepted_roots(self.ledger.decisions()) if self.has_ledger else {}
            self.remember_from_ledger("accepted roots", "", cached)
        roots: dict[str, list[str]] = cached
        return roots

    @cached_property
    def permitted_roots(self) -> dict[str, list[str]]:
        """Return the SHA-256 of the roots that a host accepts, for hosts that accept only listed ones, by host."""
        cached = self.recall_from_ledger("permitted roots", "")
        if cached is None:
            cached = ledger_decisions.permitted_roots(self.ledger.decisions()) if self.has_ledger else {}
            self.remember_from_ledger("permitted roots", "", cached)
        roots: dict[str, list[str]] = cached
        return roots

    @property
    def has_ledger(self) -> bool:
        """Return whether a ledger of this project exists and can be read."""
        if self._is_sqlite and not (self.store.ca / "ledger.db").exists():
            return False
        return self._unreadable is None

    @property
    def _is_sqlite(self) -> bool:
        return self.inventory.ledger == "sqlite"

    @cached_property
    def _unreadable(self) -> LedgerFault | None:
        """Return why the ledger cannot be read: it is empty, another project's, damaged or out of reach; else None."""
        if self._is_sqlite and self.recall_from_ledger("readable", ""):
            return None
        try:
            self.ledger.head()
        except PkiError as error:
            return fault_of(error)
        return None

    @property
    def guard(self) -> Guard:
        """Return the guard that compares the ledger with everything that was seen of it."""
        signing = list[Generation]()
        for name in identifiers.AUTHORITIES:
            with suppress(PkiError):  # reported where the authority is read
                signing += [generation] if (generation := self.issuing(name)) else []
        heads = last_seen.observed_heads(self.store.ca)
        match self.cache.recall(
            "seen head", last_seen.project_id(self.store.ca)
        ):  # keyed by project: the folder may have contained another one
            case [int(seq), str(digest), int(revocations)]:
                heads.append(Head(seq, digest, "build/.seen.json", revocations))
        return Guard(self.store, self._is_sqlite, lambda: self.ledger, heads, signing, self.generation)

    @cached_property
    def ledger_fault(self) -> LedgerFault | None:
        """Return why nothing may be signed or recorded; None where the ledger can be trusted."""
        guard = self.guard
        if not guard.is_missing and self._unreadable:
            return self._unreadable
        if self.recall_from_ledger("guard", guard.cache_key):
            return None
        return guard.fault()

    def check_ledger(self) -> None:
        """Raise LedgerError where nothing may be signed or recorded."""
        if self.ledger_fault:
            raise LedgerError.of(self.ledger_fault)

    def forget_ledger_state(self) -> None:
        """Forget the result of the guard, after events were recovered or a loss was accepted."""
        for name in ("ledger_fault", "_unreadable", "pins"):
            self.__dict__.pop(name, None)
        self.forget_revocations()

    # -- hosts that are pinned --

    @cached_property
    def pins(self) -> dict[str, Pin] | None:
        """Return the hosts that are pinned to an earlier release; None where ledger and cache are lost.

        Where the ledger cannot be trusted, the cache counts: a fault never unpins a host.
        """
        if self.ledger_fault:
            cached = self.cache.recall("seen pins", last_seen.project_id(self.store.ca))
        elif (cached := self.recall_from_ledger("pins", "")) is None:
            cached = ledger_decisions.pins(self.ledger.decisions()) if self.has_ledger else {}
        if cached is None:
            return None
        return {host: Pin(release, datetime.fromtimestamp(at, UTC)) for host, (release, at) in cached.items()}

    def pin(self, host: str) -> Pin | None:
        """Return the release to which a host is pinned, if it is; one without a digest where that is not known."""
        return Pin("", self.now) if self.pins is None else self.pins.get(host)

    def unexpired(self) -> list[Issued]:
        """Return the records of certificates that have not expired."""
        return self.ledger.certificates(since=self.now) if self.has_ledger else []

    @cached_property
    def ledger_is_settled(self) -> bool:
        """Return whether the ledger is unchanged since a successful run, as this run found it at first."""
        return self.is_ledger_unchanged()

    def is_ledger_unchanged(self) -> bool:
        """Return whether the ledger is unchanged now: a parallel process may have added events."""
        return self.recall_from_ledger("settled", "") is not None

    def close(self, *, settled: bool) -> None:
        """Close the ledger and cache what the next run needs of it.

        `settled` means that everything ended well, so that the ledger requires no further action. Revocations,
        decisions and the last event are cached, because every process that deploys would have to open the ledger for
        them.
        """
        if settled and self.recall_from_ledger("settled", "") is None:
            self._cache.remember("settled", "", True, since="plan")
        if self.recall_from_ledger("revoked", "") is None and "ledger" in self.__dict__:
            # stored as one string: cheap to load when unused
            serials = " ".join(f"{serial:x}" for serial in sorted(self.ledger.revoked_serials(self.now)))
            self.remember_from_ledger("revoked", "", serials)
        for name, derive in (
            ("replacement stopped", ledger_decisions.replacement_stopped),
            ("accepted roots", ledger_decisions.accepted_roots),
            ("permitted roots", ledger_decisions.permitted_roots),
        ):
            if self.recall_from_ledger(name, "") is None and "ledger" in self.__dict__:
                self.remember_from_ledger(name, "", derive(self.ledger.decisions()))
        if self.has_ledger:
            self._remember_ledger_state()
        if "ledger" in self.__dict__:
            self.last_event()
        self.close_ledger()
        for resource in self._at_end:
            resource.end()

    def close_ledger(self) -> None:
        """Close the ledger if it was opened, without caching anything. SQLite then removes its extra files."""
        if "ledger" in self.__dict__:
            self.ledger.close()

    def close_at_end(self, resource: E) -> E:
        """Register a resource that `close` ends, and return it."""
        self._at_end.append(resource)
        return resource

    def _remember_ledger_state(self) -> None:
        """Cache the head of the ledger, so that an older one is noticed, and what must outlast its loss."""
        if not self.recall_from_ledger("readable", ""):
            self.remember_from_ledger("readable", "", True)
        project = last_seen.project_id(self.store.ca)
        pins, head = self.recall_from_ledger("pins", ""), self.recall_from_ledger("head", "")
        if pins is None:
            self.remember_from_ledger("pins", "", pins := ledger_decisions.pins(self.ledger.decisions()))
        if head is None:
            self.remember_from_ledger("head", "", head := [*self.ledger.head()[:2], self.ledger.counts()[1]])
        for name, finding in (("seen pins", pins), ("seen head", head)):
            if self.cache.recall(name, project) != finding:
                self.cache.remember(name, project, [], finding)
        recorded = last_seen.observed_head(self.store.ca, last_seen.LEDGER_HEAD)
        if recorded is None or list(recorded[:2]) != head[:2]:
            self.ledger.write_head()
        guard = self.guard
        if not self.recall_from_ledger("guard", guard.cache_key):
            self.remember_from_ledger("guard", guard.cache_key, guard.fault() is None)

    @cached_property
    def _cache(self) -> LedgerCache:
        return LedgerCache(self.store, self.cache, self._is_sqlite, lambda: self.ledger, lambda: self.has_ledger)

    def recall_from_ledger(self, name: str, key: str) -> Any:
        """Return what was cached of the ledger under `name` and `key`; None when the ledger changed since."""
        return self._cache.recall(name, key)

    def remember_from_ledger(self, name: str, key: str, finding: Any) -> None:
        """Cache what was read from the ledger after `recall_from_ledger` returned None."""
        self._cache.remember(name, key, finding)
