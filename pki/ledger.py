"""Every certificate issued and revoked, every CRL number, what people decided: recorded before anything of it is visible.

Rows are only ever added. Each addition is one transaction with its event, and each event holds the hash of the one
before it, so a row that was changed, removed or slipped in later is found by `verify`. SQLite by default (WAL,
synchronous=FULL); any database that SQLAlchemy speaks otherwise. Instants are whole seconds since 1970, UTC.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pki.errors import LedgerError
from pki.issue import key_fingerprint, pem_of
from pki.records import DECISIONS, OLD_REASONS, REASONS, Books, Decision, Entry, Event, Issued, Recovered
from pki.store import AUTHORITIES, make_folder

SCHEMA = 2
NO_HASH = "0" * 64
ASKED_ONE_BY_ONE = 500  # serial numbers in one statement; with more of them, reading every row is quicker

metadata = sql.MetaData()

head = sql.Table(
    "head",
    metadata,
    sql.Column("schema", sql.Integer, nullable=False),
    sql.Column("seq", sql.Integer, nullable=False),
    sql.Column("hash", sql.Text, nullable=False),
)
events = sql.Table(
    "events",
    metadata,
    sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("at", sql.BigInteger, nullable=False),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("subject", sql.Text, nullable=False),
    sql.Column("row", sql.Text, nullable=False),  # SHA-256 of the row that this event recorded
    sql.Column("previous", sql.Text, nullable=False),
    sql.Column("hash", sql.Text, nullable=False),
)
certificates = sql.Table(
    "certificates",
    metadata,
    sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("serial", sql.Text, nullable=False),
    sql.Column("issuer", sql.Text, nullable=False, index=True),  # the generation or adopted authority that signed it
    sql.Column("artifact", sql.Text, nullable=False, index=True),
    sql.Column("profile", sql.Text, nullable=False),
    sql.Column("subject", sql.Text, nullable=False),
    sql.Column("names", sql.Text, nullable=False),
    sql.Column("key_sha256", sql.Text, nullable=False),
    sql.Column("not_before", sql.BigInteger, nullable=False),
    sql.Column("not_after", sql.BigInteger, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("pem", sql.Text, nullable=False),
    sql.UniqueConstraint("issuer", "serial"),
)
revocations = sql.Table(
    "revocations",
    metadata,
    sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("serial", sql.Text, nullable=False),
    sql.Column("issuer", sql.Text, nullable=False, index=True),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("revoked_at", sql.BigInteger, nullable=False),
    sql.Column("not_after", sql.BigInteger, nullable=False),
    sql.UniqueConstraint("issuer", "serial"),
)
crls = sql.Table(
    "crls",
    metadata,
    sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("issuer", sql.Text, nullable=False, index=True),
    sql.Column("number", sql.BigInteger, nullable=False),
    sql.Column("this_update", sql.BigInteger, nullable=False),
    sql.Column("next_update", sql.BigInteger, nullable=False),
    sql.Column("entries", sql.Integer, nullable=False),
    sql.Column("reason", sql.Text, nullable=False),
    sql.Column("pem", sql.Text, nullable=False),
)
decisions = sql.Table(
    "decisions",
    metadata,
    sql.Column("seq", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("artifact", sql.Text, nullable=False, index=True),
    sql.Column("decision", sql.Text, nullable=False),
    sql.Column("detail", sql.Text, nullable=False),
    sql.Column("at", sql.BigInteger, nullable=False),
)
TABLES = {"certificate": certificates, "revocation": revocations, "crl": crls, "decision": decisions}

# Statements that every addition runs, built once.
TAKE_TURN = sql.update(head).values(seq=head.c.seq + 1)
READ_HEAD = sql.select(head.c.seq, head.c.hash)
MOVE_HEAD = sql.update(head).values(hash=sql.bindparam("sealed"))
ADD_ROW = {kind: sql.insert(table) for kind, table in TABLES.items()}
ADD_EVENT = sql.insert(events)


class Ledger:
    """The ledger of one house. Opened when first asked, and once more in each process that a run forks."""

    def __init__(self, address: str, folder: Path) -> None:
        self._url = f"sqlite:///{folder / 'ledger.db'}" if address == "sqlite" else address
        self._folder = folder
        self._engine: Engine | None = None
        self._process = 0

    # -- adding --

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None:
        """Record an issued certificate; returns when it is durable."""
        row = {
            "serial": _hex(cert.serial_number),
            "issuer": issuer,
            "artifact": artifact,
            "profile": profile,
            "subject": cert.subject.rfc4514_string(),
            "names": json.dumps(_names(cert)),
            "key_sha256": key_fingerprint(cert.public_key()),
            "not_before": int(cert.not_valid_before_utc.timestamp()),
            "not_after": int(cert.not_valid_after_utc.timestamp()),
            "reason": reason,
            "pem": pem_of([cert]).decode(),
        }
        with self._writing() as db:
            _append(db, "certificate", artifact, row, at)

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None:
        """Record that a certificate is revoked; `reason` is one of REASONS."""
        row = {
            "serial": _hex(issued.serial),
            "issuer": issued.issuer,
            "reason": reason,
            "revoked_at": int(at.timestamp()),
            "not_after": int(issued.not_after.timestamp()),
        }
        if reason not in REASONS:
            raise LedgerError(f"{reason}: expected one of {', '.join(REASONS)}")
        is_this = (revocations.c.issuer == row["issuer"], revocations.c.serial == row["serial"])
        with self._writing() as db:
            if db.execute(sql.select(revocations.c.seq).where(*is_this)).first():
                raise LedgerError(f"{issued.artifact}: serial {row['serial']} is revoked already")
            _append(db, "revocation", issued.artifact, row, at)

    def record_crl(self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime) -> None:
        row = _crl_row(crl, issuer, reason)
        with self._writing() as db:
            last = db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()
            if last is not None and row["number"] <= last:
                raise LedgerError(f"crl:{issuer}: number {row['number']} is not above the last one, {last}")
            _append(db, "crl", f"crl:{issuer}", row, at)

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None:
        """Record what a person decided or did about an artifact; `decision` is one of DECISIONS."""
        if decision not in DECISIONS:
            raise LedgerError(f"{decision}: expected one of {', '.join(DECISIONS)}")
        row = {"artifact": artifact, "decision": decision, "detail": detail, "at": int(at.timestamp())}
        with self._writing() as db:
            _append(db, "decision", artifact, row, at)

    def take_in(self, books: Books, *, at: datetime) -> None:
        """Record what an adopted CA issued and revoked: all of it in one transaction, each row with its event."""
        if rows := list(_rows_of(books)):
            with self._writing() as db:
                _append_all(db, rows, at)

    def record_recovered(
        self, crl: x509.CertificateRevocationList, *, issuer: str, until: datetime, source: str, at: datetime
    ) -> Recovered:
        """Record what a CRL of our own revokes and the ledger does not know, and the CRL when it is newer than all.

        All of it in one transaction. A certificate that is not known either counts as valid `until`.
        """
        with self._reading() as db:
            revoked = set(db.execute(sql.select(revocations.c.serial).where(revocations.c.issuer == issuer)).scalars())
            missing = {serial: entry for entry in crl if (serial := _hex(entry.serial_number)) not in revoked}
            known = _artifacts(db, issuer) if missing else {}
            last = db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()
        found = list[tuple[str, str, dict[str, Any]]]()
        for serial, entry in missing.items():
            artifact, not_after = known.get(serial, (f"serial {serial.lstrip('0')}", int(until.timestamp())))
            dates = {"revoked_at": int(entry.revocation_date_utc.timestamp()), "not_after": not_after}
            row = {"serial": serial, "issuer": issuer, "reason": _reason(entry), **dates}
            found.append(("revocation", f"{artifact}, recovered from {source}", row))
        number = _number(crl)
        if is_newer := number > (last or 0):
            newest = _crl_row(crl, issuer, f"recovered from {source}")
            found.append(("crl", f"crl:{issuer}, recovered from {source}", newest))
        if found:
            with self._writing() as db:
                _append_all(db, found, at)
        return Recovered(issuer, number, tuple(int(serial, 16) for serial in missing), is_newer)

    # -- asking --

    def decisions(self, *, artifact: str | None = None) -> list[Decision]:
        """What was decided, oldest first: about everything, or about one artifact."""
        query = sql.select(decisions).order_by(decisions.c.seq)
        if artifact is not None:
            query = query.where(decisions.c.artifact == artifact)
        with self._reading() as db:
            return [Decision(r.artifact, r.decision, r.detail, _instant(r.at)) for r in db.execute(query)]

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
        query = sql.select(certificates, revocations.c.reason.label("revoked")).select_from(
            certificates.outerjoin(revocations, is_its_own)
        )
        if issuer is not None:
            query = query.where(certificates.c.issuer == issuer)
        if artifact is not None:
            query = query.where(certificates.c.artifact == artifact)
        if serial is not None:
            query = query.where(certificates.c.serial == _hex(serial))
        if since is not None:
            query = query.where(certificates.c.not_after >= int(since.timestamp()))
        with self._reading() as db:
            return [_issued(dict(row)) for row in db.execute(query.order_by(certificates.c.seq)).mappings()]

    def revoked_serials(self, since: datetime, *, issuer: str = "") -> frozenset[int]:
        """Serial numbers of revoked certificates that end after `since`: of one generation, or of all that are our own.

        Those of adopted CAs count by themselves, mostly from 1, and say nothing about ours.
        """
        is_meant = revocations.c.issuer == issuer if issuer else _is_ours(revocations)
        query = sql.select(revocations.c.serial).where(revocations.c.not_after >= int(since.timestamp()), is_meant)
        with self._reading() as db:
            return frozenset(int(serial, 16) for serial in db.execute(query).scalars().all())

    def ended_serials(self, before: datetime) -> frozenset[int]:
        """Serial numbers of this house's own certificates that ended `before`."""
        has_ended = certificates.c.not_after < int(before.timestamp())
        query = sql.select(certificates.c.serial).where(has_ended, _is_ours(certificates))
        with self._reading() as db:
            return frozenset(int(serial, 16) for serial in db.execute(query).scalars().all())

    def revoked(self, issuer: str, still_valid_at: datetime, *, only: Collection[int] | None = None) -> list[Entry]:
        """What belongs on a CRL of `issuer`: revocations of certificates that had not expired at the given time.

        Of `only` these serial numbers, where they are given.
        """
        serials = None if only is None or len(only) > ASKED_ONE_BY_ONE else [_hex(serial) for serial in only]
        columns = revocations.c.serial, revocations.c.revoked_at, revocations.c.reason
        query = (
            sql.select(*columns)
            .where(revocations.c.issuer == issuer, revocations.c.not_after >= int(still_valid_at.timestamp()))
            .order_by(revocations.c.seq)
        )
        if serials is not None:
            query = query.where(revocations.c.serial.in_(serials))
        with self._reading() as db:
            rows = db.execute(query).all()
        dates = {at: _instant(at) for _, at, _ in rows}
        found = [Entry(int(serial, 16), dates[at], reason) for serial, at, reason in rows]
        return found if only is None else [entry for entry in found if entry.serial in only]

    def has_books(self, issuer: str) -> bool:
        """Whether anything that an adopted CA issued or revoked was taken in."""
        with self._reading() as db:
            return any(
                db.execute(sql.select(table.c.seq).where(table.c.issuer == issuer)).first()
                for table in (certificates, revocations, crls)
            )

    def last_crl(self, issuer: str) -> tuple[int, datetime] | None:
        """Number and thisUpdate of the newest CRL of a generation."""
        query = sql.select(crls.c.number, crls.c.this_update).where(crls.c.issuer == issuer)
        with self._reading() as db:
            row = db.execute(query.order_by(crls.c.number.desc()).limit(1)).first()
        return (row.number, _instant(row.this_update)) if row else None

    def has_crl(self, issuer: str, number: int) -> bool:
        """Whether a CRL of a generation was recorded under a number."""
        query = sql.select(crls.c.seq).where(crls.c.issuer == issuer, crls.c.number == number)
        with self._reading() as db:
            return db.execute(query).first() is not None

    def events(self, last: int | None = None) -> list[Event]:
        """The event log, oldest first, or its `last` events."""
        query = sql.select(events).order_by(events.c.seq.desc())
        with self._reading() as db:
            rows = db.execute(query.limit(last) if last else query).all()
        return [Event(row.seq, _instant(row.at), row.kind, row.subject, row.hash) for row in reversed(rows)]

    def newest(self) -> Event | None:
        """The newest event. Raises LedgerError when the head does not say that it is."""
        newest = sql.select(events).order_by(events.c.seq.desc()).limit(1)
        with self._reading() as db:
            row, top = db.execute(newest).first(), db.execute(READ_HEAD).one()
        if (row.seq, row.hash) != (top.seq, top.hash) if row else top.seq:
            raise LedgerError(f"{self._place()}: its newest events are missing", "./run invoke ledger.verify")
        return Event(row.seq, _instant(row.at), row.kind, row.subject, row.hash) if row else None

    def verify(self) -> list[str]:
        """Recompute every hash; returns what is wrong, one sentence each. Empty means that nothing is."""
        with self._reading() as db:
            return list(_faults(db))

    def close(self) -> None:
        """Close the database; it opens again when asked."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    # -- the database --

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._transaction() as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that holds the head from its first statement on, so that two writers take turns."""
        with self._transaction() as db:
            db.execute(TAKE_TURN)
            yield db

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._open().begin() as db:
                yield db
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise LedgerError(f"{self._place()}: {str(cause).strip()}", "run invoke ledger.verify") from None

    def _open(self) -> Engine:
        if self._engine is None or self._process != os.getpid():
            self._engine = self._connect()
            self._process = os.getpid()
        return self._engine

    def _connect(self) -> Engine:
        try:
            engine = sql.create_engine(self._url, connect_args={"timeout": 60} if self._is_sqlite() else {})
        except (SQLAlchemyError, ImportError) as error:
            raise LedgerError(f"pki.yaml: ledger: {error}", "name a database whose driver is installed") from None
        if self._is_sqlite():
            make_folder(self._folder, 0o700)
            path = self._folder / "ledger.db"
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            sql.event.listen(engine, "connect", _durable)
        with engine.begin() as db:
            metadata.create_all(db)
            found = db.execute(sql.select(head.c.schema)).scalar()
            if found is None:
                db.execute(sql.insert(head).values(schema=SCHEMA, seq=0, hash=NO_HASH))
            elif found == 1:
                _to_schema_2(db)
            elif found != SCHEMA:
                raise LedgerError(
                    f"{self._place()}: schema {found}, this program writes {SCHEMA}",
                    "use the program that matches it",
                )
        return engine

    def _is_sqlite(self) -> bool:
        return self._url.startswith("sqlite:")

    def _place(self) -> str:
        return "ca/ledger.db" if self._is_sqlite() else "the ledger's database"


def _durable(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _to_schema_2(db: Connection) -> None:
    """Serial numbers are unique for each issuer, not in the whole ledger. Rows, and so all hashes, stay as they are."""
    if not db.execute(sql.update(head).where(head.c.schema == 1).values(schema=2)).rowcount:
        return  # another process did it while this one waited
    for table in (certificates, revocations):
        fresh = table.to_metadata(sql.MetaData(), name=f"{table.name}_2")
        fresh.indexes.clear()
        fresh.create(db)
        db.execute(sql.insert(fresh).from_select(list(table.columns.keys()), sql.select(table)))
        table.drop(db)
        db.execute(sql.text(f"ALTER TABLE {fresh.name} RENAME TO {table.name}"))
        for index in table.indexes:
            index.create(db)


def _append(db: Connection, kind: str, subject: str, row: dict[str, Any], at: datetime) -> None:
    """Add a row and the event that seals it, behind the newest event."""
    seq, previous = db.execute(READ_HEAD).one()
    digest = _digest({"seq": seq, **row})
    event = {"seq": seq, "at": int(at.timestamp()), "kind": kind, "subject": subject, "row": digest}
    sealed = _digest({**event, "previous": previous})
    db.execute(ADD_ROW[kind], {"seq": seq, **row})
    db.execute(ADD_EVENT, {**event, "previous": previous, "hash": sealed})
    db.execute(MOVE_HEAD, {"sealed": sealed})


def _rows_of(books: Books) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, subject and row of everything in an adopted CA's books, in the order in which it is recorded."""
    for issued in books.certificates:
        row = {
            "serial": _hex(issued.serial),
            "issuer": books.issuer,
            "artifact": issued.artifact,
            "profile": issued.profile,
            "subject": issued.subject,
            "names": json.dumps(list(issued.names)),
            "key_sha256": _key_of(issued.pem),
            "not_before": int(issued.not_before.timestamp()),
            "not_after": int(issued.not_after.timestamp()),
            "reason": issued.reason,
            "pem": issued.pem,
        }
        yield "certificate", issued.artifact, row
    for one in books.revocations:
        row = {
            "serial": _hex(one.serial),
            "issuer": books.issuer,
            "reason": one.reason,
            "revoked_at": int(one.revoked_at.timestamp()),
            "not_after": int(one.not_after.timestamp()),
        }
        yield "revocation", one.artifact, row
    if last := books.last_crl:
        row = {
            "issuer": books.issuer,
            "number": last.number,
            "this_update": int(last.this_update.timestamp()),
            "next_update": int(last.next_update.timestamp()),
            "entries": last.entries,
            "reason": last.reason,
            "pem": last.pem,
        }
        yield "crl", f"crl:{books.issuer}", row


def _key_of(pem: str) -> str:
    """The fingerprint of a certificate's key; empty where there is no certificate, or its key is of no known kind."""
    try:
        return key_fingerprint(x509.load_pem_x509_certificate(pem.encode()).public_key())
    except (ValueError, UnsupportedAlgorithm):
        return ""


def _append_all(db: Connection, found: Sequence[tuple[str, str, dict[str, Any]]], at: datetime) -> None:
    """The same for many rows at once, each with its kind and subject."""
    seq, previous = db.execute(READ_HEAD).one()
    rows: dict[str, list[dict[str, Any]]] = {}
    chain = list[dict[str, Any]]()
    for number, (kind, subject, values) in enumerate(found, seq):
        row = {"seq": number, **values}
        event = {"seq": number, "at": int(at.timestamp()), "kind": kind, "subject": subject, "row": _digest(row)}
        sealed = _digest({**event, "previous": previous})
        rows.setdefault(kind, []).append(row)
        chain.append({**event, "previous": previous, "hash": sealed})
        previous = sealed
    for kind, some in rows.items():
        db.execute(ADD_ROW[kind], some)
    db.execute(ADD_EVENT, chain)
    db.execute(sql.update(head).values(seq=chain[-1]["seq"], hash=previous))


def _crl_row(crl: x509.CertificateRevocationList, issuer: str, reason: str) -> dict[str, Any]:
    next_update = crl.next_update_utc
    assert next_update is not None
    return {
        "issuer": issuer,
        "number": crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        "this_update": int(crl.last_update_utc.timestamp()),
        "next_update": int(next_update.timestamp()),
        "entries": len(crl),
        "reason": reason,
        "pem": pem_of([crl]).decode(),
    }


def _artifacts(db: Connection, issuer: str) -> dict[str, tuple[str, int]]:
    """Artifact and notAfter of every certificate of a generation, by serial number."""
    columns = certificates.c.serial, certificates.c.artifact, certificates.c.not_after
    rows = db.execute(sql.select(*columns).where(certificates.c.issuer == issuer))
    return {serial: (artifact, not_after) for serial, artifact, not_after in rows}


def _reason(entry: x509.RevokedCertificate) -> str:
    """Why a certificate is on a CRL, as far as it is a reason that the ledger knows."""
    try:
        reason = str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (x509.ExtensionNotFound, ValueError):
        return "unspecified"
    return reason if reason in OLD_REASONS else "unspecified"


def _number(crl: x509.CertificateRevocationList) -> int:
    """0 for a CRL of an adopted CA that counted none."""
    try:
        return int(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    except x509.ExtensionNotFound:
        return 0


def _is_ours(table: sql.Table) -> sql.ColumnElement[bool]:
    return sql.or_(*(table.c.issuer.startswith(f"{authority}-") for authority in AUTHORITIES))


def _faults(db: Connection) -> Iterator[str]:
    rows = {
        (kind, row["seq"]): _digest(row)
        for kind, table in TABLES.items()
        for row in db.execute(sql.select(table)).mappings()
    }
    previous, expected = NO_HASH, 1
    for event in db.execute(sql.select(events).order_by(events.c.seq)).mappings():
        seq = event["seq"]
        if seq != expected:
            yield f"event {expected} is missing"
        if event["previous"] != previous:
            yield f"event {seq} does not follow the one before it"
        if _digest({k: v for k, v in event.items() if k != "hash"}) != event["hash"]:
            yield f"event {seq} ({event['kind']} {event['subject']}) was changed"
        found = rows.pop((event["kind"], seq), None)
        if found is None:
            yield f"event {seq}: its {event['kind']} of {event['subject']} is missing"
        elif found != event["row"]:
            yield f"event {seq}: its {event['kind']} of {event['subject']} was changed"
        previous, expected = event["hash"], seq + 1
    for kind, seq in sorted(rows):
        yield f"{kind} {seq} has no event"
    last = db.execute(sql.select(head.c.seq, head.c.hash)).one()
    if (last.seq, last.hash) != (expected - 1, previous):
        yield f"the newest events are missing: the head says {last.seq}, the log ends at {expected - 1}"


def _digest(row: Mapping[Any, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(row), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _issued(row: Mapping[str, Any]) -> Issued:
    return Issued(
        serial=int(row["serial"], 16),
        issuer=row["issuer"],
        artifact=row["artifact"],
        profile=row["profile"],
        subject=row["subject"],
        names=tuple(json.loads(row["names"])),
        not_before=_instant(row["not_before"]),
        not_after=_instant(row["not_after"]),
        reason=row["reason"],
        revoked=row["revoked"] or "",
        pem=row["pem"],
    )


def _names(cert: x509.Certificate) -> list[str]:
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]


def _hex(serial: int) -> str:
    return f"{serial:040x}"


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
