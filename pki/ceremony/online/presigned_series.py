"""The pre-signed CRLs of an accepted ceremony: they are recorded, and replace those of the earlier ceremony."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pki.ceremony.online import lost_ceremonies
from pki.ceremony.online.lost_ceremonies import CeremonyResult
from pki.common import filesystem
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView
from pki.x509 import pem_encoding


def faults(ledger_view: LedgerView, results: Sequence[CeremonyResult]) -> Iterator[str]:
    """Yield a fault for each root whose new CRLs all have lower numbers than a recorded one: none would be published.

    The CRLs that a later one of these ceremonies replaces are not published anyway.
    """
    if not ledger_view.has_ledger:  # before the first ceremony
        return
    for index, result in enumerate(results):
        replaced_roots = lost_ceremonies.replaced_roots(results[index + 1 :])
        for series in (series for series in result.request.crl_series if series.root not in replaced_roots):
            last_crl = ledger_view.ledger.last_crl(series.root)
            number = max(presigned_crl.number for presigned_crl in series.presigned_crls)
            if last_crl is not None and number < last_crl.number:
                yield f"{result.parsed.name}: its last CRL of {series.root} has number {number}, and number {last_crl.number} is recorded already"


def record(ledger_view: LedgerView, result: CeremonyResult, because: str, now: datetime) -> None:
    """Record the pre-signed CRLs whose number is above the last recorded one of their root.

    The number of a later one may be recorded already: from the published CRL, for a project that lost the ceremony. The
    ones below it are never published again (RFC 5280 §5.2.3).
    """
    for (root, number), presigned_crl in sorted(result.parsed.presigned_crls.items()):
        last_crl = ledger_view.ledger.last_crl(root)
        if last_crl is None or number > last_crl.number:
            ledger_view.ledger.record_crl(presigned_crl, issuer=root, reason=because, at=now)


def place(store: Store, now: datetime, result: CeremonyResult, replaced_roots: Collection[str]) -> list[str]:
    """Replace the pre-signed CRLs by the new series. Return descriptions of the old CRLs that have not expired."""
    unexpired_crls = []
    for series in (new_series for new_series in result.request.crl_series if new_series.root not in replaced_roots):
        numbers = {presigned_crl.number for presigned_crl in series.presigned_crls}
        for presigned_crl in series.presigned_crls:
            path = store.authority_file(series.root, "crl") / f"{presigned_crl.number}.pem"
            filesystem.write(
                path, pem_encoding.pem_of([result.parsed.presigned_crls[series.root, presigned_crl.number]])
            )
        for path in store.presigned_crls(series.root):
            if int(path.stem) not in numbers:
                unexpired_crls += _unexpired(now, path, series.root)
                path.unlink()
    return unexpired_crls


def _unexpired(now: datetime, path: Path, root: str) -> list[str]:
    """Return a description of a replaced CRL that has not expired, or nothing."""
    with suppress(ValueError):  # a damaged CRL cannot be published
        crl = x509.load_pem_x509_crl(filesystem.read(path) or b"")
        expiry = crl.next_update_utc
        if expiry and expiry > now:
            return [f"CRL {path.stem} of {root}, valid from {crl.last_update_utc:%Y-%m-%d} to {expiry:%Y-%m-%d}"]
    return []
