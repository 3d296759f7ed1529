"""The ledger as a run sees it: what it holds, what is remembered of it, and whether it can be believed."""

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
    def end(self) -> None: ...


E = TypeVar("E", bound=Endable)


@dataclass
class LedgerView:
    """What a run asks of the ledger. The authorities that it is held against are those of `Project`."""

    inventory: Inventory
    store: Store
    now: datetime
    cache: Cache
    _at_end: list[Endable] = field(default_factory=list, init=False)

    # -- what the project knows itself --

    def generation(self, name: str) -> Generation | None:
        """Return a generation by name, None while it has no certificate."""
        raise NotImplementedError

    def issuing(self, authority: str) -> Generation | None:
        """Return the generation of an authority that signs."""
        raise NotImplementedError

    def insist_on_roots(self) -> None:
        """Raise PkiError where a root is missing."""
        raise NotImplementedError

    @property
    def clock(self) -> ClockGuard:
        """Whether the clock can be believed: asked before anything is signed or recorded."""
        raise NotImplementedError

    # -- the ledger itself --

    @cached_property
    def ledger(self) -> Ledger:
        if not (self.store.ca / last_seen.PROJECT_ID).exists():
            self.insist_on_roots()  # opening it might make one
        # SQLAlchemy takes longer to import than the rest of a run with nothing to do, which has no use for it.
        from pki.ledger.ledger import SqlLedger  # noqa: PLC0415 - as said above

        return SqlLedger(self.inventory.ledger, self.store.ca, self.insist_on_ledger, self.clock.insist)

    def last_event(self) -> datetime | None:
        """When the newest event was recorded; None while there is no ledger, or nothing in it."""
        if not self.has_ledger:
            return None
        kept = self.recall_from_ledger("last event", "")
        if kept is None:
            kept = [int(one.at.timestamp()) for one in self.ledger.events(last=1)]
            self.remember_from_ledger("last event", "", kept)
        return datetime.fromtimestamp(kept[0], UTC) if kept else None

    def is_revoked(self, serial: int, *, seen_before: bool) -> bool:
        """Whether a certificate was revoked.

        One that was `seen_before` as it is now costs no look into a ledger that is settled: the last run that ended
        well acted on all that this holds.
        """
        return not (seen_before and self.ledger_is_settled) and serial in self._revoked_serials

    @cached_property
    def _revoked_serials(self) -> frozenset[int]:
        kept = self.recall_from_ledger("revoked", "")
        if isinstance(kept, str):
            return frozenset(int(serial, 16) for serial in kept.split())
        return self.ledger.revoked_serials(self.now) if self.has_ledger else frozenset()

    def look_again_at_revocations(self) -> None:
        """Forget what was revoked: this run itself revoked something."""
        for known in ("ledger_is_settled", "_revoked_serials"):
            self.__dict__.pop(known, None)

    @cached_property
    def withheld(self) -> dict[str, datetime]:
        """Artifacts that were revoked and are not to be replaced before a person says so, each with the time since when."""
        self.recall_from_ledger("plan", "")  # everything that is planned follows from the ledger as it is now, or later
        kept = self.recall_from_ledger("withheld", "")
        if kept is None:
            kept = ledger_decisions.withheld(self.ledger.decisions()) if self.has_ledger else {}
        return {artifact: datetime.fromtimestamp(at, UTC) for artifact, at in kept.items()}

    @cached_property
    def accepted_roots(self) -> dict[str, list[str]]:
        """SHA-256 of the roots that were accepted for hosts that had another one, by host."""
        kept = self.recall_from_ledger("accepted roots", "")
        if kept is None:
            kept = ledger_decisions.accepted_roots(self.ledger.decisions()) if self.has_ledger else {}
            self.remember_from_ledger("accepted roots", "", kept)
        found: dict[str, list[str]] = kept
        return found

    @cached_property
    def permitted_roots(self) -> dict[str, list[str]]:
        """SHA-256 of the roots that hosts accept by digest, by host."""
        kept = self.recall_from_ledger("permitted roots", "")
        if kept is None:
            kept = ledger_decisions.permitted_roots(self.ledger.decisions()) if self.has_ledger else {}
            self.remember_from_ledger("permitted roots", "", kept)
        found: dict[str, list[str]] = kept
        return found

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger to ask: one that can be read, and is this project's."""
        if self._is_sqlite and not (self.store.ca / "ledger.db").exists():
            return False
        return self._unreadable is None

    @property
    def _is_sqlite(self) -> bool:
        return self.inventory.ledger == "sqlite"

    @cached_property
    def _unreadable(self) -> LedgerFault | None:
        """Why the ledger cannot even be asked: it is empty, another project's, damaged or out of reach."""
        if self._is_sqlite and self.recall_from_ledger("readable", ""):
            return None
        try:
            self.ledger.head()
        except PkiError as error:
            return fault_of(error)
        return None

    @property
    def guard(self) -> Guard:
        """What holds the ledger against all that was seen of it."""
        there = list[Generation]()
        for name in identifiers.AUTHORITIES:
            with suppress(PkiError):  # said where the authority is read
                there += [found] if (found := self.issuing(name)) else []
        seen = last_seen.seen_heads(self.store.ca)
        match self.cache.recall(
            "seen head", last_seen.project_id(self.store.ca)
        ):  # not of a project that was here before
            case [int(seq), str(digest), int(revocations)]:
                seen.append(Head(seq, digest, "build/.seen.json", revocations))
        return Guard(self.store, self._is_sqlite, lambda: self.ledger, seen, there, self.generation)

    @cached_property
    def ledger_fault(self) -> LedgerFault | None:
        """Why nothing may be signed or recorded, None where nothing speaks against it."""
        guard = self.guard
        if not guard.is_missing and self._unreadable:
            return self._unreadable
        if self.recall_from_ledger("guard", guard.known):
            return None
        return guard.fault()

    def insist_on_ledger(self) -> None:
        """Raise LedgerError where nothing may be signed or recorded, even if nothing has asked for it."""
        if self.ledger_fault:
            raise LedgerError.of(self.ledger_fault)

    def look_again_at_ledger(self) -> None:
        """Forget what the guard found: something was recovered, or a loss accepted."""
        for known in ("ledger_fault", "_unreadable", "pins"):
            self.__dict__.pop(known, None)
        self.look_again_at_revocations()

    # -- hosts that are pinned --

    @cached_property
    def pins(self) -> dict[str, Pin] | None:
        """Hosts that stay at an earlier release; None where nobody knows, because the ledger is lost and the cache too.

        Where the ledger is not what was seen, the cache is believed: a host is never unpinned by a fault.
        """
        if self.ledger_fault:
            kept = self.cache.recall("seen pins", last_seen.project_id(self.store.ca))
        elif (kept := self.recall_from_ledger("pins", "")) is None:
            kept = ledger_decisions.pins(self.ledger.decisions()) if self.has_ledger else {}
        if kept is None:
            return None
        return {host: Pin(release, datetime.fromtimestamp(at, UTC)) for host, (release, at) in kept.items()}

    def pin(self, host: str) -> Pin | None:
        """The release at which a host is pinned, if it is; one without a digest where nobody knows."""
        return Pin("", self.now) if self.pins is None else self.pins.get(host)

    def unexpired(self) -> list[Issued]:
        """What the ledger holds of certificates that have not expired."""
        return self.ledger.certificates(since=self.now) if self.has_ledger else []

    @cached_property
    def ledger_is_settled(self) -> bool:
        return self.is_ledger_as_it_was()

    def is_ledger_as_it_was(self) -> bool:
        """Whether the ledger is settled at this very moment: another process of the run may have added to it."""
        return self.recall_from_ledger("settled", "") is not None

    def close(self, *, settled: bool) -> None:
        """Close the ledger. When everything ended well (`settled`), remember that it asks for nothing more.

        What it holds of revocations and decisions is remembered too: every process that delivers would have to open it
        for them; and its last event, which the clock is compared with.
        """
        if settled and self.recall_from_ledger("settled", "") is None:
            self._cache.remember("settled", "", True, since="plan")
        if self.recall_from_ledger("revoked", "") is None and "ledger" in self.__dict__:
            # one text, which is read in no time where nobody asks for what is in it
            found = " ".join(f"{serial:x}" for serial in sorted(self.ledger.revoked_serials(self.now)))
            self.remember_from_ledger("revoked", "", found)
        for name, follows in (
            ("withheld", ledger_decisions.withheld),
            ("accepted roots", ledger_decisions.accepted_roots),
            ("permitted roots", ledger_decisions.permitted_roots),
        ):
            if self.recall_from_ledger(name, "") is None and "ledger" in self.__dict__:
                self.remember_from_ledger(name, "", follows(self.ledger.decisions()))
        if self.has_ledger:
            self._remember_what_was_seen()
        if "ledger" in self.__dict__:
            self.last_event()
        self.close_ledger()
        for one in self._at_end:
            one.end()

    def close_ledger(self) -> None:
        """Close the ledger if it was opened, and remember nothing of it: SQLite's own files beside it go with that."""
        if "ledger" in self.__dict__:
            self.ledger.close()

    def ended_with(self, one: E) -> E:
        """Something that `close` is to end."""
        self._at_end.append(one)
        return one

    def _remember_what_was_seen(self) -> None:
        """Remember the ledger's head, so that an older ledger is noticed, and what must outlast its loss."""
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
        noted = last_seen.seen_head(self.store.ca, last_seen.LEDGER_HEAD)
        if noted is None or list(noted[:2]) != head[:2]:
            self.ledger.note()
        guard = self.guard
        if not self.recall_from_ledger("guard", guard.known):
            self.remember_from_ledger("guard", guard.known, guard.fault() is None)

    @cached_property
    def _cache(self) -> LedgerCache:
        return LedgerCache(self.store, self.cache, self._is_sqlite, lambda: self.ledger, lambda: self.has_ledger)

    def recall_from_ledger(self, name: str, known: str) -> Any:
        """What was remembered of the ledger, if it is as it was then."""
        return self._cache.recall(name, known)

    def remember_from_ledger(self, name: str, known: str, finding: Any) -> None:
        """Remember what was read of the ledger after `recall_from_ledger` knew nothing of it."""
        self._cache.remember(name, known, finding)
