"""Record what is issued, revoked and decided, each in one transaction with its event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType

import sqlalchemy as sql
from cryptography import x509
from sqlalchemy.engine import Connection

from pki.common.errors import LedgerError
from pki.config.identifiers import ArtifactId
from pki.ledger.chain import append, append_all
from pki.ledger.database import Database, DatabaseUser
from pki.ledger.listed_serials import last_number, listed_serials
from pki.ledger.rows import Record, as_hex, certificate_row, crl_row, decision_row, issuance_rows, revocation_row
from pki.ledger.tables import revocations
from pki.ledger.types import DECISIONS, IssuanceRecords, Issued, Revocation
from pki.x509.revocation import REASONS


class SqlRecorder(DatabaseUser):
    """Adds to the ledger, unless `guard` raises LedgerError: then nothing may be recorded."""

    def __init__(self, database: Database, guard: Callable[[], None]) -> None:
        super().__init__(database)
        self._guard = guard

    @contextmanager
    def _recording(self) -> Iterator[Connection]:
        """Run a transaction that adds to the ledger. Raises LedgerError if the guard forbids it."""
        self._guard()
        with self._database.writing() as db:
            yield db

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None:
        """Record an issued certificate; returns when the record is durable."""
        row = certificate_row(cert, issuer, artifact, profile, reason)
        with self._recording() as db:
            append(db, "certificate", artifact, row, at)

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None:
        """Record that a certificate is revoked; `reason` is one of REASONS."""
        self.record_revocations([issued], reason=reason, at=at)

    def record_revocations(
        self,
        revoked: Sequence[Issued],
        *,
        reason: str,
        at: datetime,
        stop_replacement: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Record revocations; `reason` is one of REASONS.

        `stop_replacement` names the artifacts that no run may issue again, each with the detail of that decision for the ledger.
        (`--no-replace`). Both are recorded in one transaction. In two, a process that is killed in between would leave a
        revocation without its decision, and the next run would issue the replacement.
        """
        if reason not in REASONS:
            raise LedgerError(f"{reason}: expected one of {', '.join(REASONS)}")
        records = list[Record]()
        for certificate in revoked:
            revocation = Revocation(certificate.serial, certificate.artifact, reason, at, certificate.not_after)
            records.append(("revocation", certificate.artifact, revocation_row(revocation, certificate.issuer)))
        for artifact, detail in stop_replacement.items():
            records.append(("decision", artifact, decision_row(artifact, "withheld", detail, at)))
        with self._recording() as db:
            for certificate in revoked:
                if _is_revoked(db, certificate.issuer, as_hex(certificate.serial)):
                    raise LedgerError(f"{certificate.artifact}: serial {as_hex(certificate.serial)} is already revoked")
            append_all(db, records, at)

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime, der: bytes = b""
    ) -> None:
        """Record a CRL: its number, dates, digest, and how its entries differ from those of the previous CRL.

        Raises LedgerError unless the number is above the last one (RFC 5280 §5.2.3). `der` is the encoded CRL;
        without it, the CRL is encoded again.
        """
        with self._recording() as db:
            row = crl_row(crl, issuer, reason, listed_serials(db, issuer), der)
            last_crl_number = last_number(db, issuer)
            if last_crl_number is not None and row["number"] <= last_crl_number:
                raise LedgerError(
                    f"{ArtifactId('crl', issuer)}: number {row['number']} is not above the last number {last_crl_number}"
                )
            append(db, "crl", ArtifactId("crl", issuer), row, at)

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None:
        """Record a decision about an artifact; `decision` is one of DECISIONS."""
        if decision not in DECISIONS:
            raise LedgerError(f"{decision}: expected one of {', '.join(DECISIONS)}")
        with self._recording() as db:
            append(db, "decision", artifact, decision_row(artifact, decision, detail, at), at)

    def record_adopted_ca(self, issuance_records: IssuanceRecords, *, at: datetime) -> None:
        """Record what an adopted CA issued and revoked, in one transaction."""
        if issuance_records.certificates or issuance_records.revocations or issuance_records.last_crl:
            with self._recording() as db:
                append_all(db, list(issuance_rows(issuance_records, listed_serials(db, issuance_records.issuer))), at)


def _is_revoked(db: Connection, issuer: str, serial: str) -> bool:
    """Return whether the ledger has a revocation of the certificate with this issuer and serial number."""
    conditions = revocations.c.issuer == issuer, revocations.c.serial == serial
    return db.execute(sql.select(revocations.c.seq).where(*conditions)).first() is not None
