"""Which release a host must have, and which one it has by our records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pki.deploy.delivery_history import PinnedRelease
from pki.deploy.host_records import HostRecords
from pki.deploy.payload import Payload


@dataclass
class HostPayloads:
    """The releases of one host.

    `recorded_pin` returns the release at which the host stays by the decisions in the ledger, None if it follows its
    releases. What counts for a delivery is `pin`.
    """

    records: HostRecords
    recorded_pin: Callable[[], PinnedRelease | None] = lambda: None

    @property
    def pin(self) -> PinnedRelease | None:
        """The release at which a host stays that is contacted. A folder is never pinned, whatever is recorded of its host."""
        return self.recorded_pin() if self.records.is_contacted else None

    def desired(self) -> Payload | None:
        """Return what must be on the host: its release, or the pinned one, with the newest CRLs.

        Returns only the CRLs when the files of the pinned release are lost or unknown, None when there is no release.
        """
        current = Payload.of(self.records.store.release(self.records.host))
        pin = self.pin
        if pin is None:
            return current
        receipt = self.records.receipt
        pinned_payload = self.records.history.payload(pin.release or (receipt.release if receipt else "-"))
        if pinned_payload is None:
            return current.crls() if current else None
        return pinned_payload.with_crls_of(current) if current else pinned_payload

    @property
    def delivered(self) -> Payload | None:
        """Return the release that the host has by our own records, None if unknown."""
        receipt = self.records.receipt
        if receipt is None:
            return None
        return self.records.history.payload(receipt.release) if self.records.is_contacted else self.desired()

    def is_pinned_without_files(self, payload: Payload) -> bool:
        """Return whether the host is pinned, and `payload` has only CRLs, because the files of that release are lost."""
        return self.pin is not None and all(file.crl for file in payload.release.files)
