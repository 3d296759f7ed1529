"""The identity of the project, random, in its ledger and in `ca/project-id`: two projects never share a ledger.

The file is written first, so a project that is killed while its ledger is created recognises the ledger afterwards.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import sqlalchemy as sql
from cryptography import x509
from sqlalchemy.engine import Connection

from pki.common import filesystem, sealed_records
from pki.common.errors import LedgerError
from pki.config.identifiers import ALL_AUTHORITIES
from pki.ledger.last_seen import PROJECT_ID, authority_certificates, project_id
from pki.ledger.rows import as_hex
from pki.ledger.tables import SCHEMA, certificates, head
from pki.ledger.types import FOREIGN, LedgerFault


def read_or_create_id(folder: Path) -> str:
    """Return the identity of the project in `ca/`; creates it if there is none."""
    identity = project_id(folder)
    if not identity:
        identity = secrets.token_hex(16)
        _write_id(folder, identity)
    return identity


def _write_id(folder: Path, project: str) -> None:
    filesystem.write(folder / PROJECT_ID, f"{project} {sealed_records.short_digest({'project': project})}\n".encode())


def require_own_ledger(db: Connection, folder: Path, place: str, *, has_events: bool) -> None:
    """Raise LedgerError if the ledger belongs to another project.

    A `ca/` without an identity (of an old backup) gets the identity of the ledger if the ledger knows one of its CAs.
    """
    own_project, recorded_project = project_id(folder), str(db.execute(sql.select(head.c.project)).scalar() or "")
    if own_project == recorded_project:
        return
    if not own_project and _knows_an_authority(db, folder):
        _write_id(folder, recorded_project)
        return
    what = (
        f"this folder is project {own_project[:12]} (ca/{PROJECT_ID})"
        if own_project
        else f"this folder has no ca/{PROJECT_ID}"
    )
    contents = "" if has_events else " (which contains no events)"
    raise _foreign(f"{place}: belongs to project {recorded_project[:12]}{contents}, and {what}", place)


def require_own_authorities(db: Connection, folder: Path, place: str) -> None:
    """Raise LedgerError if a ledger without an identity contains CAs of another project, and none of this one."""
    if db.execute(sql.select(sql.func.max(head.c.schema))).scalar() != SCHEMA and not _knows_an_authority(db, folder):
        is_ca = certificates.c.profile.in_(["root", *(f"{name}-ca" for name in ALL_AUTHORITIES)])
        if db.execute(sql.select(certificates.c.seq).where(is_ca)).first():
            raise _foreign(f"{place}: contains CAs of another project, and none of this one", place)


def _foreign(text: str, place: str) -> LedgerError:
    if place.startswith("ca/"):
        remedy = "restore this project's own ca/ from a backup: ./run invoke restore FILE --to DIR"
    else:
        remedy = (
            "set ledger: in pki.yaml to a database of this project alone; if this is its database, "
            "restore its ca/ from a backup: ./run invoke restore FILE --to DIR"
        )
    return LedgerFault(FOREIGN, text, remedy).error


def _knows_an_authority(db: Connection, folder: Path) -> bool:
    """Return whether the ledger contains the certificate of an authority in `ca/`."""
    serials = list[str]()
    for path in authority_certificates(folder):
        data = filesystem.read(path)
        try:
            serials.append(as_hex(x509.load_pem_x509_certificate(data or b"").serial_number))
        except ValueError:
            continue  # reported where the authority is read
    return db.execute(sql.select(certificates.c.seq).where(certificates.c.serial.in_(serials))).first() is not None
