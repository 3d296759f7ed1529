"""Ledgers as programs of before wrote them: schema 1 and 2, made from one of today with the hashes of that time."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

TABLES = {
    "certificates": "seq INTEGER NOT NULL, serial TEXT NOT NULL, issuer TEXT NOT NULL, artifact TEXT NOT NULL, profile TEXT NOT NULL,"
    " subject TEXT NOT NULL, names TEXT NOT NULL, key_sha256 TEXT NOT NULL, not_before BIGINT NOT NULL, not_after BIGINT NOT NULL,"
    " reason TEXT NOT NULL, pem TEXT NOT NULL, PRIMARY KEY (seq), UNIQUE ({unique})",
    "revocations": "seq INTEGER NOT NULL, serial TEXT NOT NULL, issuer TEXT NOT NULL, reason TEXT NOT NULL, revoked_at BIGINT NOT NULL,"
    " not_after BIGINT NOT NULL, PRIMARY KEY (seq), UNIQUE ({unique})",
    "crls": "seq INTEGER NOT NULL, issuer TEXT NOT NULL, number BIGINT NOT NULL, this_update BIGINT NOT NULL, next_update BIGINT NOT NULL,"
    " entries INTEGER NOT NULL, reason TEXT NOT NULL, pem TEXT NOT NULL, PRIMARY KEY (seq)",
    "decisions": "seq INTEGER NOT NULL, artifact TEXT NOT NULL, decision TEXT NOT NULL, detail TEXT NOT NULL, at BIGINT NOT NULL,"
    " PRIMARY KEY (seq)",
    "events": "seq INTEGER NOT NULL, at BIGINT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, row TEXT NOT NULL,"
    " previous TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (seq)",
    "head": "schema INTEGER NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL",
}
INDEXES = (
    "CREATE INDEX ix_certificates_issuer ON certificates (issuer)",
    "CREATE INDEX ix_certificates_artifact ON certificates (artifact)",
    "CREATE INDEX ix_revocations_issuer ON revocations (issuer)",
    "CREATE INDEX ix_crls_issuer ON crls (issuer)",
    "CREATE INDEX ix_decisions_artifact ON decisions (artifact)",
)
KINDS = {"certificate": "certificates", "revocation": "revocations", "crl": "crls", "decision": "decisions"}
NEW = {"sha256", "added", "removed"}


def statements(home: Path, schema: int) -> Iterator[tuple[str, list[Any]]]:
    """SQL that makes a ledger of `schema` out of that below `home`: the same certificates, CRLs and decisions."""
    with closing(sqlite3.connect(home / "ca/ledger.db")) as db:
        db.row_factory = sqlite3.Row
        rows = {
            (kind, row["seq"]): {name: value for name, value in dict(row).items() if name not in NEW}
            for kind, table in KINDS.items()
            for row in db.execute(f"SELECT * FROM {table}")  # noqa: S608
        }
        digests = {row["seq"]: row["sha256"] for row in db.execute("SELECT seq, sha256 FROM crls")}
        events = [dict(row) for row in db.execute("SELECT * FROM events ORDER BY seq")]
    texts = dict(_texts(home))
    for seq, digest in digests.items():
        rows["crl", seq]["pem"] = texts.get(digest) or next(iter(texts.values()))  # of one that is not kept, any text
    unique = "serial" if schema == 1 else "issuer, serial"
    for name, columns in TABLES.items():
        if schema == 2 or name != "decisions":
            yield f"CREATE TABLE {name} ({columns.format(unique=unique)})", []
    yield from ((index, []) for index in INDEXES if schema == 2 or "decisions" not in index)
    previous = "0" * 64
    for event in events:
        kind, row = event["kind"], rows[event["kind"], event["seq"]]
        facts = {name: event[name] for name in ("seq", "at", "kind", "subject")} | {"row": _digest(row)}
        sealed = _digest({**facts, "previous": previous})
        yield _insert(KINDS[kind], row)
        yield _insert("events", {**facts, "previous": previous, "hash": sealed})
        previous = sealed
    yield _insert("head", {"schema": schema, "seq": len(events), "hash": previous})


def lay(home: Path, schema: int) -> None:
    """Put a ledger of an earlier schema in the place of that below `home`, with nothing that tells of a newer one."""
    lines = list(statements(home, schema))
    for path in (home / "ca").glob("ledger.db*"):
        path.unlink()
    for name in ("ca/project-id", "ca/.ledger-head.json", "build/.seen.json"):
        (home / name).unlink(missing_ok=True)
    with closing(sqlite3.connect(home / "ca/ledger.db")) as db, db:
        for statement, values in lines:
            db.execute(statement, values)
    (home / "ca/ledger.db").chmod(0o600)


def _texts(home: Path) -> Iterator[tuple[str, str]]:
    for path in [*home.glob("build/crl/*.pem"), *home.glob("ca/root/*/crl/*.pem")]:
        if path.name != "bundle-client.pem":
            data = path.read_bytes()
            der = x509.load_pem_x509_crl(data).public_bytes(serialization.Encoding.DER)
            yield hashlib.sha256(der).hexdigest(), data.decode()


def _insert(table: str, row: dict[str, Any]) -> tuple[str, list[Any]]:
    names = ", ".join(f'"{name}"' for name in row)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values())  # noqa: S608


def _digest(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
