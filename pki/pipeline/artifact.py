"""One thing that doit keeps up to date: above it nobody knows certificates, below it nobody knows doit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pki.common.errors import of_any
from pki.common.reasons import Outcome, Reason, stated
from pki.config.identifiers import ArtifactId


@dataclass(frozen=True, slots=True)
class Artifact:
    """One thing that doit keeps: `make` is idempotent and raises PkiError, `stale` says why it must run.

    `targets` and `sources` are paths as text, because doit wants them so. `make` returns what it did; the outcome has
    reasons of its own where only acting tells them.
    """

    id: ArtifactId
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    make: Callable[[], Outcome]
    stale: Callable[[], list[Reason]]
    doc: str

    @property
    def name(self) -> ArtifactId:
        return self.id

    def reasons(self) -> list[Reason]:
        """Why it must be made; a look that fails is a reason too."""
        try:
            return self.stale()
        except Exception as error:  # noqa: BLE001 - a bug in one look must not end the run: its task fails with it
            return stated(of_any(error).message)
