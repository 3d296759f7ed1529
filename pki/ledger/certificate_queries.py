"""Queries of the ledger about certificates: which were issued and revoked, and what was decided."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sql

from pki.config.identifiers import ArtifactId
from pki.ledger.database import DatabaseUser
from pki.ledger.rows import as_hex, checked_text, instant, issued_from_row
from pki.ledger.tables import certificates, decisions, events, is_ours, revocations
from pki.ledger.types import Decision, Issued, LedgerCounts


class SqlCertificateQueries(DatabaseUser):
    """Reads certificates, revocations, and decisions about artifacts. `recorder.py` records them."""

    def certificates(
        self,
        *,
        artifact: str | None = None,
        serial: int | None = None,
        expiring_after: datetime | None = None,
        issuer: str | None = None,
    ) -> list[Issued]:
        """Return certificates, oldest first, filtered by artifact, serial number, issuer and expiry.

        `expiring_after` selects those that expire at this time or later.
        """
        is_its_revocation = (certificates.c.issuer == revocations.c.issuer) & (
            certificates.c.serial == revocations.c.serial
        )
        issuing, revoking = events.alias(), events.alias()
        columns = revocations.c.reason.label("revoked"), issuing.c.actor, revoking.c.actor.label("revoker")
        query = sql.select(certificates, *columns).select_from(
            certificates.outerjoin(revocations, is_its_revocation)
            .outerjoin(issuing, issuing.c.seq == certificates.c.seq)
            .outerjoin(revoking, revoking.c.seq == revocations.c.seq)
        )
        if issuer is not None:
            query = query.where(certificates.c.issuer == issuer)
        if artifact is not None:
            query = query.where(certificates.c.artifact == artifact)
        if serial is not None:
            query = query.where(certificates.c.serial == as_hex(serial))
        if expiring_after is not None:
            query = query.where(certificates.c.not_after >= int(expiring_after.timestamp()))
        with self._database.reading() as db:
            return [issued_from_row(dict(row)) for row in db.execute(query.order_by(certificates.c.seq)).mappings()]

    def revoked_serials(self, *, expiring_after: datetime, issuer: str = "") -> frozenset[int]:
        """Return the serial numbers of the revoked certificates that expire at the given time or later.

        Without `issuer`, returns those of all the project's own CAs. Adopted CAs are then left out, because their serial
        numbers often start at 1, and two CAs may use the same number.
        """
        has_issuer = revocations.c.issuer == issuer if issuer else is_ours(revocations)
        expires_later = revocations.c.not_after >= int(expiring_after.timestamp())
        return self._serials(revocations, expires_later, has_issuer)

    def expired_serials(self, *, expired_before: datetime) -> frozenset[int]:
        """Return the serial numbers of the certificates of the project's own CAs that expired before a time."""
        has_expired = certificates.c.not_after < int(expired_before.timestamp())
        return self._serials(certificates, has_expired, is_ours(certificates))

    def _serials(self, table: sql.Table, *conditions: sql.ColumnElement[bool]) -> frozenset[int]:
        """Return the serial numbers of a query. The database joins them to one text: 3 times as fast as 100 000 rows."""
        query = sql.select(sql.func.aggregate_strings(table.c.serial, " ")).where(*conditions)
        with self._database.reading() as db:
            return frozenset(int(serial, 16) for serial in (db.execute(query).scalar() or "").split())

    def decisions(self, *, artifact: str | None = None) -> list[Decision]:
        """Return the decisions, oldest first: all, or those about one artifact."""
        query = sql.select(decisions).order_by(decisions.c.seq)
        if artifact is not None:
            query = query.where(decisions.c.artifact == artifact)
        with self._database.reading() as db:
            return [
                Decision(
                    ArtifactId.parse(checked_text(row.artifact)),
                    checked_text(row.decision),
                    checked_text(row.detail),
                    instant(row.at),
                )
                for row in db.execute(query)
            ]

    def counts(self) -> LedgerCounts:
        """Return the number of recorded certificates and of recorded revocations."""
        with self._database.reading() as db:
            issued, revoked = (
                db.execute(sql.select(sql.func.count()).select_from(table)).scalar_one()
                for table in (certificates, revocations)
            )
            return LedgerCounts(issued, revoked)
