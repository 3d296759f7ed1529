"""Which serial numbers the CRLs in the ledger list: the rows say what changed, and older ones hold the whole text."""

from __future__ import annotations

import hashlib

import sqlalchemy as sql
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.engine import Connection

from pki.common.errors import LedgerError
from pki.ledger.rows import parted
from pki.ledger.tables import crls


def listed(db: Connection, issuer: str) -> set[int]:
    """Return the serial numbers on the CRL of a generation that was recorded last."""
    whole = sql.select(sql.func.max(crls.c.seq)).where(crls.c.issuer == issuer, crls.c.pem != "")
    first = db.execute(whole).scalar() or 0
    query = sql.select(crls.c.pem, crls.c.added, crls.c.removed).where(crls.c.issuer == issuer, crls.c.seq >= first)
    serials = set[int]()
    for text, added, removed in db.execute(query.order_by(crls.c.seq)):
        try:
            if text:
                serials = {entry.serial_number for entry in x509.load_pem_x509_crl(text.encode())}
            serials = (serials | parted(added)) - parted(removed)
        except (ValueError, AttributeError) as error:
            raise LedgerError(
                f"a recorded CRL of {issuer} was changed: {error}", "./run invoke ledger.verify"
            ) from None
    return serials


def is_recorded(db: Connection, issuer: str, der: bytes) -> bool:
    """Return whether exactly this CRL of a generation was recorded."""
    query = sql.select(crls.c.seq).where(crls.c.issuer == issuer)
    if db.execute(query.where(crls.c.sha256 == hashlib.sha256(der).hexdigest())).first():
        return True
    try:
        number = x509.load_der_x509_crl(der).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound):
        return False
    texts = db.execute(sql.select(crls.c.pem).where(crls.c.issuer == issuer, crls.c.number == number)).scalars()
    return any(text and x509.load_pem_x509_crl(text.encode()).public_bytes(Encoding.DER) == der for text in texts)
