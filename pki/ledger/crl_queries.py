"""Queries of the ledger about CRLs: which were recorded, and which entries the next CRL must have."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sql

from pki.ledger.database import DatabaseUser
from pki.ledger.listed_serials import has_recorded_crl
from pki.ledger.rows import as_hex, checked_integer, checked_text, instant
from pki.ledger.tables import certificates, crls, revocations
from pki.ledger.types import RecordedCrl, Revocation
from pki.x509.revocation import CrlEntry

MOST_SELECTED_SERIALS = 500  # in one statement: for more serial numbers, reading every row is faster


class SqlCrlQueries(DatabaseUser):
    """Reads the CRLs of each generation and adopted CA, and the entries of their next CRL. `recorder.py` records CRLs."""

    def revoked_entries(
        self, issuer: str, *, expiring_after: datetime, only: Collection[int] | None = None
    ) -> list[CrlEntry]:
        """Return the revocations of certificates that expire at the given time or later, as entries of a CRL of `issuer`.

        With `only`, returns those of these serial numbers.
        """
        serials = None if only is None or len(only) > MOST_SELECTED_SERIALS else [as_hex(serial) for serial in only]
        columns = revocations.c.serial, revocations.c.revoked_at, revocations.c.reason
        query = (
            sql.select(*columns)
            .where(revocations.c.issuer == issuer, revocations.c.not_after >= int(expiring_after.timestamp()))
            .order_by(revocations.c.seq)
        )
        if serials is not None:
            query = query.where(revocations.c.serial.in_(serials))
        with self._database.reading() as db:
            rows = db.execute(query).all()
            dates = {at: instant(at) for _, at, _ in rows}  # once for each date: many entries have the same
            entries = [CrlEntry(int(serial, 16), dates[at], checked_text(reason)) for serial, at, reason in rows]
        return entries if only is None else [entry for entry in entries if entry.serial in only]

    def revocations(self, issuer: str) -> list[Revocation]:
        """Return every recorded revocation of an issuer, oldest first, also of certificates that have expired."""
        query = sql.select(revocations).where(revocations.c.issuer == issuer).order_by(revocations.c.seq)
        with self._database.reading() as db:
            return [
                Revocation(
                    int(row.serial, 16),
                    f"serial {int(row.serial, 16):x}",
                    checked_text(row.reason),
                    instant(row.revoked_at),
                    instant(row.not_after),
                )
                for row in db.execute(query)
            ]

    def last_crl(self, issuer: str, *, this_update_until: datetime | None = None) -> RecordedCrl | None:
        """Return the recorded CRL of a generation with the highest number, or None.

        With `this_update_until`, CRLs with a later thisUpdate do not count.
        """
        query = sql.select(crls.c.number, crls.c.this_update).where(crls.c.issuer == issuer)
        if this_update_until is not None:
            query = query.where(crls.c.this_update <= int(this_update_until.timestamp()))
        with self._database.reading() as db:
            row = db.execute(query.order_by(crls.c.number.desc()).limit(1)).first()
            return RecordedCrl(checked_integer(row.number), instant(row.this_update)) if row else None

    def has_crl(self, issuer: str, number: int) -> bool:
        """Return whether a CRL of a generation with this number is recorded."""
        query = sql.select(crls.c.seq).where(crls.c.issuer == issuer, crls.c.number == number)
        with self._database.reading() as db:
            return db.execute(query).first() is not None

    def has_recorded(self, issuer: str, der: bytes) -> bool:
        """Return whether exactly this CRL of a generation was recorded."""
        with self._database.reading() as db:
            return has_recorded_crl(db, issuer, der)

    def has_issuance_records(self, issuer: str) -> bool:
        """Return whether any issuance records of an adopted CA are recorded."""
        with self._database.reading() as db:
            return any(
                db.execute(sql.select(table.c.seq).where(table.c.issuer == issuer)).first()
                for table in (certificates, revocations, crls)
            )
