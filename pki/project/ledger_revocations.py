"""The revocations of the ledger as a run needs them, cached: revoked serial numbers, and stopped replacements."""

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

    def is_revoked(self, serial: int, *, unchanged: bool) -> bool:
        """Return whether the certificate is revoked.

        `unchanged` means that the certificate is as it was in the last run. If the ledger did not change since a
        successful run either, it is not read: that run acted on every revocation.
        """
        return not (unchanged and self.ledger_view.is_settled) and serial in self._revoked_serials

    @cached_property
    def _revoked_serials(self) -> frozenset[int]:
        """Return the serial numbers of all revoked certificates that have not expired."""
        cached = self.ledger_view.recall("revoked", "")
        if isinstance(cached, str):
            return frozenset(int(serial, 16) for serial in cached.split())
        return self.ledger_view.ledger.revoked_serials(self.now) if self.ledger_view.has_ledger else frozenset()

    def forget(self) -> None:
        """Forget what is cached of revocations, after this run revoked a certificate."""
        self.ledger_view.forget_settled()
        self.__dict__.pop("_revoked_serials", None)

    @cached_property
    def replacement_stopped(self) -> dict[str, datetime]:
        """Return the revoked artifacts that are not replaced until the user renews them, each with its time."""
        self.ledger_view.recall("plan", "")  # notes the state of the ledger before anything is planned
        cached = self.ledger_view.recall("replacement stopped", "")
        if cached is None:
            cached = (
                ledger_decisions.replacement_stopped(self.ledger_view.ledger.decisions())
                if self.ledger_view.has_ledger
                else {}
            )
        return {artifact: datetime.fromtimestamp(at, UTC) for artifact, at in cached.items()}

    def unexpired(self) -> list[Issued]:
        """Return the records of certificates that have not expired."""
        return self.ledger_view.ledger.certificates(since=self.now) if self.ledger_view.has_ledger else []

    def remember(self) -> None:
        """Cache the revocations, if this run opened the ledger: each process that deploys would have to open it."""
        view = self.ledger_view
        if not view.is_open:
            return
        # stored as one string: cheap to load when unused
        view.cached("revoked", "", lambda: " ".join(map("{:x}".format, sorted(view.ledger.revoked_serials(self.now)))))
        view.cached("replacement stopped", "", lambda: ledger_decisions.replacement_stopped(view.ledger.decisions()))
