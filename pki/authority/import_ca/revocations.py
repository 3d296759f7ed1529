"""Revocations of an adopted CA, by its index and its CRLs, compared with the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cryptography import x509

from pki.authority.import_ca.openssl_index import IndexRow
from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued, Revocation
from pki.project.generations import Generation
from pki.x509.revocation import IMPORTED_REASONS, entry_reason


def compare(
    rows: list[IndexRow],
    crls: list[x509.CertificateRevocationList],
    issued: list[Issued],
    recorded: set[int],
    ca: Generation,
) -> tuple[list[Revocation], list[str]]:
    """Return the revocations that the ledger lacks, oldest first, and a text for each that the files lost.

    `recorded` are the serial numbers that the ledger records as revoked.
    """
    revoked = {serial: revocation for crl in sorted(crls, key=_begin) for serial, revocation in listed(crl)}
    revoked |= {
        row.serial: row.revoked for row in rows if row.revoked
    }  # the index counts: the next CRL would be made from it
    by_serial, ends = {certificate.serial: certificate for certificate in issued}, {row.serial: row.end for row in rows}
    new = []
    for serial, (at, reason) in sorted(revoked.items(), key=lambda pair: (pair[1][0], pair[0])):
        if serial not in recorded:
            name = by_serial[serial].artifact if serial in by_serial else ArtifactId(ca.name, f"{serial:x}")
            end = by_serial[serial].not_after if serial in by_serial else ends.get(serial, ca.not_after)
            new.append(Revocation(serial, name, reason, at, end))
    no_longer_revoked = [row for row in rows if row.serial not in revoked and row.serial in recorded]
    return new, [
        f"line {row.line} of index.txt: serial {row.serial:02X} was revoked; it stays revoked"
        for row in no_longer_revoked
    ]


def listed(crl: x509.CertificateRevocationList) -> Iterator[tuple[int, tuple[datetime, str]]]:
    """Yield serial number, date and reason of each revocation in a CRL."""
    for entry in crl:
        reason = entry_reason(entry)
        if reason in IMPORTED_REASONS:  # removeFromCRL revokes nothing
            yield entry.serial_number, (entry.revocation_date_utc, reason)


def _begin(crl: x509.CertificateRevocationList) -> datetime:
    return crl.last_update_utc
