"""Every certificate issued and revoked, every CRL number, what people decided: recorded before anything of it is visible.

Rows are only ever added. Each addition is one transaction with its event, and each event holds the hash of the one
before it, so a row that was changed, removed or slipped in later is found by `verify`. SQLite by default (WAL,
synchronous=FULL); any database that SQLAlchemy speaks otherwise. Instants are whole seconds since 1970, UTC.
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
from pki.ledger.chain import READ_HEAD, append, append_all, faults
from pki.ledger.database import Database
from pki.ledger.heads import holds, note
from pki.ledger.listed import is_recorded, listed
from pki.ledger.rows import (
    Row,
    as_hex,
    certificate_row,
    crl_row,
    instant,
    integer_of,
    issued_of,
    number_of,
    reason_of,
    rows_of,
    text_of,
)
from pki.ledger.tables import certificates, crls, decisions, events, is_ours, revocations
from pki.ledger.types import (
    ACCEPTED,
    DECISIONS,
    NEWEST_MISSING,
    PUT_BACK,
    PUT_BACK_DATABASE,
    Decision,
    Event,
    Head,
    IssuanceRecords,
    Issued,
    Recovered,
)
from pki.x509.revocation import REASONS, CrlEntry

ASKED_ONE_BY_ONE = 500  # serial numbers in one statement; with more of them, reading every row is quicker


class SqlLedger:
    """The ledger of one project. Opened when first asked, and once more in each process that a run forks.

    `guard` raises LedgerError where nothing may be recorded; what recovers a ledger is recorded nevertheless. Nothing at
    all is recorded where `before_writing` raises.
    `is_copy` opens one of a backup, in a folder of its own.
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
        """A transaction that adds to the ledger, if the guard lets it."""
        self._guard()
        with self._database.writing() as db:
            yield db
        self._has_recorded = True

    @contextmanager
    def _recovering(self) -> Iterator[Connection]:
        """A transaction that adds to a ledger of which something is lost."""
        with self._database.writing() as db:
            yield db
        self._has_recorded = True

    # -- adding --

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None:
        """Record an issued certificate; returns when it is durable."""
        row = certificate_row(cert, issuer, artifact, profile, reason)
        with self._recording() as db:
            append(db, "certificate", artifact, row, at)

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None:
        """Record that a certificate is revoked; `reason` is one of REASONS."""
        self.record_revocations([issued], reason=reason, at=at)

    def record_revocations(
        self, going: Sequence[Issued], *, reason: str, at: datetime, withhold: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Record that certificates are revoked, and which artifacts nothing is to replace, each with the detail of that.

        All of it in one transaction: a process that is killed leaves no revoked certificate that a run would replace.
        """
        if reason not in REASONS:
            raise LedgerError(f"{reason}: expected one of {', '.join(REASONS)}")
        revoked_at = int(at.timestamp())
        found = list[tuple[str, str, Row]]()
        for issued in going:
            dates = {"revoked_at": revoked_at, "not_after": int(issued.not_after.timestamp())}
            row = {"serial": as_hex(issued.serial), "issuer": issued.issuer, "reason": reason, **dates}
            found.append(("revocation", issued.artifact, row))
        for artifact, detail in withhold.items():
            row = {"artifact": artifact, "decision": "withheld", "detail": detail, "at": revoked_at}
            found.append(("decision", artifact, row))
        with self._recording() as db:
            for kind, artifact, row in found:
                is_this = revocations.c.issuer == row.get("issuer"), revocations.c.serial == row.get("serial")
                if kind == "revocation" and db.execute(sql.select(revocations.c.seq).where(*is_this)).first():
                    raise LedgerError(f"{artifact}: serial {row['serial']} is revoked already")
            append_all(db, found, at)

    def record_crl(
        self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime, der: bytes = b""
    ) -> None:
        """Record a CRL: number, dates, digest, and how its entries differ from those of the last one."""
        with self._recording() as db:
            row = crl_row(crl, issuer, reason, listed(db, issuer), der)
            last = db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()
            if last is not None and row["number"] <= last:
                raise LedgerError(
                    f"{ArtifactId('crl', issuer)}: number {row['number']} is not above the last one, {last}"
                )
            append(db, "crl", ArtifactId("crl", issuer), row, at)

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None:
        """Record what a person decided or did about an artifact; `decision` is one of DECISIONS."""
        if decision not in DECISIONS:
            raise LedgerError(f"{decision}: expected one of {', '.join(DECISIONS)}")
        row = {"artifact": artifact, "decision": decision, "detail": detail, "at": int(at.timestamp())}
        with self._recording() as db:
            append(db, "decision", artifact, row, at)

    def take_in(self, issuance_records: IssuanceRecords, *, at: datetime) -> None:
        """Record what an adopted CA issued and revoked: all of it in one transaction, each row with its event."""
        if issuance_records.certificates or issuance_records.revocations or issuance_records.last_crl:
            with self._recording() as db:
                append_all(db, list(rows_of(issuance_records, listed(db, issuance_records.issuer))), at)

    def record_recovered(
        self, crl: x509.CertificateRevocationList, *, issuer: str, until: datetime, source: str, at: datetime
    ) -> Recovered:
        """Record what a CRL of our own revokes and the ledger does not know, and the CRL when it is newer than all.

        All of it in one transaction. A certificate that is not known either counts as valid `until`.
        """
        with self._database.reading() as db:
            revoked = set(db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars())
            missing = {serial: entry for entry in crl if (serial := as_hex(entry.serial_number)) not in revoked}
            known = _artifacts(db, issuer) if missing else {}
            last = db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()
        found = list[tuple[str, str, Row]]()
        for serial, entry in missing.items():
            artifact, not_after = known.get(serial, (f"serial {serial.lstrip('0')}", int(until.timestamp())))
            dates = {"revoked_at": int(entry.revocation_date_utc.timestamp()), "not_after": not_after}
            row = {"serial": serial, "issuer": issuer, "reason": reason_of(entry), **dates}
            found.append(("revocation", f"{artifact}, recovered from {source}", row))
        number = number_of(crl)
        if is_newer := number > (last or 0):
            with self._database.reading() as db:
                newest = crl_row(crl, issuer, f"recovered from {source}", listed(db, issuer))
            found.append(("crl", f"{ArtifactId('crl', issuer)}, recovered from {source}", newest))
        if found:
            with self._recovering() as db:
                append_all(db, found, at)
        return Recovered(GenerationName.parse(issuer), number, tuple(int(serial, 16) for serial in missing), is_newer)

    def record_known(self, found: Sequence[tuple[x509.Certificate, str, str]], *, reason: str, at: datetime) -> None:
        """Record certificates of authorities that the ledger lost: each with its generation and that of its issuer."""
        rows = list[tuple[str, str, Row]]()
        for cert, name, issuer in found:
            authority = GenerationName.parse(name).authority
            profile = authority if authority == "root" else f"{authority}-ca"
            artifact = ArtifactId("authority", authority)
            rows.append(("certificate", artifact, certificate_row(cert, issuer, artifact, profile, reason)))
        if rows:
            with self._recovering() as db:
                append_all(db, rows, at)

    def record_acceptance(self, lost: Sequence[Head], why: str, *, at: datetime) -> None:
        """Record that events which were seen once are lost, and that the ledger goes on without them."""
        detail = "; ".join([why, *(f"event {one.seq} {one.hash} ({one.where})" for one in lost)])
        row = {"artifact": "ledger", "decision": ACCEPTED, "detail": detail, "at": int(at.timestamp())}
        with self._recovering() as db:
            append(db, "decision", "ledger", row, at)

    def begin_again(self) -> None:
        """Create an empty ledger in place of one that is lost; the next call that asks does it."""
        self._database.begin_again()

    def record_entries(
        self, entries: Collection[CrlEntry], *, issuer: str, until: datetime, source: str, at: datetime
    ) -> tuple[int, ...]:
        """Record revocations that another ledger knew and this one does not; returns their serial numbers.

        All of them in one transaction. A certificate that is not known counts as valid `until`.
        """
        with self._database.reading() as db:
            revoked = set(db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars())
            known = _artifacts(db, issuer)
        missing = {serial: one for one in entries if (serial := as_hex(one.serial)) not in revoked}
        found = list[tuple[str, str, Row]]()
        for serial, one in missing.items():
            artifact, not_after = known.get(serial, (f"serial {serial.lstrip('0')}", int(until.timestamp())))
            dates = {"revoked_at": int(one.revoked_at.timestamp()), "not_after": not_after}
            row = {"serial": serial, "issuer": issuer, "reason": one.reason, **dates}
            found.append(("revocation", f"{artifact}, recovered from {source}", row))
        if found:
            with self._recovering() as db:
                append_all(db, found, at)
        return tuple(one.serial for one in missing.values())

    # -- asking --

    def decisions(self, *, artifact: str | None = None) -> list[Decision]:
        """What was decided, oldest first: about everything, or about one artifact."""
        query = sql.select(decisions).order_by(decisions.c.seq)
        if artifact is not None:
            query = query.where(decisions.c.artifact == artifact)
        with self._database.reading() as db:
            return [
                Decision(ArtifactId.parse(text_of(r.artifact)), text_of(r.decision), text_of(r.detail), instant(r.at))
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
        """Certificates, oldest first: all, or those of one artifact or issuer, with one serial, that end after `since`."""
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
            return [issued_of(dict(row)) for row in db.execute(query.order_by(certificates.c.seq)).mappings()]

    def revoked_serials(self, since: datetime, *, issuer: str = "") -> frozenset[int]:
        """Serial numbers of revoked certificates that end after `since`: of one generation, or of all that are our own.

        Those of adopted CAs count by themselves, mostly from 1, and say nothing about ours.
        """
        is_meant = revocations.c.issuer == issuer if issuer else is_ours(revocations)
        return self._serials(revocations, revocations.c.not_after >= int(since.timestamp()), is_meant)

    def ended_serials(self, before: datetime) -> frozenset[int]:
        """Serial numbers of this project's own certificates that ended `before`."""
        has_ended = certificates.c.not_after < int(before.timestamp())
        return self._serials(certificates, has_ended, is_ours(certificates))

    def _serials(self, table: sql.Table, *conditions: sql.ColumnElement[bool]) -> frozenset[int]:
        """One text from the database: a hundred thousand rows of one value each take three times as long."""
        query = sql.select(sql.func.aggregate_strings(table.c.serial, " ")).where(*conditions)
        with self._database.reading() as db:
            return frozenset(int(serial, 16) for serial in (db.execute(query).scalar() or "").split())

    def revoked(self, issuer: str, still_valid_at: datetime, *, only: Collection[int] | None = None) -> list[CrlEntry]:
        """What belongs on a CRL of `issuer`: revocations of certificates that had not expired at the given time.

        Of `only` these serial numbers, where they are given.
        """
        serials = None if only is None or len(only) > ASKED_ONE_BY_ONE else [as_hex(serial) for serial in only]
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
            found = [CrlEntry(int(serial, 16), dates[at], text_of(reason)) for serial, at, reason in rows]
        return found if only is None else [entry for entry in found if entry.serial in only]

    def has_issuance_records(self, issuer: str) -> bool:
        """Whether anything that an adopted CA issued or revoked was taken in."""
        with self._database.reading() as db:
            return any(
                db.execute(sql.select(table.c.seq).where(table.c.issuer == issuer)).first()
                for table in (certificates, revocations, crls)
            )

    def last_crl(self, issuer: str, *, begun: datetime | None = None) -> tuple[int, datetime] | None:
        """Number and thisUpdate of the newest CRL of a generation; of those that had `begun` by then, where it is given."""
        query = sql.select(crls.c.number, crls.c.this_update).where(crls.c.issuer == issuer)
        if begun is not None:
            query = query.where(crls.c.this_update <= int(begun.timestamp()))
        with self._database.reading() as db:
            row = db.execute(query.order_by(crls.c.number.desc()).limit(1)).first()
            return (integer_of(row.number), instant(row.this_update)) if row else None

    def has_crl(self, issuer: str, number: int) -> bool:
        """Whether a CRL of a generation was recorded under a number."""
        query = sql.select(crls.c.seq).where(crls.c.issuer == issuer, crls.c.number == number)
        with self._database.reading() as db:
            return db.execute(query).first() is not None

    def events(self, last: int | None = None) -> list[Event]:
        """The event log, oldest first, or its `last` events."""
        query = sql.select(events).order_by(events.c.seq.desc())
        with self._database.reading() as db:
            rows = db.execute(query.limit(last) if last else query).all()
            return [_event_of(row) for row in reversed(rows)]

    def newest(self) -> Event | None:
        """The newest event. Raises LedgerError when the head does not say that it is."""
        newest = sql.select(events).order_by(events.c.seq.desc()).limit(1)
        with self._database.reading() as db:
            row, top = db.execute(newest).first(), db.execute(READ_HEAD).one()
            event = _event_of(row) if row else None
        if (row.seq, row.hash) != (top.seq, top.hash) if row else top.seq:
            text = f"{self._database.place}: its newest events are missing"
            raise LedgerError(text, PUT_BACK if self._database.is_sqlite else PUT_BACK_DATABASE, NEWEST_MISSING)
        return event

    def head(self) -> Head:
        """Number and hash of the newest event, as the head says."""
        with self._database.reading() as db:
            row = db.execute(READ_HEAD).one()
            return Head(integer_of(row.seq), text_of(row.hash))

    def lacks(self, seen: Sequence[Head]) -> list[Head]:
        """Return those of some heads that the ledger does not contain, and whose loss was not accepted."""
        with self._database.reading() as db:
            return [one for one in seen if not holds(db, one)]

    def has_recorded(self, issuer: str, der: bytes) -> bool:
        """Return whether exactly this CRL of a generation was recorded."""
        with self._database.reading() as db:
            return is_recorded(db, issuer, der)

    def counts(self) -> tuple[int, int]:
        """How many certificates were ever recorded, and how many revocations."""
        with self._database.reading() as db:
            found = [db.execute(sql.select(sql.func.count()).select_from(one)) for one in (certificates, revocations)]
            return found[0].scalar_one(), found[1].scalar_one()

    def verify(self) -> list[str]:
        """Recompute every hash; returns what is wrong, one sentence each. Empty means that nothing is."""
        with self._database.reading() as db:
            found = list(faults(db))
        return found + self._database.disorder()

    def close(self) -> None:
        """Close the database; it opens again when asked. What was recorded is noted beside it."""
        if self._has_recorded:
            self.note()
        self._database.close()

    def note(self) -> None:
        """Note beside the ledger how far it is, for those who may find an older one in its place."""
        with self._database.reading() as db:
            note(db, self._folder)
        self._has_recorded = False


def _event_of(row: sql.Row[Any]) -> Event:
    return Event(
        row.seq, instant(row.at), text_of(row.kind), text_of(row.subject), text_of(row.hash), text_of(row.actor or "")
    )


def _artifacts(db: Connection, issuer: str) -> dict[str, tuple[str, int]]:
    """Artifact and notAfter of every certificate of a generation, by serial number."""
    columns = certificates.c.serial, certificates.c.artifact, certificates.c.not_after
    rows = db.execute(sql.select(*columns).where(certificates.c.issuer == issuer))
    return {serial: (artifact, not_after) for serial, artifact, not_after in rows}
