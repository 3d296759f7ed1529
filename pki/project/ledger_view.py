"""The ledger as a run sees it. It is opened at its first use, answers are cached, and a guard checks it."""

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
    """The ledger of a project. What a run reads of the ledger is cached until the ledger changes.

    The view calls `check_writing` before anything is recorded, `address` for the address of the database, and `check_roots` before a new ledger may be created. All
    three raise PkiError. `authorities` returns the authorities, with which the guard compares the ledger. `upgrades` means that
    tables of an older version are upgraded when the ledger is opened, and not only when something is recorded.
    """

    inventory: Inventory
    store: Store
    cache: Cache
    check_writing: Callable[[], None]
    address: Callable[[], str]
    check_roots: Callable[[], None]
    authorities: Callable[[], Authorities]
    upgrades: bool = False

    @cached_property
    def ledger(self) -> Ledger:
        """Return the opened ledger.

        Raises PkiError where a root is missing and opening it would create a new ledger.
        """
        if not (self.store.ca / last_seen.PROJECT_ID).exists():
            self.check_roots()  # without a project id, opening the ledger creates a new one
        from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - SQLAlchemy takes longer to import than a run with nothing to do

        return SqlLedger(self.address(), self.store.ca, self.check, self.check_writing, upgrades=self.upgrades)

    @property
    def is_open(self) -> bool:
        """Return whether this process opened the ledger."""
        return "ledger" in self.__dict__

    def close(self) -> None:
        """Close the ledger if it was opened, without caching anything. SQLite removes its log and index when it closes."""
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
            return None  # the file is as it was when an earlier run read it; a server can be down today
        try:
            self.ledger.head()
        except PkiError as error:
            return fault_of(error)
        return None

    # -- whether it can be trusted --

    @property
    def guard(self) -> Guard:
        """Return the guard that compares the ledger with what earlier runs recorded of it."""
        authorities, signing = self.authorities(), list[Generation]()
        for name in identifiers.ALL_AUTHORITIES:
            with suppress(PkiError):  # the tasks of the authority report it
                generation = authorities.issuing(name)
                if generation is not None:
                    signing.append(generation)
        heads = last_seen.observed_heads(self.store.ca)
        project = last_seen.project_id(self.store.ca)  # the folder may have contained another project
        match self.cache.recall("seen head", project):
            case [int(seq), str(digest), int(revocations)]:
                heads.append(Head(seq, digest, "build/.seen.json", revocations))
        return Guard(self.store, self._is_sqlite, lambda: self.ledger, heads, signing, authorities.generation)

    @cached_property
    def fault(self) -> LedgerFault | None:
        """Return why nothing may be signed or recorded; None where the ledger can be trusted."""
        guard = self.guard
        if not guard.is_missing and self._unreadable:
            return self._unreadable  # a missing file has its own reason, from the guard
        if self.recall("guard", guard.cache_key):
            return None  # an earlier run compared the same ledger with the same files
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
    def was_unchanged_at_start(self) -> bool:
        """Return whether the ledger was unchanged since the last successful run when this run asked first."""
        return self.is_unchanged_now()

    def forget_unchanged(self) -> None:
        """Forget `was_unchanged_at_start`, after this run added an event that other tasks act on."""
        self.__dict__.pop("was_unchanged_at_start", None)

    def is_unchanged_now(self) -> bool:
        """Return whether the ledger is unchanged since the last successful run; a parallel process may add events."""
        return self.recall("settled", "") is not None

    # -- what is cached --

    @cached_property
    def _cache(self) -> LedgerCache:
        return LedgerCache(self.store, self.cache, self._is_sqlite, lambda: self.ledger, lambda: self.has_ledger)

    def recall(self, name: str, key: str, *, as_of: datetime | None = None) -> Any:
        """Return what was cached of the ledger under `name` and `key`; None when the ledger changed since.

        `as_of` is the present moment, for a finding that leaves out what has expired. It returns None for a finding of a
        later moment: the clock of that run was ahead, and what it left out may still be valid.
        """
        finding = self._cache.recall(name, key)
        if as_of is None or finding is None:
            return finding
        computed_at, finding = finding
        return finding if computed_at <= as_of.timestamp() else None

    def cached(self, name: str, key: str, compute: Callable[[], T], *, as_of: datetime | None = None) -> T:
        """Return what `recall` returns; if that is None, compute it and cache it. JSON must be able to encode it."""
        finding: T | None = self.recall(name, key, as_of=as_of)
        if finding is None:
            finding = compute()
            self._cache.remember(name, key, finding if as_of is None else [int(as_of.timestamp()), finding])
        return finding

    def remember_state(self, *, run_succeeded: bool) -> None:
        """Cache the head of the ledger, so that a later run notices an older ledger, and the result of the guard.

        `run_succeeded` means that the run acted on every event: while the ledger does not change, nothing else follows
        from it.
        """
        if run_succeeded and self.recall("settled", "") is None:
            # the run acted on the ledger as it was when the run planned, not as it is now
            self._cache.remember("settled", "", True, since="plan")
        self.cached("readable", "", lambda: True)
        project = last_seen.project_id(self.store.ca)
        seq, digest, revocations = self.cached("head", "", self._head_values)
        if self.cache.recall("seen head", project) != [seq, digest, revocations]:
            self.cache.remember("seen head", project, [], [seq, digest, revocations])
        stored = last_seen.observed_head(self.store.ca, last_seen.LEDGER_HEAD)
        if stored is None or (stored.seq, stored.hash) != (seq, digest):
            self.ledger.write_head()
        guard = self.guard
        if not self.recall("guard", guard.cache_key):
            self._cache.remember("guard", guard.cache_key, guard.fault() is None)

    def _head_values(self) -> list[Any]:
        """Return number and hash of the newest event, and the number of revocations, as JSON stores them."""
        head = self.ledger.head()
        return [head.seq, head.hash, self.ledger.counts().revocations]
