"""Health of the machine that runs doit: its ledger, secrets, disk, clock and backup."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.errors import LedgerError
from pki.common.remedies import in_project
from pki.config import identifiers
from pki.deploy.crl_files import TOLERANCE
from pki.deploy.receipt import moment
from pki.deploy.ssh import deploy_key_path
from pki.ledger import last_seen
from pki.ledger.last_seen import LAST_BACKUP
from pki.ledger.types import RESTORE_FILE, TRANSIENT
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import View
from pki.project import safe_directories
from pki.project.project import Project

DAY = timedelta(days=1)
MEGABYTE = 1 << 20
BACKUP_NOTICE, BACKUP_WARNING = 8 * DAY, 31 * DAY


# -- the ledger and the clock -----------------------------------------------------------------------------------------


def ledger(view: View) -> Iterator[Finding]:
    """It is there, is ours, lacks nothing that was seen, and knows the authorities; thoroughly, its whole chain holds."""
    project = view.project
    if fault := project.ledger_fault:
        if fault.kind == TRANSIENT:
            raise LedgerError.of(fault)  # whatever comes and goes, as on a full disk, has a look of its own
        yield Finding("ledger", Level.CRITICAL, fault.consequence, fault.remedy)
        return
    if not project.has_ledger:
        return
    newest = _newest(project)
    if faults := project.ledger.verify() if view.thorough else []:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        remedy = f"./run invoke ledger.verify says all; {RESTORE_FILE}"
        yield Finding("ledger", Level.CRITICAL, f"somebody or something changed it: {faults[0]}{more}", remedy)
    elif newest:
        yield Finding("ledger", Level.OK, f"{newest[0]} events, head {newest[1][:16]}")


def clock(view: View) -> Iterator[Finding]:
    """The clock can be believed: it is near the last event of the ledger, or others confirm it."""
    verdict = view.project.clock.verdict
    if not verdict.may_sign:
        yield Finding("clock", Level.CRITICAL, verdict.refusal.message, verdict.refusal.hint)
    elif verdict.confirmation:
        yield Finding("clock", Level.OK, f"{verdict.reading}; it is right: {verdict.confirmation}")
    elif verdict.last:
        yield Finding("clock", Level.OK, "agrees with the last event in the ledger")


def _newest(project: Project) -> tuple[int, str] | None:
    """Number and hash of the ledger's newest event, which no run with nothing to do opens it for."""
    kept = project.recall_from_ledger("newest", "")
    if kept is None:
        found = project.ledger.newest_event()
        kept = [found.seq, found.hash] if found else []
        project.remember_from_ledger("newest", "", kept)
    return (kept[0], kept[1]) if kept else None


def head(project: Project) -> str:
    """The ledger's head, for whoever wants to hold it against the ledger later; empty when there is none."""
    newest = _newest(project) if project.has_ledger else None
    return f"{newest[1]} after {newest[0]} events" if newest else ""


def counts(project: Project) -> tuple[int, int]:
    """How many certificates and revocations the ledger holds; it is not opened for that when nothing has changed."""
    kept = project.recall_from_ledger("counts", "")
    if kept is None:
        kept = project.ledger.counts()
        project.remember_from_ledger("counts", "", list(kept))
    return kept[0], kept[1]


# -- files ------------------------------------------------------------------------------------------------------------


def permissions(view: View) -> Iterator[Finding]:
    """Nobody but their owner reads the secrets; leaves' keys are looked at with their certificates."""
    project, looked, is_open = view.project, 0, False
    for path in secrets(view):
        mode = filesystem.mode_of(path)
        if mode is None:
            continue
        looked += 1
        if mode & 0o077:
            is_open, wanted = True, "700" if path.is_dir() else "600"
            text = f"others can read it: it has mode {mode:04o}{_closed(view, path)}"
            shown = project.store.shown(path)
            yield Finding(shown, Level.CRITICAL, text, f"chmod {wanted} {in_project(shown)}")
    for folder in _folders(view):
        mode = filesystem.mode_of(folder)
        if mode is not None and mode & stat.S_IWOTH:
            is_open, shown = True, view.project.store.shown(folder)
            text = f"others can replace what lies in it: it has mode {mode:04o}"
            yield Finding(shown, Level.CRITICAL, text, f"chmod go-w {in_project(shown)}")
    if not is_open:
        yield Finding("permissions", Level.OK, f"{looked} secrets are their owner's alone")


def _closed(view: View, path: Path) -> str:
    """What follows where a key is not opened before a file is closed to others."""
    place, passphrases = view.project.store, view.project.passphrases
    issuing = [one.name for name in ("server", "client") if (one := view.project.issuing(name))]
    names = [one for one in issuing if path in {place.authority_file(one, "key.pem"), passphrases.file_of(one)}]
    return f"; until then nothing can be renewed or revoked with {' and '.join(names)}" if names else ""


def secrets(view: View) -> Iterator[Path]:
    """The files and folders that their owner alone may read, leaves' keys aside."""
    place, said = view.project.store, view.project.inventory.secrets
    yield place.ca
    yield place.ca / "ledger.db"
    yield deploy_key_path(place.ca)
    yield from (place.home / name for name in sorted(said.files()))
    for authority in identifiers.AUTHORITIES:
        yield from (place.authority_file(name, "key.pem") for name in place.generations(authority))


def _folders(view: View) -> Iterator[Path]:
    """The folders in which secrets lie, and certificates and releases that are to be delivered."""
    place = view.project.store
    yield from dict.fromkeys(path.parent for path in secrets(view))
    for name in ("certs", "release", "crl", "trust"):
        yield place.build / name
        yield from _below(place.build / name, thorough=view.thorough)
    yield place.build


def _below(folder: Path, *, thorough: bool) -> Iterator[Path]:
    """The folders in a folder; in a thorough look those within them too, of which each host has many."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        found = sorted(one.path for one in entries if one.is_dir(follow_symlinks=False))
    for path in map(Path, found):
        yield path
        if thorough:
            yield from _below(path, thorough=True)


def project(view: View) -> Iterator[Finding]:
    """Nobody but its owner decides what the project says; one that every user can write is not read at all."""
    for path, text, remedy in safe_directories.writable_by_others(view.project.store.home):
        yield Finding(f"project:{path}", Level.WARNING, text, remedy)


def disk(view: View) -> Iterator[Finding]:
    """There is room for the next runs, and it can be written: else every renewal fails."""
    home, seen, free, is_unfit = view.project.store.home, set[int](), list[int](), False
    for path in (home, view.project.store.ca, view.project.store.build):
        if not path.exists() or (device := path.stat().st_dev) in seen:
            continue
        seen.add(device)
        found = os.statvfs(path)
        if found.f_flag & os.ST_RDONLY:
            is_unfit = True
            remedy = f"sudo mount -o remount,rw $(findmnt -nro TARGET -T {path}); why it was: sudo dmesg"
            text = "is mounted read-only: nothing can be renewed or recorded"
            yield Finding(f"disk:{path}", Level.CRITICAL, text, remedy)
            continue
        room, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        free.append(room // MEGABYTE)
        level = Level.CRITICAL if room < min(100 * MEGABYTE, size * 0.03) else Level.OK
        level = max(level, Level.WARNING if room < min(500 * MEGABYTE, size * 0.1) else Level.OK)
        if found.f_files and found.f_favail < min(1000, found.f_files * 0.01):
            level = Level.CRITICAL
        if level:
            is_unfit = True
            text = f"{room // MEGABYTE} of {size // MEGABYTE} MB and {found.f_favail} inodes are free"
            yield Finding(f"disk:{path}", level, text, f"make room: df -h {path}; du -xh {path} | sort -h | tail")
    if not is_unfit:
        yield Finding("disk", Level.OK, f"{min(free)} MB are free")


def textfile(view: View) -> Iterator[Finding]:
    """The metrics can be put where node_exporter reads them."""
    said = view.project.inventory.metrics.textfile
    if said and (complaint := complaint_of(said)):
        yield Finding("metrics", Level.WARNING, *complaint)
    elif said:
        yield Finding("metrics", Level.OK, f"go to {said}")


def complaint_of(textfile: str) -> tuple[str, str] | None:
    """Why `metrics.textfile` cannot be written, and what to type; None when it can be."""
    folder = os.path.dirname(textfile)
    if not os.path.isdir(folder):
        what = f"{textfile}: there is no folder {folder}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        what = f"{textfile}: cannot be written: {folder} is closed to this account"
    elif os.path.isdir(textfile):
        what = f"{textfile}: is a folder"
    else:
        return None
    remedy = (
        f"sudo install -d -o $(id -un) {folder}; where systemd runs doit also: sudo ./run invoke schedule --install"
    )
    return what, remedy


def last_backup(path: Path) -> dict[str, Any] | None:
    """What is known of the last backup: nothing where there was none, None where the record of it is damaged."""
    if not os.path.lexists(path):
        return {}
    return sealed_records.decode_record(filesystem.read_if_possible(path), last_seen.HEAD_KEYS[LAST_BACKUP])


def backup(view: View) -> Iterator[Finding]:
    """What cannot be made again is in a backup that is not too old; a sandbox has nothing that may not be lost."""
    project = view.project
    if project.inventory.sandbox or not project.has_ledger:
        return
    record, remedy = last_backup(project.store.ca / LAST_BACKUP), "./run invoke backup FILE, on another disk"
    if record is None:
        text = "nobody knows when there was one: ca/.last-backup.json is damaged"
        yield Finding("backup", Level.WARNING, text, remedy)
        return
    try:
        at = moment(record["at"])
    except (ValueError, KeyError, TypeError):
        yield Finding("backup", Level.WARNING, "there never was one: if ca/ is lost, so is this PKI", remedy)
        return
    newest, age = _newest(view.project), view.now - at
    is_behind = newest is not None and newest[1] != (record.get("ledger") or {}).get("head")
    if is_behind and age < -TOLERANCE:
        text = f"the last one is dated {at:%Y-%m-%d}, which is in the future, and the ledger went on since"
        yield Finding("backup", Level.WARNING, text, remedy)
        return
    level = Level.WARNING if age > BACKUP_WARNING else Level.NOTICE if age > BACKUP_NOTICE else Level.OK
    if is_behind and level:
        text = f"the last one is of {at:%Y-%m-%d}, and the ledger went on since"
        yield Finding("backup", level, text, remedy, since=at)
    else:
        yield Finding("backup", Level.OK, f"of {at:%Y-%m-%d}")
