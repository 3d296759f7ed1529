"""The tables of the ledger: certificates, revocations, CRLs, decisions, the events of their rows, and the head.

A column that a later schema added may be NULL. Such a column is not part of the digest of a row, so older rows and
hashes stay valid.
"""

from __future__ import annotations

import sqlalchemy as sql

from pki.config.identifiers import ALL_AUTHORITIES

SCHEMA = 3

metadata = sql.MetaData()

head = sql.Table(
    "head",
    metadata,
    sql.Column("schema", sql.Integer, nullable=False),
    sql.Column("seq", sql.Integer, nullable=False),
    sql.Column("hash", sql.Text, nullable=False),
    sql.Column("project", sql.Text, nullable=False, server_default=""),  # the identity of the project
)
# The machine that runs doit (`holder`), since when (`until`, whose name is older than its use), and how many machines did
# so before (`token`). Used where several machines reach the ledger.
lease = sql.Table(
    "lease",
    metadata,
    sql.Column("holder", sql.Text, nullable=False),
    sql.Column("until", sql.BigInteger, nullable=False),
    sql.Column("token", sql.BigInteger, nullable=False),
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
    sql.Column("actor", sql.Text),  # who recorded it; NULL in events of schema 1 and 2
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
    sql.Column("pem", sql.Text, nullable=False),  # the whole CRL in rows of schema 1 and 2, empty since
    sql.Column(
        "sha256", sql.Text, index=True
    ),  # of its DER form; this and the next two are NULL where `pem` is not empty
    sql.Column("added", sql.Text),  # serial numbers, in hexadecimal, that the CRL recorded before did not list
    sql.Column("removed", sql.Text),  # serial numbers that it listed and this one does not
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


def is_ours(table: sql.Table) -> sql.ColumnElement[bool]:
    """Return the condition that selects rows of the project's own CAs, without adopted CAs."""
    return sql.or_(*(table.c.issuer.startswith(f"{authority}-") for authority in ALL_AUTHORITIES))
