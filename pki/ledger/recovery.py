"""Record again what a ledger lost, and accept the loss."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import sqlalchemy as sql
from cryptography import x509

from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.chain import append_all
from pki.ledger.database import DatabaseUser
from pki.ledger.listed import last_number, listed_serials
from pki.ledger.rows import Record, as_hex, certificate_row, crl_row, decision_row, instant, revocation_row
from pki.ledger.tables import certificates, revocations
from pki.ledger.types import ACCEPTED, Head, Recovered, Revocation
from pki.x509.revocation import CrlEntry, crl_entry, crl_number


class SqlRecovery(DatabaseUser):
    """Adds to a ledger with lost events what is known elsewhere, without the guard, which would forbid it."""

    def create_empty(self) -> None:
        """Let the next call create an empty ledger that replaces a lost one."""
        self._database.create_empty()

    def record_authorities(
        self, authorities: Sequence[tuple[x509.Certificate, str, str]], *, reason: str, at: datetime
    ) -> None:
        """Record certificates of authorities that the ledger lost, each with its generation and the one of its issuer."""
        rows = list[Record]()
        for cert, name, issuer in authorities:
            authority = GenerationName.parse(name).authority
            profile = authority if authority == "root" else f"{authority}-ca"
            artifact = ArtifactId("authority", authority)
            rows.append(("certificate", artifact, certificate_row(cert, issuer, artifact, profile, reason)))
        self._append(rows, at)

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, until: datetime, source: str, at: datetime
    ) -> Recovered:
        """Record the revocations of a CRL of the project that the ledger lacks, and the CRL if its number is the highest.

        Everything is in one transaction. A certificate that the ledger does not know is recorded as valid `until`.
        """
        revoked = {entry.serial_number: entry for entry in crl}
        missing = self._unrecorded(revoked, issuer)
        records = self._records([crl_entry(revoked[serial]) for serial in missing], issuer, until, source)
        number = crl_number(crl)
        with self._database.reading() as db:
            if is_newer := number > (last_number(db, issuer) or 0):
                newest = crl_row(crl, issuer, f"recovered from {source}", listed_serials(db, issuer))
                records.append(("crl", f"{ArtifactId('crl', issuer)}, recovered from {source}", newest))
        self._append(records, at)
        return Recovered(GenerationName.parse(issuer), number, missing, is_newer)

    def record_entries(
        self, entries: Collection[CrlEntry], *, issuer: str, until: datetime, source: str, at: datetime
    ) -> tuple[int, ...]:
        """Record revocations of another ledger that this one lacks; returns their serial numbers.

        Everything is in one transaction. A certificate that this ledger does not know is recorded as valid `until`.
        """
        revoked = {entry.serial: entry for entry in entries}
        missing = self._unrecorded(revoked, issuer)
        self._append(self._records([revoked[serial] for serial in missing], issuer, until, source), at)
        return missing

    def record_acceptance(self, lost: Sequence[Head], why: str, *, at: datetime) -> None:
        """Record that the operator accepted the loss of events that were observed earlier."""
        detail = "; ".join([why, *(f"event {head.seq} {head.hash} ({head.where})" for head in lost)])
        self._append([("decision", "ledger", decision_row("ledger", ACCEPTED, detail, at))], at)

    def _unrecorded(self, serials: Iterable[int], issuer: str) -> tuple[int, ...]:
        """Return the serial numbers that the ledger does not record as revoked."""
        with self._database.reading() as db:
            rows = db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars()
            recorded = {int(serial, 16) for serial in rows}
        return tuple(serial for serial in serials if serial not in recorded)

    def _records(self, missing: Sequence[CrlEntry], issuer: str, until: datetime, source: str) -> list[Record]:
        """Return the records of revocations that the ledger lacks."""
        columns = certificates.c.serial, certificates.c.artifact, certificates.c.not_after
        query = sql.select(*columns).where(certificates.c.issuer == issuer)
        with self._database.reading() as db:
            issued = {serial: (name, instant(end)) for serial, name, end in db.execute(query)} if missing else {}
        records = list[Record]()
        for entry in missing:
            artifact, end = issued.get(as_hex(entry.serial), (f"serial {entry.serial:x}", until))
            row = revocation_row(Revocation(entry.serial, artifact, entry.reason, entry.revoked_at, end), issuer)
            records.append(("revocation", f"{artifact}, recovered from {source}", row))
        return records

    def _append(self, records: Sequence[Record], at: datetime) -> None:
        if records:
            with self._database.writing() as db:
                append_all(db, records, at)
