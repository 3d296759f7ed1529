"""What one run was asked to do, and what it has verified so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class RunState:
    """The state of one run in one process; empty outside a run."""

    requested: frozenset[str] = frozenset()  # tasks named on the command line of doit
    verified: set[bytes] = field(default_factory=set)  # SHA-256 of PEM bundles and CRLs whose signature was verified

    def select(self, tasks: Iterable[str]) -> None:
        """Record which tasks were named on the command line of doit."""
        self.requested = frozenset(tasks)

    def mark_verified(self, digest: bytes) -> None:
        """Record that the signature of a file with this SHA-256 was verified."""
        self.verified.add(digest)
