"""The commands backup and restore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from pki.backup import lost_ledger
from pki.backup import restore as restoring
from pki.backup import write_backup as backing_up
from pki.backup.restore import Restore, RestoreResult
from pki.backup.write_backup import LEDGER_COPY
from pki.cli.decorator import command_with, home_of, now_of, passphrase_in, path_of, project_of
from pki.cli.prompt import confirm
from pki.common import filesystem, passphrase_strength
from pki.common.errors import LedgerError, PkiError
from pki.common.remedies import run_for
from pki.common.terminal import Screen, ask_secretly
from pki.common.timestamps import COMPACT
from pki.config.identifiers import ArtifactId
from pki.project.missing_roots import refusal
from pki.project.project import Project
from pki.project.safe_directories import check_owner
from pki.project.secrets import Passphrases

NO_TERMINAL = PkiError(
    "there is no terminal to ask for the passphrase", "name a file that contains it: --passphrase-file FILE"
)


@command_with(may_lack="file")
def backup(context: Context, file: str | None = None, passphrase_file: str = "") -> None:
    """Write everything that cannot be created again into one encrypted FILE: pki.yaml, templates/, secrets, ca/.

    The passphrase is read from --passphrase-file or the source that pki.yaml names for `backup`, or asked for twice.
    The default of FILE is pki-backup-<time>.age in the current folder. `age -d FILE | tar t` lists its content.
    """
    project, screen = project_of(context), Screen()
    target = path_of(context, file or ".")
    if target.is_dir():
        target /= f"pki-backup-{project.now:{COMPACT}}.age"
    backing_up.check_target(project.inventory, project.store, project.ledger_view, target)
    passphrase = _new_passphrase(context, project.passphrases, passphrase_file)
    with _disk_errors():
        notes = backing_up.BackupWriter(project).write(target, passphrase)
    project.ledger_view.close()  # SQLite deletes its log: a copy of ledger.db alone is then complete
    screen.done("created", "backup", f"{target}, read back and intact")
    for note in notes:
        screen.line(f"  {note}")
    if risk := backing_up.common_loss(project.store, target):
        screen.note("backup", risk, "./run invoke backup FILE, on another disk")
    try:
        faults = project.signing_keys.cached_faults
    except PkiError as error:  # the certificate of an authority is damaged, so that its key cannot be checked
        raise PkiError(f"{error.message}; this backup has the same fault", error.hint) from None
    for name, fault in faults.items():
        screen.failed(ArtifactId("key", name), f"{fault.message}; this backup has the same fault", fault.hint)
    if faults:
        raise Exit(code=1)


@command_with()
def restore(context: Context, file: str, to: str = "", passphrase_file: str = "", yes: bool = False) -> None:
    """Restore the project in a backup FILE into --to DIR (or PKI_HOME); all of it is checked before anything is written.

    Existing files (ca/, passphrases) are moved to ca.before-restore-TIME/ beside ca/, and listed; nothing is deleted.
    Revocations in the ledger there are recovered. If nothing of ca/ is lost, it asks for confirmation unless --yes is
    given. The passphrase is read from --passphrase-file or asked for.
    """
    path, target = path_of(context, file), path_of(context, to) if to else home_of(context)
    check_owner(target)
    restoring.check_target(target)
    archive = filesystem.read(path)
    if archive is None:
        raise PkiError(f"{file}: is not there", "name a file that ./run invoke backup wrote")
    passphrase = passphrase_in(context, passphrase_file) or ask_secretly("passphrase of the backup: ")
    if passphrase is None:
        raise NO_TERMINAL
    with _disk_errors():
        backup = restoring.Restore.read(archive, passphrase, file, target, now_of(context))
        if not yes and (intact := backup.nothing_lost()):
            print(f"{target}: {intact}")
            confirm(f"replace it by the backup of {backup.at}?", f"./run invoke restore {file}")
        outcome = backup.carry_out()
    _print_restored(Screen(), backup, outcome)
    project = Project.open(target, now_of(context))
    if project.roots.missing:
        error = refusal(project.roots.missing, project.inventory, project.store)
        Screen().note(
            "authority:root", f"{error.message}; the backup is too old", "./run invoke restore FILE, a newer one"
        )
    else:
        project.clock.confirm()  # the last event in a backup may be old, and says nothing about the clock
        _print_newer_state(Screen(), project, backup)
        if backup.ledger is not None:
            _continue_from(Screen(), project, f"restored from {path.name}, a backup of {backup.at}")
    run = run_for(target)
    Screen().line(
        f"next: {run} invoke plan; to recover later revocations from the hosts: {run} invoke ledger.recover --all"
    )


def _print_restored(screen: Screen, backup: Restore, restored: RestoreResult) -> None:
    screen.done("restored", "project", f"{backup.target}: {', '.join(restored.placed)}, as of {backup.at}")
    if restored.moved:
        screen.line(f"  moved to {restored.aside}: {', '.join(restored.moved)}")
    if restored.left:
        screen.line(f"  not replaced, although different in the backup: {', '.join(restored.left)}")
    if restored.recovered:
        serials = ", ".join(f"{serial:x}" for serial in restored.recovered)
        screen.line(f"  revoked after the backup, and recovered from the ledger that was there: {serials}")
    for error in restored.unread:
        screen.note("ledger", f"{error.message}; no revocation is recovered from it", error.hint)
    if LEDGER_COPY in backup.archive.files:
        screen.line("  its ledger is in a database; if that is lost, put the copy of the backup into an empty one:")
        screen.line(f"  {run_for(backup.target)} invoke ledger.restore")
    elif backup.ledger is None:
        screen.line("  the backup contains no ledger: restore its database with the tool of that database")


def _print_newer_state(screen: Screen, project: Project, backup: Restore) -> None:
    """Record and print what runs did after the backup, as far as build/ still contains it."""
    if project.inventory.ledger == "sqlite" and not project.ledger_view.has_ledger:
        return
    if backup.ledger is None:  # a ledger in the backup got that event already
        try:
            project.ledger.record_decision("project", "restored", f"backup of {backup.at}", project.now)
        except LedgerError as error:
            screen.note("ledger", f"{error.message}; that the project was restored is not recorded", error.hint)
            return
    newer, serials = restoring.recover_from_published_crls(project)
    if newer:
        screen.line(
            f"  build/ contains newer CRLs than the restored ledger ({', '.join(newer)}); the next CRLs get higher numbers"
        )
    if serials:
        screen.line(f"  revoked after the backup, and recorded again from those CRLs: {', '.join(serials)}")
    for name in restoring.unknown_leaves(project.store, project.ledger_view):
        screen.note(
            ArtifactId("cert", name),
            "was issued after the backup, and is not in the ledger",
            f"./run invoke renew {name}",
        )
    project.ledger.close()


def _continue_from(screen: Screen, project: Project, reason: str) -> None:
    """Record in a restored ledger that it is older than the state that was seen, so that runs continue with it."""
    if project.ledger_view.fault and project.ledger_view.fault.kind in lost_ledger.ACCEPTABLE:
        accepted = lost_ledger.accept(project, reason)
        if accepted.lost:
            screen.line(
                f"  the ledger continues from the backup: event {accepted.lost[-1].seq}, which was seen, is not in it"
            )
        project.ledger.close()


def _new_passphrase(context: Context, passphrases: Passphrases, file: str) -> str:
    """Return the passphrase of a new backup. Raises PkiError if it is weak: a backup is stored on other machines."""
    named = passphrases.named("backup") if not file else None
    if file:
        source, text = file, passphrase_in(context, file) or ""
    elif named:
        source, text = named.source, named.value
    else:
        source, text = "the passphrase", _typed_twice()
    if fault := passphrase_strength.find_weakness(text):
        raise PkiError(f"{source}: {fault}", passphrase_strength.REMEDY)
    return text


def _typed_twice() -> str:
    """Return a passphrase that was typed twice. Raises PkiError without a terminal, or if the two differ."""
    text = ask_secretly("passphrase for the backup (six random words): ")
    if text is None:
        raise NO_TERMINAL
    if text != ask_secretly("once more: "):
        raise PkiError("the two passphrases differ", "type it again")
    return text


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise PkiError for an OSError: a full or broken disk below a temporary folder."""
    try:
        yield
    except OSError as error:
        place = Path(str(error.filename)).name if error.filename else "a temporary file"
        raise PkiError(f"{place}: cannot be written: {error.strerror}", "make room on that disk") from None
