"""The entries of a CRL and the reasons of revocations (RFC 5280 §5.3.1)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
IMPORTED_REASONS = (*REASONS, "cACompromise", "aACompromise", "certificateHold")  # adopted CAs may have given these


class CrlEntry(NamedTuple):
    """One revoked certificate on a CRL; `reason` is one of IMPORTED_REASONS, `revoked_at` is UTC."""

    serial: int
    revoked_at: datetime
    reason: str
