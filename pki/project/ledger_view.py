"""The ledger as a run sees it: opened when it is needed, what is cached of it, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.config import identifiers
from pki.config.model import Inventory
from pki.ledger import last_seen
from pki.ledger.types import Head, Ledger, LedgerFault
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.ledger_cache import LedgerCache
from pki.project.ledger_guard import Guard, fault_of

T = TypeVar("T")


@dataclass
class LedgerView:
    """The ledger of a project. What a run reads of it is cached while it does not change.

    `check_clock` is called before anything is recorded, and `check_roots` before a new ledger may be created; both
    raise PkiError. `authorities` returns those with which the guard compares the ledger. `upgrades`: whether tables of an
    older version are upgraded when the ledger is opened, and not only when something is recorded.
    """

    inventory: Inventory
    store: Store
    cache: Cache
    check_clock: Callable[[], None]
    check_roots: Callable[[], None]
    authorities: Callable[[], Authorities]
    upgrades: bool = False

    @cached_property
    def ledger(self) -> Ledger:
        """Return the opened ledger.

        Raises PkiError where a root is missing and opening it would create a new ledger.
        """
        if not (self.store.ca / last_seen.PROJECT_ID).exists():
            self.check_roots()  # opening the ledger might create the file
        from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - SQLAlchemy takes longer to import than a run with nothing to do

        return SqlLedger(self.inventory.ledger, self.store.ca, self.check, self.check_clock, upgrades=self.upgrades)

    @property
    def is_open(self) -> bool:
        """Return whether this process opened the ledger."""
        return "ledger" in self.__dict__

    def close(self) -> None:
        """Close the ledger if it was opened, without caching anything. SQLite then removes its extra files."""
        if self.is_open:
            self.ledger.close()

    def last_event(self) -> datetime | None:
        """Return the time of the newest event; None without a ledger or any event."""
        if not self.has_ledger:
            return None
        cached = self.cached(
            "last event", "", lambda: [int(event.at.timestamp()) for event in self.ledger.events(last=1)]
        )
        return datetime.fromtimestamp(cached[0], UTC) if cached else None

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
        if self._is_sqlite and self.recall("readable", ""):
            return None
        try:
            self.ledger.head()
        except PkiError as error:
            return fault_of(error)
        return None

    # -- whether it can be trusted --

    @property
    def guard(self) -> Guard:
        """Return the guard that compares the ledger with everything that was seen of it."""
        authorities, signing = self.authorities(), list[Generation]()
        for name in identifiers.AUTHORITIES:
            with suppress(PkiError):  # reported where the authority is read
                signing += [generation] if (generation := authorities.issuing(name)) else []
        heads = last_seen.observed_heads(self.store.ca)
        match self.cache.recall(
            "seen head", last_seen.project_id(self.store.ca)
        ):  # keyed by project: the folder may have contained another one
            case [int(seq), str(digest), int(revocations)]:
                heads.append(Head(seq, digest, "build/.seen.json", revocations))
        return Guard(self.store, self._is_sqlite, lambda: self.ledger, heads, signing, authorities.generation)

    @cached_property
    def fault(self) -> LedgerFault | None:
        """Return why nothing may be signed or recorded; None where the ledger can be trusted."""
        guard = self.guard
        if not guard.is_missing and self._unreadable:
            return self._unreadable
        if self.recall("guard", guard.cache_key):
            return None
        return guard.fault()

    def check(self) -> None:
        """Raise LedgerError where nothing may be signed or recorded."""
        if self.fault:
            raise self.fault.error

    def forget_state(self) -> None:
        """Forget the result of the guard, after events were recovered or a loss was accepted."""
        for name in ("fault", "_unreadable"):
            self.__dict__.pop(name, None)

    @cached_property
    def is_settled(self) -> bool:
        """Return whether the ledger is unchanged since a successful run, as this run found it at first."""
        return self.is_unchanged_now()

    def forget_settled(self) -> None:
        """Forget whether the ledger is unchanged, after this run added an event that others act on."""
        self.__dict__.pop("is_settled", None)

    def is_unchanged_now(self) -> bool:
        """Return whether the ledger is unchanged now: a parallel process may have added events."""
        return self.recall("settled", "") is not None

    # -- what is cached --

    @cached_property
    def _cache(self) -> LedgerCache:
        return LedgerCache(self.store, self.cache, self._is_sqlite, lambda: self.ledger, lambda: self.has_ledger)

    def recall(self, name: str, key: str) -> Any:
        """Return what was cached of the ledger under `name` and `key`; None when the ledger changed since."""
        return self._cache.recall(name, key)

    def cached(self, name: str, key: str, compute: Callable[[], T]) -> T:
        """Return what `recall` returns; if that is None, compute it and cache it. It consists of values of JSON."""
        finding: T | None = self.recall(name, key)
        if finding is None:
            finding = compute()
            self._cache.remember(name, key, finding)
        return finding

    def remember_state(self, *, settled: bool) -> None:
        """Cache the head of the ledger, so that an older one is noticed, and the result of the guard.

        `settled` means that the run ended well: nothing in the ledger requires further action while it does not change.
        """
        if settled and self.recall("settled", "") is None:
            self._cache.remember("settled", "", True, since="plan")
        self.cached("readable", "", lambda: True)
        project = last_seen.project_id(self.store.ca)
        head = self.cached("head", "", lambda: [*self.ledger.head()[:2], self.ledger.counts()[1]])
        if self.cache.recall("seen head", project) != head:
            self.cache.remember("seen head", project, [], head)
        recorded = last_seen.observed_head(self.store.ca, last_seen.LEDGER_HEAD)
        if recorded is None or list(recorded[:2]) != head[:2]:
            self.ledger.write_head()
        guard = self.guard
        if not self.recall("guard", guard.cache_key):
            self._cache.remember("guard", guard.cache_key, guard.fault() is None)
