"""The entries of a CRL and the reasons of revocations (RFC 5280 §5.3.1)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cryptography import x509

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


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Return the CRL number (RFC 5280 §5.2.3), or 0 for a CRL without a readable one, which another program issued."""
    try:
        return int(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    except (x509.ExtensionNotFound, ValueError):
        return 0


def entry_reason(revoked: x509.RevokedCertificate) -> str:
    """Return the reason of an entry of a CRL, or `unspecified` if it has no readable one (RFC 5280 §5.3.1)."""
    try:
        return str(revoked.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (x509.ExtensionNotFound, ValueError):
        return "unspecified"


def crl_entry(revoked: x509.RevokedCertificate) -> CrlEntry:
    """Return an entry of a CRL, with the reason `unspecified` if it has none that the ledger supports."""
    reason = entry_reason(revoked)
    is_supported = reason in IMPORTED_REASONS
    return CrlEntry(revoked.serial_number, revoked.revocation_date_utc, reason if is_supported else "unspecified")
