"""The revocations of an adopted CA in its index and its CRLs, compared with those in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cryptography import x509

from pki.authority.import_ca.openssl_index import ImportedRevocation, IndexRow
from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued, Revocation
from pki.project.generations import Generation
from pki.x509.revocation import IMPORTED_REASONS, entry_reason


def compare(
    rows: list[IndexRow],
    crls: list[x509.CertificateRevocationList],
    issued: list[Issued],
    recorded_serials: set[int],
    ca: Generation,
) -> tuple[list[Revocation], list[str]]:
    """Return the revocations that the ledger lacks, oldest first, and a text for each revocation that the index lost.

    `recorded_serials` are the serial numbers that the ledger records as revoked.
    """
    revocations = {
        serial: revocation for crl in sorted(crls, key=_this_update) for serial, revocation in listed_revocations(crl)
    }
    # the index wins over the CRLs, because the CA's next CRL would be made from the index
    revocations |= {row.serial: row.revocation for row in rows if row.revocation}
    certificates = {certificate.serial: certificate for certificate in issued}
    expiries = {row.serial: row.not_after for row in rows}
    new_revocations = []
    for serial, revocation in sorted(revocations.items(), key=lambda item: (item[1].at, item[0])):
        if serial in recorded_serials:
            continue
        if certificate := certificates.get(serial):
            name, not_after = certificate.artifact, certificate.not_after
        else:  # only a CRL names this certificate: at the latest it expires with its CA
            name, not_after = ArtifactId(ca.name, f"{serial:x}"), expiries.get(serial, ca.not_after)
        new_revocations.append(Revocation(serial, name, revocation.reason, revocation.at, not_after))
    no_longer_revoked = [row for row in rows if row.serial not in revocations and row.serial in recorded_serials]
    return new_revocations, [
        f"line {row.line} of index.txt: serial {row.serial:02X} was revoked; it stays revoked"
        for row in no_longer_revoked
    ]


def listed_revocations(crl: x509.CertificateRevocationList) -> Iterator[tuple[int, ImportedRevocation]]:
    """Yield serial number and revocation of each entry of a CRL."""
    for entry in crl:
        reason = entry_reason(entry)
        if reason in IMPORTED_REASONS:  # removeFromCRL revokes nothing
            yield entry.serial_number, ImportedRevocation(entry.revocation_date_utc, reason)


def _this_update(crl: x509.CertificateRevocationList) -> datetime:
    return crl.last_update_utc
