"""Whose ledger it is: a random identity, in the ledger and in `ca/project-id`. Two projects never share a ledger.

The file comes first: a project that was killed while its ledger was created finds its own again.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import sqlalchemy as sql
from cryptography import x509
from sqlalchemy.engine import Connection

from pki.common import filesystem, sealed_records
from pki.common.errors import LedgerError
from pki.config.identifiers import AUTHORITIES
from pki.ledger.last_seen import PROJECT_ID, authority_certificates, project_id
from pki.ledger.rows import as_hex
from pki.ledger.tables import SCHEMA, certificates, head
from pki.ledger.types import FOREIGN, LedgerFault


def own_or_new(folder: Path) -> str:
    """Return the identity of this project, made now where there is none."""
    found = project_id(folder)
    if not found:
        found = secrets.token_hex(16)
        _keep(folder, found)
    return found


def _keep(folder: Path, project: str) -> None:
    filesystem.write(folder / PROJECT_ID, f"{project} {sealed_records.check_of({'project': project})}\n".encode())


def insist(db: Connection, folder: Path, place: str, *, has_events: bool) -> None:
    """Raise LedgerError where the ledger is another project's.

    A `ca/` that has no identity, as of a backup from before there was one, takes that of a ledger that knows its CAs.
    """
    here, there = project_id(folder), str(db.execute(sql.select(head.c.project)).scalar() or "")
    if here == there:
        return
    if not here and _known(db, folder):
        _keep(folder, there)
        return
    what = f"this folder is project {here[:12]} (ca/{PROJECT_ID})" if here else f"this folder has no ca/{PROJECT_ID}"
    contents = "" if has_events else " (which has recorded nothing yet)"
    raise _foreign(f"{place}: belongs to project {there[:12]}{contents}, and {what}", place)


def insist_before_upgrade(db: Connection, folder: Path, place: str) -> None:
    """Raise LedgerError where a ledger without an identity holds the CAs of another project and none of ours."""
    if db.execute(sql.select(sql.func.max(head.c.schema))).scalar() != SCHEMA and not _known(db, folder):
        is_ca = certificates.c.profile.in_(["root", *(f"{name}-ca" for name in AUTHORITIES)])
        if db.execute(sql.select(certificates.c.seq).where(is_ca)).first():
            raise _foreign(f"{place}: holds certificate authorities of another project, and none of this one", place)


def _foreign(text: str, place: str) -> LedgerError:
    if place.startswith("ca/"):
        remedy = "put this project's own ca/ back from a backup: ./run invoke restore FILE --to DIR"
    else:
        remedy = (
            "name a database of its own for this project, as ledger: in pki.yaml; where this one is its own, "
            "put its ca/ back from a backup: ./run invoke restore FILE --to DIR"
        )
    return LedgerError.of(LedgerFault(FOREIGN, text, remedy))


def _known(db: Connection, folder: Path) -> bool:
    """Return whether the ledger holds the certificate of any authority below `ca/`."""
    serials = list[str]()
    for path in authority_certificates(folder):
        data = filesystem.read(path)
        try:
            serials.append(as_hex(x509.load_pem_x509_certificate(data or b"").serial_number))
        except ValueError:
            continue  # said where the authority is read
    return db.execute(sql.select(certificates.c.seq).where(certificates.c.serial.in_(serials))).first() is not None
