"""The ledger in SQL: every certificate, revocation, CRL number and decision, recorded before its files are written.

Rows are only added. Each addition is one transaction with its event, and each event contains the hash of the previous
one, so `verify` finds a row that was changed, removed or inserted later. The database is SQLite (WAL, synchronous=FULL)
or any other that SQLAlchemy supports. Times are whole seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sql
from cryptography import x509
from sqlalchemy.engine import Connection

from pki.common.errors import LedgerError
from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger.chain import READ_HEAD, append, append_all, find_faults
from pki.ledger.database import Database
from pki.ledger.heads import contains_or_accepted, write_head
from pki.ledger.listed import has_recorded_crl, listed_serials
from pki.ledger.rows import (
    Row,
    as_hex,
    certificate_row,
    checked_integer,
    checked_text,
    crl_number,
    crl_row,
    entry_reason,
    instant,
    issuance_rows,
    issued_from_row,
)
from pki.ledger.tables import certificates, crls, decisions, events, is_ours, revocations
from pki.ledger.types import (
    ACCEPTED,
    DECISIONS,
    NEWEST_MISSING,
    RESTORE_DATABASE,
    RESTORE_FILE,
    Decision,
    Event,
    Head,
    IssuanceRecords,
    Issued,
    Recovered,
)
from pki.x509.revocation import REASONS, CrlEntry

MOST_SELECTED_SERIALS = 500  # in one statement; for more of them, reading every row is faster


class SqlLedger:
    """The ledger of one project. It is opened at its first use, and once in each forked process.

    `address` is `sqlite` or a SQLAlchemy URL, `folder` is `ca/`. `guard` raises LedgerError if nothing must be recorded;
    methods that recover a ledger ignore it. `before_writing` raises an error to forbid every recording. `is_copy` opens a
    copy from a backup, in its own folder.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        guard: Callable[[], None] = lambda: None,
        before_writing: Callable[[], None] = lambda: None,
        *,
        is_copy: bool = False,
    ) -> None:
        self._database = Database(address, folder, before_writing, is_copy=is_copy)
        self._folder = folder
        self._guard = guard
        self._has_recorded = False

    @contextmanager
    def _recording(self) -> Iterator[Connection]:
        """Run a transaction that adds to the ledger. Raises LedgerError if the guard forbids it."""
        self._guard()
        with self._database.writing() as db:
            yield db
        self._has_recorded = True

    @contextmanager
    def _recovering(self) -> Iterator[Connection]:
        """Run a transaction that adds to a ledger with lost events, without asking the guard."""
        with self._database.writing() as db:
            yield db
        self._has_recorded = True

    # -- record --

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
        withhold: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Record revocations; `reason` is one of REASONS.

        `withhold` maps the artifacts whose replacement is stopped to the detail of that decision. Everything is in one
        transaction: a killed process cannot leave a revoked certificate whose replacement a run would issue.
        """
        if reason not in REASONS:
            raise LedgerError(f"{reason}: expected one of {', '.join(REASONS)}")
        revoked_at = int(at.timestamp())
        records = list[tuple[str, str, Row]]()
        for issued in revoked:
            dates = {"revoked_at": revoked_at, "not_after": int(issued.not_after.timestamp())}
            row = {"serial": as_hex(issued.serial), "issuer": issued.issuer, "reason": reason, **dates}
            records.append(("revocation", issued.artifact, row))
        for artifact, detail in withhold.items():
            row = {"artifact": artifact, "decision": "withheld", "detail": detail, "at": revoked_at}
            records.append(("decision", artifact, row))
        with self._recording() as db:
            for kind, artifact, row in records:
                is_this = revocations.c.issuer == row.get("issuer"), revocations.c.serial == row.get("serial")
                if kind == "revocation" and db.execute(sql.select(revocations.c.seq).where(*is_this)).first():
                    raise LedgerError(f"{artifact}: serial {row['serial']} is already revoked")
            append_all(db, records, at)

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime, der: bytes = b""
    ) -> None:
        """Record a CRL: its number, dates, digest, and the difference of its entries to the previous CRL.

        Raises LedgerError unless the number is above the last one (RFC 5280 §5.2.3). `der` is the encoded CRL if it is
        available.
        """
        with self._recording() as db:
            row = crl_row(crl, issuer, reason, listed_serials(db, issuer), der)
            last = db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()
            if last is not None and row["number"] <= last:
                raise LedgerError(
                    f"{ArtifactId('crl', issuer)}: number {row['number']} is not above the last number {last}"
                )
            append(db, "crl", ArtifactId("crl", issuer), row, at)

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None:
        """Record a decision about an artifact; `decision` is one of DECISIONS."""
        if decision not in DECISIONS:
            raise LedgerError(f"{decision}: expected one of {', '.join(DECISIONS)}")
        row = {"artifact": artifact, "decision": decision, "detail": detail, "at": int(at.timestamp())}
        with self._recording() as db:
            append(db, "decision", artifact, row, at)

    def record_issuance_records(self, issuance_records: IssuanceRecords, *, at: datetime) -> None:
        """Record what an adopted CA issued and revoked, in one transaction."""
        if issuance_records.certificates or issuance_records.revocations or issuance_records.last_crl:
            with self._recording() as db:
                append_all(db, list(issuance_rows(issuance_records, listed_serials(db, issuance_records.issuer))), at)

    def record_recovered(
        self, crl: x509.CertificateRevocationList, *, issuer: str, until: datetime, source: str, at: datetime
    ) -> Recovered:
        """Record the revocations of a CRL of the project that the ledger lacks, and the CRL if its number is the highest.

        Everything is in one transaction. A certificate that the ledger does not know is recorded as valid `until`.
        """
        with self._database.reading() as db:
            revoked = set(db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars())
            missing = {serial: entry for entry in crl if (serial := as_hex(entry.serial_number)) not in revoked}
            artifacts = _artifacts(db, issuer) if missing else {}
            last = db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()
        records = list[tuple[str, str, Row]]()
        for serial, entry in missing.items():
            artifact, not_after = artifacts.get(serial, (f"serial {serial.lstrip('0')}", int(until.timestamp())))
            dates = {"revoked_at": int(entry.revocation_date_utc.timestamp()), "not_after": not_after}
            row = {"serial": serial, "issuer": issuer, "reason": entry_reason(entry), **dates}
            records.append(("revocation", f"{artifact}, recovered from {source}", row))
        number = crl_number(crl)
        if is_newer := number > (last or 0):
            with self._database.reading() as db:
                newest = crl_row(crl, issuer, f"recovered from {source}", listed_serials(db, issuer))
            records.append(("crl", f"{ArtifactId('crl', issuer)}, recovered from {source}", newest))
        if records:
            with self._recovering() as db:
                append_all(db, records, at)
        return Recovered(GenerationName.parse(issuer), number, tuple(int(serial, 16) for serial in missing), is_newer)

    def record_authorities(
        self, authorities: Sequence[tuple[x509.Certificate, str, str]], *, reason: str, at: datetime
    ) -> None:
        """Record certificates of authorities that the ledger lost, each with its generation and the one of its issuer."""
        rows = list[tuple[str, str, Row]]()
        for cert, name, issuer in authorities:
            authority = GenerationName.parse(name).authority
            profile = authority if authority == "root" else f"{authority}-ca"
            artifact = ArtifactId("authority", authority)
            rows.append(("certificate", artifact, certificate_row(cert, issuer, artifact, profile, reason)))
        if rows:
            with self._recovering() as db:
                append_all(db, rows, at)

    def record_acceptance(self, lost: Sequence[Head], why: str, *, at: datetime) -> None:
        """Record that the operator accepted the loss of events that were observed earlier."""
        detail = "; ".join([why, *(f"event {head.seq} {head.hash} ({head.where})" for head in lost)])
        row = {"artifact": "ledger", "decision": ACCEPTED, "detail": detail, "at": int(at.timestamp())}
        with self._recovering() as db:
            append(db, "decision", "ledger", row, at)

    def create_empty(self) -> None:
        """Let the next call create an empty ledger that replaces a lost one."""
        self._database.create_empty()

    def record_entries(
        self, entries: Collection[CrlEntry], *, issuer: str, until: datetime, source: str, at: datetime
    ) -> tuple[int, ...]:
        """Record revocations of another ledger that this one lacks; returns their serial numbers.

        Everything is in one transaction. A certificate that this ledger does not know is recorded as valid `until`.
        """
        with self._database.reading() as db:
            revoked = set(db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars())
            artifacts = _artifacts(db, issuer)
        missing = {serial: entry for entry in entries if (serial := as_hex(entry.serial)) not in revoked}
        records = list[tuple[str, str, Row]]()
        for serial, entry in missing.items():
            artifact, not_after = artifacts.get(serial, (f"serial {serial.lstrip('0')}", int(until.timestamp())))
            dates = {"revoked_at": int(entry.revoked_at.timestamp()), "not_after": not_after}
            row = {"serial": serial, "issuer": issuer, "reason": entry.reason, **dates}
            records.append(("revocation", f"{artifact}, recovered from {source}", row))
        if records:
            with self._recovering() as db:
                append_all(db, records, at)
        return tuple(entry.serial for entry in missing.values())

    # -- query --

    def decisions(self, *, artifact: str | None = None) -> list[Decision]:
        """Return the decisions, oldest first: all, or those about one artifact."""
        query = sql.select(decisions).order_by(decisions.c.seq)
        if artifact is not None:
            query = query.where(decisions.c.artifact == artifact)
        with self._database.reading() as db:
            return [
                Decision(
                    ArtifactId.parse(checked_text(r.artifact)),
                    checked_text(r.decision),
                    checked_text(r.detail),
                    instant(r.at),
                )
                for r in db.execute(query)
            ]

    def certificates(
        self,
        *,
        artifact: str | None = None,
        serial: int | None = None,
        since: datetime | None = None,
        issuer: str | None = None,
    ) -> list[Issued]:
        """Return certificates, oldest first, filtered by artifact, serial, issuer, and expiry at or after `since`."""
        is_its_own = (certificates.c.issuer == revocations.c.issuer) & (certificates.c.serial == revocations.c.serial)
        issuing, revoking = events.alias(), events.alias()
        columns = revocations.c.reason.label("revoked"), issuing.c.actor, revoking.c.actor.label("revoker")
        query = sql.select(certificates, *columns).select_from(
            certificates.outerjoin(revocations, is_its_own)
            .outerjoin(issuing, issuing.c.seq == certificates.c.seq)
            .outerjoin(revoking, revoking.c.seq == revocations.c.seq)
        )
        if issuer is not None:
            query = query.where(certificates.c.issuer == issuer)
        if artifact is not None:
            query = query.where(certificates.c.artifact == artifact)
        if serial is not None:
            query = query.where(certificates.c.serial == as_hex(serial))
        if since is not None:
            query = query.where(certificates.c.not_after >= int(since.timestamp()))
        with self._database.reading() as db:
            return [issued_from_row(dict(row)) for row in db.execute(query.order_by(certificates.c.seq)).mappings()]

    def revoked_serials(self, since: datetime, *, issuer: str = "") -> frozenset[int]:
        """Return the serial numbers of revoked certificates that expire at or after `since`.

        They are those of one `issuer`, or by default of all CAs of the project: serial numbers of adopted CAs, which
        often start at 1, could equal them.
        """
        is_meant = revocations.c.issuer == issuer if issuer else is_ours(revocations)
        return self._serials(revocations, revocations.c.not_after >= int(since.timestamp()), is_meant)

    def expired_serials(self, before: datetime) -> frozenset[int]:
        """Return the serial numbers of certificates of the project's own CAs that expired before `before`."""
        has_ended = certificates.c.not_after < int(before.timestamp())
        return self._serials(certificates, has_ended, is_ours(certificates))

    def _serials(self, table: sql.Table, *conditions: sql.ColumnElement[bool]) -> frozenset[int]:
        """Return the serial numbers of a query. The database joins them to one text: 3 times as fast as 100 000 rows."""
        query = sql.select(sql.func.aggregate_strings(table.c.serial, " ")).where(*conditions)
        with self._database.reading() as db:
            return frozenset(int(serial, 16) for serial in (db.execute(query).scalar() or "").split())

    def revoked_entries(
        self, issuer: str, still_valid_at: datetime, *, only: Collection[int] | None = None
    ) -> list[CrlEntry]:
        """Return the entries of a CRL of `issuer`: revocations of certificates that had not expired at the given time.

        Restricted to the serial numbers in `only`, if given.
        """
        serials = None if only is None or len(only) > MOST_SELECTED_SERIALS else [as_hex(serial) for serial in only]
        columns = revocations.c.serial, revocations.c.revoked_at, revocations.c.reason
        query = (
            sql.select(*columns)
            .where(revocations.c.issuer == issuer, revocations.c.not_after >= int(still_valid_at.timestamp()))
            .order_by(revocations.c.seq)
        )
        if serials is not None:
            query = query.where(revocations.c.serial.in_(serials))
        with self._database.reading() as db:
            rows = db.execute(query).all()
            dates = {at: instant(at) for _, at, _ in rows}
            entries = [CrlEntry(int(serial, 16), dates[at], checked_text(reason)) for serial, at, reason in rows]
        return entries if only is None else [entry for entry in entries if entry.serial in only]

    def has_issuance_records(self, issuer: str) -> bool:
        """Return whether any issuance records of an adopted CA are recorded."""
        with self._database.reading() as db:
            return any(
                db.execute(sql.select(table.c.seq).where(table.c.issuer == issuer)).first()
                for table in (certificates, revocations, crls)
            )

    def last_crl(self, issuer: str, *, begun: datetime | None = None) -> tuple[int, datetime] | None:
        """Return number and thisUpdate of the newest CRL of a generation, of those with thisUpdate up to `begun`, or None."""
        query = sql.select(crls.c.number, crls.c.this_update).where(crls.c.issuer == issuer)
        if begun is not None:
            query = query.where(crls.c.this_update <= int(begun.timestamp()))
        with self._database.reading() as db:
            row = db.execute(query.order_by(crls.c.number.desc()).limit(1)).first()
            return (checked_integer(row.number), instant(row.this_update)) if row else None

    def has_crl(self, issuer: str, number: int) -> bool:
        """Return whether a CRL of a generation with this number is recorded."""
        query = sql.select(crls.c.seq).where(crls.c.issuer == issuer, crls.c.number == number)
        with self._database.reading() as db:
            return db.execute(query).first() is not None

    def events(self, last: int | None = None) -> list[Event]:
        """Return the events, oldest first: all, or the `last` ones."""
        query = sql.select(events).order_by(events.c.seq.desc())
        with self._database.reading() as db:
            rows = db.execute(query.limit(last) if last else query).all()
            return [_event_of(row) for row in reversed(rows)]

    def newest_event(self) -> Event | None:
        """Return the newest event, or None. Raises LedgerError if the head names another one: then events are missing."""
        newest = sql.select(events).order_by(events.c.seq.desc()).limit(1)
        with self._database.reading() as db:
            row, top = db.execute(newest).first(), db.execute(READ_HEAD).one()
            event = _event_of(row) if row else None
        if (row.seq, row.hash) != (top.seq, top.hash) if row else top.seq:
            text = f"{self._database.place}: its newest events are missing"
            raise LedgerError(text, RESTORE_FILE if self._database.is_sqlite else RESTORE_DATABASE, NEWEST_MISSING)
        return event

    def head(self) -> Head:
        """Return number and hash of the newest event from the head."""
        with self._database.reading() as db:
            row = db.execute(READ_HEAD).one()
            return Head(checked_integer(row.seq), checked_text(row.hash))

    def missing_heads(self, observed: Sequence[Head]) -> list[Head]:
        """Return the observed heads that the ledger does not contain and whose loss was not accepted."""
        with self._database.reading() as db:
            return [head for head in observed if not contains_or_accepted(db, head)]

    def has_recorded(self, issuer: str, der: bytes) -> bool:
        """Return whether exactly this CRL of a generation was recorded."""
        with self._database.reading() as db:
            return has_recorded_crl(db, issuer, der)

    def counts(self) -> tuple[int, int]:
        """Return the number of recorded certificates and of recorded revocations."""
        with self._database.reading() as db:
            results = [
                db.execute(sql.select(sql.func.count()).select_from(table)) for table in (certificates, revocations)
            ]
            return results[0].scalar_one(), results[1].scalar_one()

    def verify(self) -> list[str]:
        """Recompute every hash; returns the faults, one text each, or an empty list for an intact ledger."""
        with self._database.reading() as db:
            chain_faults = list(find_faults(db))
        return chain_faults + self._database.find_damage()

    def close(self) -> None:
        """Close the database, after writing the new head to `ca/`; its next use opens it again."""
        if self._has_recorded:
            self.write_head()
        self._database.close()

    def write_head(self) -> None:
        """Write the head of the ledger to `ca/`, to detect an older copy of the ledger later."""
        with self._database.reading() as db:
            write_head(db, self._folder)
        self._has_recorded = False


def _event_of(row: sql.Row[Any]) -> Event:
    return Event(
        row.seq,
        instant(row.at),
        checked_text(row.kind),
        checked_text(row.subject),
        checked_text(row.hash),
        checked_text(row.actor or ""),
    )


def _artifacts(db: Connection, issuer: str) -> dict[str, tuple[str, int]]:
    """Return serial number → artifact and notAfter (seconds) of every certificate of a generation."""
    columns = certificates.c.serial, certificates.c.artifact, certificates.c.not_after
    rows = db.execute(sql.select(*columns).where(certificates.c.issuer == issuer))
    return {serial: (artifact, not_after) for serial, artifact, not_after in rows}
