"""The entries of a CRL and their reasons (RFC 5280 §5.3.1)."""

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
OLD_REASONS = (*REASONS, "cACompromise", "aACompromise", "certificateHold")  # which adopted CAs may have given


class Entry(NamedTuple):
    """One revoked certificate on a CRL; `reason` is one of OLD_REASONS."""

    serial: int
    revoked_at: datetime
    reason: str
