"""Cached reads of the ledger, each valid while the ledger does not change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pki.common.cache import Cache
from pki.ledger.types import Ledger
from pki.project.layout import Store


@dataclass(slots=True)
class LedgerCache:
    """A cache keyed by the state of the ledger: the files of SQLite, or the head of another database.

    Another machine may add an event to a database at any moment, so a read counts only if the head is the same before
    and after it.
    """

    store: Store
    cache: Cache
    is_sqlite: bool
    ledger: Callable[[], Ledger]
    has_ledger: Callable[[], bool]
    state_at_recall: dict[str, list[Any] | None] = field(default_factory=dict)  # the state of the ledger at each recall

    def recall(self, name: str, key: str) -> Any:
        """Return what was cached under `name` and `key`; None when the ledger changed since."""
        state = self.state_at_recall[name] = self._state()
        cached = self.cache.recall(f"ledger {name}", key) if state else None
        return cached[1] if cached and cached[0] == state else None

    def remember(self, name: str, key: str, finding: Any, *, since: str = "") -> None:
        """Cache `finding`.

        `since` is the name of the recall that preceded everything it depends on; by default `name`.
        """
        if not self.is_sqlite:
            state = self._state()
            if state and state == self.state_at_recall.get(since or name):
                self.cache.remember(f"ledger {name}", key, [], [state, finding])
        elif self.has_ledger():
            if len(self._files()) > 1:
                self.ledger().close()  # SQLite moves its log into the database: cache the state after that
            files = self._files()
            self.cache.remember(f"ledger {name}", key, files, [files, finding], by_state=True)

    def _state(self) -> list[Any] | None:
        if self.is_sqlite:
            return self._files()
        return list(self.ledger().head()[:2]) if self.has_ledger() else None

    def _files(self) -> list[str]:
        log = self.store.ca / "ledger.db-wal"
        in_use = [str(log)] if log.exists() and log.stat().st_size else []
        return [str(self.store.ca / "ledger.db"), *in_use]
