"""The revocations in the ledger as a run needs them, cached: revoked serial numbers, and stopped replacements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from pki.ledger.types import Issued
from pki.project import ledger_decisions
from pki.project.ledger_view import LedgerView


@dataclass
class Revocations:
    """The revocations in the ledger at the moment `now`."""

    ledger_view: LedgerView
    now: datetime

    def is_revoked(self, serial: int, *, certificate_unchanged: bool) -> bool:
        """Return whether the certificate is revoked.

        `certificate_unchanged` means that the certificate is the same as in the last run. If the ledger is also unchanged
        since a successful run, the answer is no without a query: that run replaced every revoked certificate.
        """
        if certificate_unchanged and self.ledger_view.was_unchanged_at_start:
            return False
        return serial in self._revoked_serials

    @cached_property
    def _revoked_serials(self) -> frozenset[int]:
        """Return the serial numbers of all revoked certificates that have not expired."""
        cached_serials = self.ledger_view.recall("revoked", "", as_of=self.now)
        if isinstance(cached_serials, str):
            return frozenset(int(serial, 16) for serial in cached_serials.split())
        if not self.ledger_view.has_ledger:
            return frozenset()
        return self.ledger_view.ledger.revoked_serials(expiring_after=self.now)

    def read_again(self) -> None:
        """Read the revoked serial numbers again at their next use: this run has just revoked a certificate."""
        self.ledger_view.forget_unchanged()
        self.__dict__.pop("_revoked_serials", None)

    @cached_property
    def replacement_stopped(self) -> dict[str, datetime]:
        """Return the revoked artifacts that are not replaced until the user renews them, each with its time."""
        # this recall has no result: it notes the state of the ledger before anything is planned (`since="plan"`)
        self.ledger_view.recall("plan", "")
        times_by_artifact = self.ledger_view.recall("replacement stopped", "")
        if times_by_artifact is None:
            times_by_artifact = (
                ledger_decisions.replacement_stopped(self.ledger_view.ledger.decisions())
                if self.ledger_view.has_ledger
                else {}
            )
        return {artifact: datetime.fromtimestamp(at, UTC) for artifact, at in times_by_artifact.items()}

    def unexpired(self) -> list[Issued]:
        """Return the records of certificates that have not expired."""
        return self.ledger_view.ledger.certificates(expiring_after=self.now) if self.ledger_view.has_ledger else []

    def remember(self) -> None:
        """Cache the revocations, if this run opened the ledger. Otherwise each process that deploys would open it."""
        view = self.ledger_view
        if not view.is_open:
            return
        view.cached("revoked", "", self._revoked_as_text, as_of=self.now)
        view.cached("replacement stopped", "", lambda: ledger_decisions.replacement_stopped(view.ledger.decisions()))

    def _revoked_as_text(self) -> str:
        """Return the revoked serial numbers, in hexadecimal, as one string: cheap to load when unused."""
        serials = self.ledger_view.ledger.revoked_serials(expiring_after=self.now)
        return " ".join(f"{serial:x}" for serial in sorted(serials))
