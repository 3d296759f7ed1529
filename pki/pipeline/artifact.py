"""Artifact: something that doit keeps up to date.

The code that builds artifacts knows about PKI but not about doit; the code that runs them knows about doit but not
about PKI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pki.common.errors import as_pki_error
from pki.common.reasons import Outcome, Reason, reasons_from_text
from pki.config.identifiers import ArtifactId


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that doit keeps up to date.

    `id` is also the name of the task in doit. `make` is idempotent, returns what it did, and raises PkiError. `stale`
    returns why `make` must run; empty means up to date. `targets` and `sources` are paths as text, as doit requires.
    """

    id: ArtifactId
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    make: Callable[[], Outcome]
    stale: Callable[[], list[Reason]]
    doc: str

    def reasons(self) -> list[Reason]:
        """Return why the artifact must be made. An error of the check itself is such a reason too."""
        try:
            return self.stale()
        except Exception as error:  # noqa: BLE001 - a bug in one check fails its task and not the run
            return reasons_from_text(as_pki_error(error).message)
