"""Record again what a ledger lost, or record that the operator accepts the loss."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sql
from cryptography import x509

from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.chain import append_all
from pki.ledger.database import DatabaseUser
from pki.ledger.listed_serials import last_number, listed_serials
from pki.ledger.rows import Record, as_hex, certificate_row, crl_row, decision_row, instant, revocation_row
from pki.ledger.tables import certificates, revocations
from pki.ledger.types import ACCEPTED, Head, RecoveredRevocations, Revocation
from pki.x509.revocation import crl_entry, crl_number


class SqlRecovery(DatabaseUser):
    """Adds to a ledger what it lost and what is still known from elsewhere.

    These methods do not call the guard, because the guard forbids recording in a ledger that lost events.
    """

    def create_empty(self) -> None:
        """Let the next call create an empty ledger that replaces a lost one."""
        self._database.create_empty()

    def record_authorities(
        self, authorities: Sequence[tuple[x509.Certificate, str, str]], *, reason: str, at: datetime
    ) -> None:
        """Record certificates of authorities that the ledger lost, each with its generation and the one of its issuer."""
        rows = list[Record]()
        for cert, name, issuer in authorities:
            generation = GenerationName.parse(name)
            artifact = ArtifactId("authority", generation.authority)
            rows.append(("certificate", artifact, certificate_row(cert, issuer, artifact, generation.profile, reason)))
        self._append(rows, at)

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, default_expiry: datetime, source: str, at: datetime
    ) -> RecoveredRevocations:
        """Record the revocations of a CRL of the project that the ledger lacks, and the CRL if its number is the highest.

        Everything is in one transaction. `default_expiry` is recorded for a certificate that the ledger does not know.
        """
        entries_by_serial = {entry.serial_number: entry for entry in crl}
        missing_serials = self._unrecorded(entries_by_serial, issuer)
        missing_entries = [crl_entry(entries_by_serial[serial]) for serial in missing_serials]
        revoked = [
            Revocation(entry.serial, f"serial {entry.serial:x}", entry.reason, entry.revoked_at, default_expiry)
            for entry in missing_entries
        ]
        records = self._records(revoked, issuer, source)
        number = crl_number(crl)
        with self._database.reading() as db:
            is_newest = number > (last_number(db, issuer) or 0)
            if is_newest:
                row = crl_row(crl, issuer, f"recovered from {source}", listed_serials(db, issuer))
                records.append(("crl", f"{ArtifactId('crl', issuer)}, recovered from {source}", row))
        self._append(records, at)
        return RecoveredRevocations(GenerationName.parse(issuer), number, missing_serials, is_newest)

    def record_older_revocations(
        self, revoked: Collection[Revocation], *, issuer: str, source: str, at: datetime
    ) -> tuple[int, ...]:
        """Record revocations of another ledger that this one lacks, in one transaction; returns their serial numbers."""
        by_serial = {revocation.serial: revocation for revocation in revoked}
        missing_serials = self._unrecorded(by_serial, issuer)
        self._append(self._records([by_serial[serial] for serial in missing_serials], issuer, source), at)
        return missing_serials

    def record_acceptance(self, lost: Sequence[Head], why: str, *, at: datetime) -> None:
        """Record that the operator accepted the loss of events that were observed earlier."""
        detail = "; ".join([why, *(f"event {head.seq} {head.hash} ({head.where})" for head in lost)])
        self._append([("decision", "ledger", decision_row("ledger", ACCEPTED, detail, at))], at)

    def _unrecorded(self, serials: Iterable[int], issuer: str) -> tuple[int, ...]:
        """Return the serial numbers that the ledger does not record as revoked."""
        with self._database.reading() as db:
            rows = db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars()
            recorded_serials = {int(serial, 16) for serial in rows}
        return tuple(serial for serial in serials if serial not in recorded_serials)

    def _records(self, missing: Sequence[Revocation], issuer: str, source: str) -> list[Record]:
        """Return the records of revocations that the ledger lacks; a certificate that it has gives artifact and expiry."""
        columns = certificates.c.serial, certificates.c.artifact, certificates.c.not_after
        query = sql.select(*columns).where(certificates.c.issuer == issuer)
        with self._database.reading() as db:
            issued = (
                {serial: (artifact, instant(not_after)) for serial, artifact, not_after in db.execute(query)}
                if missing
                else {}
            )
        records = list[Record]()
        for revocation in missing:
            as_recovered = revocation.artifact, revocation.not_after
            artifact, not_after = issued.get(as_hex(revocation.serial), as_recovered)
            row = revocation_row(replace(revocation, artifact=artifact, not_after=not_after), issuer)
            records.append(("revocation", f"{artifact}, recovered from {source}", row))
        return records

    def _append(self, records: Sequence[Record], at: datetime) -> None:
        if records:
            with self._database.writing() as db:
                append_all(db, records, at)
