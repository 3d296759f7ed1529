"""Artifact: something that doit keeps up to date. The code that builds artifacts knows about PKI, the code that runs them about doit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pki.common.errors import as_pki_error
from pki.common.reasons import Outcome, Reason, stated
from pki.config.identifiers import ArtifactId


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that doit keeps up to date.

    `make` is idempotent, returns what it did, and raises PkiError. `stale` returns why `make` must run; empty means up
    to date. `targets` and `sources` are paths as text, as doit requires. An outcome has its own reasons where they are
    known only after the action.
    """

    id: ArtifactId
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    make: Callable[[], Outcome]
    stale: Callable[[], list[Reason]]
    doc: str

    @property
    def name(self) -> ArtifactId:
        """Return the id, which is also the name of the task in doit."""
        return self.id

    def reasons(self) -> list[Reason]:
        """Return why it must be made; a check that fails is a reason too."""
        try:
            return self.stale()
        except Exception as error:  # noqa: BLE001 - a bug in one check fails its task and not the run
            return stated(as_pki_error(error).message)
