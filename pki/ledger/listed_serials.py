"""Compute the serial numbers on the recorded CRLs: a row has the changes, an old row (schema 1 and 2) the whole CRL."""

from __future__ import annotations

import hashlib

import sqlalchemy as sql
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.engine import Connection

from pki.common.errors import LedgerError
from pki.ledger.rows import parse_serials
from pki.ledger.tables import crls
from pki.x509.revocation import crl_number


def last_number(db: Connection, issuer: str) -> int | None:
    """Return the highest recorded CRL number of a generation, or None."""
    return db.execute(sql.select(sql.func.max(crls.c.number)).where(crls.c.issuer == issuer)).scalar()


def listed_serials(db: Connection, issuer: str) -> set[int]:
    """Return the serial numbers on the last recorded CRL of a generation. Raises LedgerError for a changed row."""
    whole = sql.select(sql.func.max(crls.c.seq)).where(crls.c.issuer == issuer, crls.c.pem != "")
    first = db.execute(whole).scalar() or 0
    query = sql.select(crls.c.pem, crls.c.added, crls.c.removed).where(crls.c.issuer == issuer, crls.c.seq >= first)
    serials = set[int]()
    for text, added, removed in db.execute(query.order_by(crls.c.seq)):
        try:
            if text:
                serials = {entry.serial_number for entry in x509.load_pem_x509_crl(text.encode())}
            serials = (serials | parse_serials(added)) - parse_serials(removed)
        except (ValueError, AttributeError) as error:
            raise LedgerError(
                f"a recorded CRL of {issuer} was changed: {error}", "./run invoke ledger.verify"
            ) from None
    return serials


def has_recorded_crl(db: Connection, issuer: str, der: bytes) -> bool:
    """Return whether exactly this CRL (DER) of a generation was recorded."""
    query = sql.select(crls.c.seq).where(crls.c.issuer == issuer)
    if db.execute(query.where(crls.c.sha256 == hashlib.sha256(der).hexdigest())).first():
        return True
    try:
        number = crl_number(x509.load_der_x509_crl(der))
    except ValueError:
        return False
    texts = db.execute(sql.select(crls.c.pem).where(crls.c.issuer == issuer, crls.c.number == number)).scalars()
    return any(text and x509.load_pem_x509_crl(text.encode()).public_bytes(Encoding.DER) == der for text in texts)
