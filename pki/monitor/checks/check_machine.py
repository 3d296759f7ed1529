"""Checks of the machine that runs doit: ledger, clock, permissions, disk space, metrics file and backup."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pki.common import filesystem, sealed_records
from pki.common.remedies import in_project
from pki.common.timestamps import moment
from pki.config import identifiers
from pki.deploy.crl_files import TOLERANCE
from pki.deploy.ssh import deploy_key_path
from pki.ledger import last_seen
from pki.ledger.last_seen import LAST_BACKUP
from pki.ledger.types import RESTORE_FILE, TRANSIENT
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.checks.disk_space import DiskSpace, in_megabytes
from pki.project import safe_directories
from pki.project.ledger_view import LedgerView

DAY = timedelta(days=1)
BACKUP_LEVELS = ((8 * DAY, Level.NOTICE), (31 * DAY, Level.WARNING))  # by the age of the last backup


# -- the ledger and the clock -----------------------------------------------------------------------------------------


def check_ledger(context: CheckContext) -> Iterator[Finding]:
    """Report a ledger that is missing, foreign, incomplete or older than seen. A thorough check verifies its hash chain."""
    project = context.project
    if fault := project.ledger_view.fault:
        if fault.kind == TRANSIENT:
            raise fault.error  # temporary, such as a full disk, which check_disk reports
        yield Finding("ledger", Level.CRITICAL, fault.consequence, fault.remedy)
        return
    if not project.ledger_view.has_ledger:
        return
    newest = _newest_event(project.ledger_view)
    if faults := project.ledger.verify() if context.thorough else []:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        remedy = f"./run invoke ledger.verify shows everything; {RESTORE_FILE}"
        yield Finding("ledger", Level.CRITICAL, f"was changed or damaged: {faults[0]}{more}", remedy)
    elif newest:
        yield Finding("ledger", Level.OK, f"intact: {newest.number} events; hash of the last one: {newest.hash[:16]}")


def check_clock(context: CheckContext) -> Iterator[Finding]:
    """Report a clock that is far from the last event of the ledger and that no other clock confirms."""
    verdict = context.project.clock.verdict
    if not verdict.may_sign:
        yield Finding("clock", Level.CRITICAL, verdict.refusal.message, verdict.refusal.hint)
    elif verdict.confirmation:
        yield Finding("clock", Level.OK, f"{verdict.reading}; confirmed: {verdict.confirmation}")
    elif verdict.last:
        yield Finding("clock", Level.OK, "agrees with the last event in the ledger")
    else:
        yield Finding("clock", Level.OK, "nothing to compare it with: the ledger had no event before this run")


class _LedgerHead(NamedTuple):
    number: int
    hash: str


def _newest_event(ledger_view: LedgerView) -> _LedgerHead | None:
    """Return number and hash of the newest event in the ledger; cached, so that an idle run does not open the ledger."""

    def read() -> tuple[int, str] | tuple[()]:
        event = ledger_view.ledger.newest_event()
        return (event.seq, event.hash) if event else ()

    newest = ledger_view.cached("newest", "", read)
    return _LedgerHead(*newest) if newest else None


def ledger_head(ledger_view: LedgerView) -> str:
    """Return the number of events and the hash of the last one, to be compared with the ledger later; "" without a ledger."""
    newest = _newest_event(ledger_view) if ledger_view.has_ledger else None
    return f"{newest.number} events; hash of the last one: {newest.hash}" if newest else ""


def ledger_counts(ledger_view: LedgerView) -> tuple[int, int]:
    """Return the number of certificates and of revocations in the ledger; cached while it does not change."""
    certificates, revocations = ledger_view.cached("counts", "", lambda: list(ledger_view.ledger.counts()))
    return certificates, revocations


# -- files ------------------------------------------------------------------------------------------------------------


def check_permissions(context: CheckContext) -> Iterator[Finding]:
    """Report secrets that others can read; the keys of leaves are checked with their certificates."""
    project, modes, is_open = context.project, list[int](), False
    for path in secret_paths(context):
        mode = filesystem.mode_of(path)
        if mode is None:
            continue
        if not path.is_dir():
            modes.append(mode)
        if mode & 0o077:
            is_open, required = True, "700" if path.is_dir() else "600"
            text = f"can be read by others: its mode is {mode:04o}{_blocked_keys(context, path)}"
            shown = project.store.shown(path)
            remedy = f"chmod {required} {in_project(shown)}"
            yield Finding(shown, Level.CRITICAL, text, remedy, headline=f"others can read {shown}")
    for folder in _folders(context):
        mode = filesystem.mode_of(folder)
        if mode is not None and mode & stat.S_IWOTH:
            is_open, shown = True, context.project.store.shown(folder)
            text = f"lets others replace files in it: its mode is {mode:04o}"
            headline = f"others can replace files in {shown}"
            yield Finding(shown, Level.CRITICAL, text, f"chmod go-w {in_project(shown)}", headline=headline)
    if not is_open:
        text = "all mode 0600" if set(modes) <= {0o600} else "none accessible to others"
        yield Finding("permissions", Level.OK, f"{len(modes)} secret file{'s' if len(modes) != 1 else ''}, {text}")


def _blocked_keys(context: CheckContext, path: Path) -> str:
    """Return, as the end of a sentence, which keys are not used while others can read this file; "" for none."""
    store, passphrases = context.project.store, context.project.passphrases
    issuing = [
        generation.name
        for name in ("server", "client", "peer")
        if (generation := context.project.authorities.issuing(name))
    ]
    names = [name for name in issuing if path in {store.authority_file(name, "key.pem"), passphrases.file_of(name)}]
    return f"; until that is corrected, nothing can be renewed or revoked with {' and '.join(names)}" if names else ""


def secret_paths(context: CheckContext) -> Iterator[Path]:
    """Yield the files and folders that only their owner may read; keys of leaves are not among them."""
    store, config = context.project.store, context.project.inventory.secrets
    yield store.ca
    yield store.ca / "ledger.db"
    yield deploy_key_path(store.ca)
    yield from (store.home / name for name in sorted(config.files()))
    for authority in identifiers.ALL_AUTHORITIES:
        yield from (store.authority_file(name, "key.pem") for name in store.generations(authority))


def _folders(context: CheckContext) -> Iterator[Path]:
    """Yield the folders that contain secrets, and certificates and releases that are to be deployed."""
    build = context.project.store.build
    yield from dict.fromkeys(path.parent for path in secret_paths(context))
    for name in ("certs", "release", "crl", "trust"):
        yield build / name
        yield from _below(build / name, thorough=context.thorough)
    yield build


def _below(folder: Path, *, thorough: bool) -> Iterator[Path]:
    """Yield the folders in a folder; in a thorough check also those below them, of which each host has many."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        subfolders = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    for path in map(Path, subfolders):
        yield path
        if thorough:
            yield from _below(path, thorough=True)


def check_project(context: CheckContext) -> Iterator[Finding]:
    """Report files of the project that users other than its owner can write.

    A project that every user can write is not read at all, so it never gets here.
    """
    for path, text, remedy in safe_directories.writable_by_others(context.project.store.home):
        yield Finding(f"project:{path}", Level.WARNING, text, remedy)


def check_disk(context: CheckContext) -> Iterator[Finding]:
    """Report a disk that is almost full or mounted read-only: every renewal would fail."""
    home, devices, free, is_reported = context.project.store.home, set[int](), list[int](), False
    for path in (home, context.project.store.ca, context.project.store.build):
        if not path.exists() or (device := path.stat().st_dev) in devices:
            continue
        devices.add(device)
        space = DiskSpace.of(path)
        if space.is_read_only:
            is_reported = True
            text = "mounted read-only: nothing can be renewed or recorded"
            yield Finding(f"disk:{path}", Level.CRITICAL, text, space.remount(path))
            continue
        free.append(space.free_megabytes)
        if space.level:
            is_reported = True
            text = f"{space.free_megabytes} of {space.megabytes} MB and {space.free_inodes} inodes free"
            yield Finding(f"disk:{path}", space.level, text, space.make_room(path))
    if not is_reported:
        yield Finding("disk", Level.OK, f"{in_megabytes(min(free))} free")


def check_textfile(context: CheckContext) -> Iterator[Finding]:
    """Report a metrics textfile that cannot be written where node_exporter reads it."""
    textfile = context.project.inventory.metrics.textfile
    if textfile and (fault := textfile_fault(textfile)):
        yield Finding("metrics", Level.WARNING, *fault)
    elif textfile:
        yield Finding("metrics", Level.OK, f"written to {textfile}")


def textfile_fault(textfile: str) -> tuple[str, str] | None:
    """Return why `metrics.textfile` cannot be written, and the remedy; None if it can be."""
    folder = os.path.dirname(textfile)
    if not os.path.isdir(folder):
        fault = f"{textfile}: folder {folder} does not exist"
    elif not os.access(folder, os.W_OK | os.X_OK):
        fault = f"{textfile}: this account cannot write to {folder}"
    elif os.path.isdir(textfile):
        fault = f"{textfile}: is a folder"
    else:
        return None
    remedy = f"sudo install -d -o $(id -un) {folder}; if systemd runs doit, also: sudo ./run invoke schedule --install"
    return fault, remedy


def read_last_backup(path: Path) -> dict[str, Any] | None:
    """Return the record of the last backup: empty if there was none, None if the record is damaged."""
    if not os.path.lexists(path):
        return {}
    return sealed_records.decode_record(filesystem.read_if_possible(path), last_seen.HEAD_KEYS[LAST_BACKUP])


def check_backup(context: CheckContext) -> Iterator[Finding]:
    """Report a backup that is too old, or none; a sandbox needs none."""
    project = context.project
    if project.inventory.sandbox or not project.ledger_view.has_ledger:
        return
    record, remedy = read_last_backup(project.store.ca / LAST_BACKUP), "./run invoke backup FILE, on another disk"
    if record is None:
        text = "the date of the last one is unknown: ca/.last-backup.json is damaged"
        yield Finding("backup", Level.WARNING, text, remedy)
        return
    try:
        at = moment(record["at"])
    except (ValueError, KeyError, TypeError):
        yield Finding("backup", Level.WARNING, "no backup was ever made: if ca/ is lost, this PKI is lost", remedy)
        return
    newest, age = _newest_event(context.project.ledger_view), context.now - at
    is_behind = newest is not None and newest.hash != (record.get("ledger") or {}).get("head")
    if is_behind and age < -TOLERANCE:
        text = f"the last one is dated {at:%Y-%m-%d}, in the future, and the ledger has changed since"
        yield Finding("backup", Level.WARNING, text, remedy)
        return
    level = max((level for limit, level in BACKUP_LEVELS if age > limit), default=Level.OK)
    if is_behind and level:  # an old backup of a ledger that did not change since is as good as a new one
        text = f"the last one is from {at:%Y-%m-%d}, and the ledger has changed since"
        yield Finding("backup", level, text, remedy, since=at)
    else:
        yield Finding("backup", Level.OK, f"from {at:%Y-%m-%d}")
