"""What an adopted CA revoked, by its index and by its CRLs, held against what the ledger knows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cryptography import x509

from pki.authority.import_ca.openssl_index import Row
from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued, Revocation
from pki.project.generations import Generation
from pki.x509.revocation import IMPORTED_REASONS


def compare(
    rows: list[Row],
    crls: list[x509.CertificateRevocationList],
    issued: list[Issued],
    recorded: set[int],
    ca: Generation,
) -> tuple[list[Revocation], list[str]]:
    """Revocations that the ledger lacks, in their order in time, and a sentence for each that would be taken back."""
    found = {serial: said for crl in sorted(crls, key=_begin) for serial, said in listed(crl)}
    found |= {row.serial: row.revoked for row in rows if row.revoked}  # the index is what the next CRL would say
    known, ends = {one.serial: one for one in issued}, {row.serial: row.end for row in rows}
    new = []
    for serial, (at, reason) in sorted(found.items(), key=lambda pair: (pair[1][0], pair[0])):
        if serial not in recorded:
            name = known[serial].artifact if serial in known else ArtifactId(ca.name, f"{serial:x}")
            end = known[serial].not_after if serial in known else ends.get(serial, ca.certificate.not_valid_after_utc)
            new.append(Revocation(serial, name, reason, at, end))
    lifted = [row for row in rows if row.serial not in found and row.serial in recorded]
    return new, [f"line {row.line} of index.txt: serial {row.serial:02X} was revoked, and stays so" for row in lifted]


def listed(crl: x509.CertificateRevocationList) -> Iterator[tuple[int, tuple[datetime, str]]]:
    """Serial number, date and reason of everything that a CRL revokes."""
    for entry in crl:
        reason = _reason(entry)
        if reason in IMPORTED_REASONS:  # removeFromCRL revokes nothing
            yield entry.serial_number, (entry.revocation_date_utc, reason)


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (x509.ExtensionNotFound, ValueError):
        return "unspecified"


def _begin(crl: x509.CertificateRevocationList) -> datetime:
    return crl.last_update_utc


def number(crl: x509.CertificateRevocationList) -> int:
    try:
        return int(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    except (x509.ExtensionNotFound, ValueError):
        return 0
