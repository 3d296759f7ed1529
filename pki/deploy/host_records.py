"""What is recorded here about the deliveries to a host: receipt, history, last contact, drift."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.common.timestamps import instant, moment
from pki.deploy import receipt as receipts
from pki.deploy.contact import Contact
from pki.deploy.delivery_history import History
from pki.deploy.drift import reasons_from_json
from pki.deploy.folder import FolderTransport
from pki.deploy.payload import Payload
from pki.deploy.receipt import Receipt
from pki.deploy.ssh import UnreachableError
from pki.project.layout import Store

DAY = timedelta(days=1)


@dataclass
class HostRecords:
    """The records of one host in the store; `transport` is folder, command, ssh or local."""

    host: str
    store: Store
    transport: str = "folder"

    @property
    def is_contacted(self) -> bool:
        """Return whether deliveries contact pki-apply on the host (over ssh, or on this machine), not only write a folder."""
        return self.transport not in {"folder", "command"}

    @property
    def has_verified_services(self) -> bool:
        """Return whether services are verified over the network after a delivery: not with `deliver: folder`."""
        return self.transport != "folder"

    @cached_property
    def history(self) -> History:
        """The earlier deliveries to the host."""
        return History(self.store.history(self.host))

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the last delivery, None if there is none or it is damaged."""
        return receipts.load(self.store.receipt(self.host))

    @property
    def has_lost_receipt(self) -> bool:
        """Return whether something was delivered, but its receipt is damaged."""
        return self.receipt is None and os.path.lexists(self.store.receipt(self.host))

    @property
    def contact(self) -> Contact:
        """The record of the last contact."""
        return Contact.load(self.store.contact(self.host))

    @property
    def folder_transport(self) -> FolderTransport:
        """The folder that takes the place of the host."""
        return FolderTransport(self.store.host_root(self.host))

    @property
    def drift(self) -> Sequence[Reason]:
        """The known drift of the host: of a folder by checking it now, of a remote host by the last check."""
        if self.is_contacted:
            return (*self.contact.drift, *self.contact.writable)
        receipt = self.receipt
        if self.has_verified_services and self.contact.failing_since:
            return ()  # its command failed: the folder is newer than the receipt
        return self.folder_drift(receipt) if receipt else ()

    def folder_drift(self, receipt: Receipt) -> list[Reason]:
        """Return where the files in the folder differ from the receipt, apart from damage to the list of files."""
        return [reason for reason in self.folder_transport.drift(receipt) if reason.code is not Why.LIST_DAMAGED]

    def repaired_drift(self, at: datetime) -> Sequence[Reason]:
        """Return the drift that the run which began at `at` found on the host and repaired."""
        entries = [entry for entry in self.history.log_entries() if entry["at"] == instant(at)]
        return [reason for entry in entries for reason in reasons_from_json(entry.get("drift"))]

    def record_drift(self, drift: Sequence[Reason], writable: Sequence[Reason] = ()) -> None:
        """Record the drift that a check found, for the next run and for health."""
        contact = replace(self.contact, drift=tuple(drift), writable=tuple(writable))
        if self.is_contacted and self.contact != contact:
            with suppress(PkiError):  # on a read-only project the command still reports it
                self.save_contact(contact)

    def record_unreached(self, error: PkiError, now: datetime) -> None:
        """Record that a check could not reach the host, so that the next run tries again."""
        if self.is_contacted:
            with suppress(PkiError):  # on a read-only project the command still reports it
                self.save_contact(self.contact.failed(now, error))

    def record_failure(self, payload: Payload, error: PkiError, now: datetime) -> PkiError:
        """Record that a change failed; returns the error to report."""
        self.save_contact(self.contact.failed(now, error))
        self.history.add_log_entry(now, payload.release.digest, "failed", why=error.message)
        if isinstance(error, UnreachableError):
            return PkiError(self._unreachable_text(now, error.last_line or error.message), error.hint, error.code)
        return error

    def _unreachable_text(self, now: datetime, message: str) -> str:
        """Return `unreachable for 3 days; its certificate expires in 12 days`, with the message of ssh."""
        days, receipt = self.contact.days_failing(now), self.receipt
        text = f"unreachable for {counted(days, 'day')}" if days else "unreachable"
        if receipt and receipt.first_expiry:
            days_left = math.floor((moment(receipt.first_expiry) - now) / DAY)
            expiry = f"expires in {counted(days_left, 'day')}" if days_left >= 0 else "has expired"
            text += f"; its certificate {expiry}"
        return f"{text} ({message})"

    def save_receipt(self, receipt: Receipt) -> None:
        """Store the receipt of a delivery."""
        receipts.save(self.store.receipt(self.host), receipt)

    def save_contact(self, contact: Contact) -> None:
        """Store the record of a contact."""
        contact.save(self.store.contact(self.host))
