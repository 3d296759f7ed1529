"""Read the files in `ca/` that record the newest observed head of the ledger and the identity of the project."""

from __future__ import annotations

from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.common.sealed_records import short_digest
from pki.config.identifiers import ALL_AUTHORITIES, GenerationName
from pki.ledger.types import Head

LEDGER_HEAD = ".ledger-head.json"  # the newest head that this machine observed
LAST_BACKUP = ".last-backup.json"  # time of the last backup, and the head at that time
PROJECT_ID = "project-id"  # the identity, which is also in the ledger
HEAD_KEYS = {LEDGER_HEAD: ("events", "head", "revocations"), LAST_BACKUP: ("at", "file", "ledger")}


def observed_heads(ca: Path) -> list[Head]:
    """Return the observed heads in the files of `ca/`; an unreadable file counts as missing.

    `.ledger-head.json` is written after this machine recorded something, `.last-backup.json` by each backup.
    """
    return [head for name in (LEDGER_HEAD, LAST_BACKUP) if (head := observed_head(ca, name))]


def observed_head(ca: Path, name: str) -> Head | None:
    """Return the head in one of the two files, or None."""
    try:
        record = sealed_records.decode_record(filesystem.read_if_possible(ca / name), HEAD_KEYS[name]) or {}
        values = {**record["ledger"], "revocations": record.get("revocations")} if name == LAST_BACKUP else record
        head = Head(values["events"], values["head"], where=f"ca/{name}", revocations=values.get("revocations"))
    except (KeyError, TypeError, AttributeError):
        return None
    is_sound = isinstance(head.seq, int) and isinstance(head.hash, str) and isinstance(head.revocations, int | None)
    return head if is_sound and head.seq > 0 else None


def project_id(ca: Path) -> str:
    """Return the identity of the project in `ca/`, or "" if it has none or a damaged one."""
    try:
        project, check = (ca / PROJECT_ID).read_text().split()
    except (OSError, ValueError):
        return ""
    return project if check == short_digest({"project": project}) else ""


def authority_certificates(ca: Path) -> list[Path]:
    """Return the paths of the certificates of all generations of the authorities whose keys are in `ca/` or in the vault."""
    paths = (path for authority in ALL_AUTHORITIES for path in sorted((ca / authority).glob(f"{authority}-*/cert.pem")))
    return [path for path in paths if GenerationName.parse(path.parent.name).number]
