"""What was read of the ledger, remembered for as long as the ledger is as it was then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pki.common.cache import Cache
from pki.ledger.types import Ledger
from pki.project.layout import Store


@dataclass(slots=True)
class LedgerCache:
    """Of SQLite the files tell whether anything changed, of another database its head, which costs one question.

    Another machine may record something at any moment: what was read counts only where the head was the same before
    and after.
    """

    store: Store
    cache: Cache
    is_sqlite: bool
    ledger: Callable[[], Ledger]
    is_there: Callable[[], bool]
    asked_at: dict[str, list[Any] | None] = field(default_factory=dict)  # the ledger's state when it was asked last

    def recall(self, name: str, known: str) -> Any:
        state = self.asked_at[name] = self._state()
        found = self.cache.recall(f"ledger {name}", known) if state else None
        return found[1] if found and found[0] == state else None

    def remember(self, name: str, known: str, finding: Any, *, since: str = "") -> None:
        """`since` names what was asked before all that the finding follows from; the finding's own name otherwise."""
        if not self.is_sqlite:
            state = self._state()
            if state and state == self.asked_at.get(since or name):
                self.cache.remember(f"ledger {name}", known, [], [state, finding])
        elif self.is_there():
            if len(self._files()) > 1:
                self.ledger().close()  # SQLite moves its log into the database: the state to remember is the one after
            files = self._files()
            self.cache.remember(f"ledger {name}", known, files, [files, finding], by_state=True)

    def _state(self) -> list[Any] | None:
        if self.is_sqlite:
            return self._files()
        return list(self.ledger().head()[:2]) if self.is_there() else None

    def _files(self) -> list[str]:
        log = self.store.ca / "ledger.db-wal"
        in_use = [str(log)] if log.exists() and log.stat().st_size else []
        return [str(self.store.ca / "ledger.db"), *in_use]
