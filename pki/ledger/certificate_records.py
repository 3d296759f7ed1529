"""Read what the ledger recorded of certificates: what was issued, revoked and decided."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sql

from pki.config.identifiers import ArtifactId
from pki.ledger.database import DatabaseUser
from pki.ledger.rows import as_hex, checked_text, instant, issued_from_row
from pki.ledger.tables import certificates, decisions, events, is_ours, revocations
from pki.ledger.types import Decision, Issued


class SqlCertificateRecords(DatabaseUser):
    """The recorded certificates and revocations, and the decisions about artifacts."""

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

    def counts(self) -> tuple[int, int]:
        """Return the number of recorded certificates and of recorded revocations."""
        with self._database.reading() as db:
            results = [
                db.execute(sql.select(sql.func.count()).select_from(table)) for table in (certificates, revocations)
            ]
            return results[0].scalar_one(), results[1].scalar_one()
