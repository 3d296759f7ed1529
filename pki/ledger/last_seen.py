"""What files in `ca/` say of the ledger: how far it was seen, and whose it is. They outlive the ledger."""

from __future__ import annotations

from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.common.sealed_records import check_of
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.ledger.types import Head

LEDGER_HEAD = ".ledger-head.json"  # how far this machine saw the ledger
LAST_BACKUP = ".last-backup.json"  # when there was one, and how far the ledger was
PROJECT_ID = "project-id"  # the identity that the ledger has too
HEAD_KEYS = {LEDGER_HEAD: ("events", "head", "revocations"), LAST_BACKUP: ("at", "file", "ledger")}


def seen_heads(ca: Path) -> list[Head]:
    """Return the heads of the ledger that files in `ca/` name; a file that cannot be read counts as missing.

    `.ledger-head.json` is written whenever this machine recorded something, `.last-backup.json` by each backup.
    """
    return [found for name in (LEDGER_HEAD, LAST_BACKUP) if (found := seen_head(ca, name))]


def seen_head(ca: Path, name: str) -> Head | None:
    """Return the head that one of both files names, None where it names none."""
    try:
        record = sealed_records.record(filesystem.read_if_possible(ca / name), HEAD_KEYS[name]) or {}
        found = {**record["ledger"], "revocations": record.get("revocations")} if name == LAST_BACKUP else record
        head = Head(found["events"], found["head"], f"ca/{name}", found.get("revocations"))
    except (KeyError, TypeError, AttributeError):
        return None
    is_sound = isinstance(head.seq, int) and isinstance(head.hash, str) and isinstance(head.revocations, int | None)
    return head if is_sound and head.seq > 0 else None


def project_id(ca: Path) -> str:
    """Return the identity of the project whose `ca/` this is, "" where it has none yet, or a damaged one."""
    try:
        project, check = (ca / PROJECT_ID).read_text().split()
    except (OSError, ValueError):
        return ""
    return project if check == check_of({"project": project}) else ""


def authority_certificates(ca: Path) -> list[Path]:
    """Return the certificates of all generations of the authorities: the ledger knows them all."""
    found = (path for one in AUTHORITIES for path in sorted((ca / one).glob(f"{one}-*/cert.pem")))
    return [path for path in found if GenerationName.parse(path.parent.name).number]
