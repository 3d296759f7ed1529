"""Backing a project up, and restoring it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from pki.backup import lost_ledger
from pki.backup import restore as restoring
from pki.backup import write_backup as backing_up
from pki.backup.restore import Restore, Restored
from pki.cli.decorator import command_with, home_of, now_of, passphrase_in, path_of, project_of
from pki.cli.revoke_command import consent
from pki.common import filesystem, passphrase_strength
from pki.common.errors import LedgerError, PkiError
from pki.common.remedies import run_for
from pki.common.terminal import Screen, ask_secretly
from pki.config.identifiers import ArtifactId
from pki.project.missing_roots import refusal
from pki.project.project import Project
from pki.project.safe_directories import check_owner

NO_TERMINAL = PkiError(
    "there is no terminal to ask for the passphrase at", "name a file that holds it: --passphrase-file FILE"
)


@command_with(may_lack="file")
def backup(context: Context, file: str | None = None, passphrase_file: str = "") -> None:
    """Write what cannot be made again into one encrypted FILE: pki.yaml, templates/, secrets, ca/ with the ledger.

    Its passphrase is read from --passphrase-file, comes from the source that pki.yaml names for `backup`, or is asked
    for twice. FILE is pki-backup-<time>.age here when none is named. `age -d FILE | tar t` shows what is in it.
    """
    project, screen = project_of(context), Screen()
    target = path_of(context, file or ".")
    if target.is_dir():
        target /= f"pki-backup-{project.now:%Y%m%dT%H%M%SZ}.age"
    backing_up.check_target(project, target)
    passphrase = _new_passphrase(context, project, passphrase_file)
    with _disk_errors():
        notes = backing_up.backup(project, target, passphrase)
    screen.made("backup", f"{target}, read back and whole")
    for note in notes:
        screen.line(f"  {note}")
    if risk := backing_up.shared_fate(project, target):
        screen.note("backup", risk, "./run invoke backup FILE, on another disk")
    try:
        faults = project.cached_key_faults
    except PkiError as error:  # an authority's own certificate, without which its key cannot be judged
        raise PkiError(f"{error.message}; it is so in this backup too", error.hint) from None
    for name, fault in faults.items():
        screen.failed(ArtifactId("key", name), f"{fault.message}; it is so in this backup too", fault.hint)
    if faults:
        raise Exit(code=1)


@command_with()
def restore(context: Context, file: str, to: str = "", passphrase_file: str = "", yes: bool = False) -> None:
    """Put the project in a backup FILE into --to DIR (or PKI_HOME); all of it is checked before anything is written.

    What is in its way (ca/, passphrases) is moved to ca.before-restore-TIME/ beside ca/, and named; nothing is deleted.
    Revocations that a ledger there knows are recovered. Where nothing of ca/ is lost, it asks before; --yes does not.
    The passphrase is read from --passphrase-file or asked for.
    """
    path, target = path_of(context, file), path_of(context, to) if to else home_of(context)
    check_owner(target)
    restoring.check_target(target)
    sealed = filesystem.read(path)
    if sealed is None:
        raise PkiError(f"{file}: is not there", "name a file that ./run invoke backup wrote")
    passphrase = passphrase_in(context, passphrase_file) or ask_secretly("passphrase of the backup: ")
    if passphrase is None:
        raise NO_TERMINAL
    with _disk_errors():
        work = restoring.Restore.read(sealed, passphrase, file, target, now_of(context))
        if not yes and (whole := work.nothing_lost()):
            print(f"{target}: {whole}")
            consent(f"replace it by the backup of {work.at}?", f"./run invoke restore {file}")
        found = work.carry_out()
    _say_restored(Screen(), work, found)
    project = Project.open(target, now_of(context))
    if project.missing_roots:
        error = refusal(project.missing_roots, project.inventory, project.store)
        Screen().note(
            "authority:root", f"{error.message}; the backup is too old", "./run invoke restore FILE, a newer one"
        )
    else:
        project.clock.confirm()  # the last event of a backup may be long ago
        _say_what_is_older(Screen(), project, work)
        if work.ledger is not None:
            _go_on_from(Screen(), project, f"restored from {path.name}, a backup of {work.at}")
    here = run_for(target)
    Screen().line(f"next: {here} invoke plan; hosts tell what was revoked since: {here} invoke ledger.recover --all")


def _say_restored(screen: Screen, work: Restore, found: Restored) -> None:
    screen.made("project", f"{work.target}: {', '.join(found.placed)}, as of {work.at}")
    if found.moved:
        screen.line(f"  was in the way, and is now in {found.aside}: {', '.join(found.moved)}")
    if found.left:
        screen.line(f"  kept as they are here, and different in the backup: {', '.join(found.left)}")
    if found.recovered:
        serials = ", ".join(f"{serial:x}" for serial in found.recovered)
        screen.line(f"  revoked after the backup, and recovered from the ledger that was there: {serials}")
    for error in found.unread:
        screen.note("ledger", f"{error.message}; no revocation is recovered from it", error.hint)
    if work.ledger is None:
        screen.line("  the backup holds no ledger: its database is restored with that database's own tool")


def _say_what_is_older(screen: Screen, project: Project, work: Restore) -> None:
    """What runs did after the backup, as far as build/ still shows it."""
    if project.inventory.ledger == "sqlite" and not project.has_ledger:
        return
    if work.ledger is None:  # one in the backup says so itself
        try:
            project.ledger.record_decision("project", "restored", f"backup of {work.at}", project.now)
        except LedgerError as error:
            screen.note("ledger", f"{error.message}; that the project was restored is not recorded", error.hint)
            return
    newer, carried = restoring.recover_from_published_crls(project)
    if newer:
        screen.line(
            f"  build/ holds newer CRLs than the restored ledger ({', '.join(newer)}); the next ones get higher numbers still"
        )
    if carried:
        screen.line(f"  revoked after the backup, and recorded again from those CRLs: {', '.join(carried)}")
    for name in restoring.unknown_leaves(project):
        screen.note(
            ArtifactId("cert", name),
            "was issued after the backup, and the ledger does not know it",
            f"./run invoke renew {name}",
        )
    project.ledger.close()


def _go_on_from(screen: Screen, project: Project, why: str) -> None:
    """A restored ledger is older than what was seen since then; that is known now, and recorded in it."""
    if project.ledger_fault and project.ledger_fault.kind in lost_ledger.ACCEPTABLE:
        accepted = lost_ledger.accept(project, why)
        if accepted.lost:
            screen.line(
                f"  the ledger goes on from the backup's: it lacks event {accepted.lost[-1].seq}, which was seen"
            )
        project.ledger.close()


def _new_passphrase(context: Context, project: Project, file: str) -> str:
    """The passphrase of a new backup, strong enough to lie about on other people's disks."""
    named = project.passphrases.named("backup") if not file else None
    text, source = (
        passphrase_in(context, file) or (named.value if named else ""),
        file or (named.source if named else ""),
    )
    if not source:
        source, text = "the passphrase", _typed_twice()
    if fault := passphrase_strength.fault(text):
        raise PkiError(f"{source}: {fault}", passphrase_strength.REMEDY)
    return text


def _typed_twice() -> str:
    text = ask_secretly("passphrase for the backup (six random words): ")
    if text is None:
        raise NO_TERMINAL
    if text != ask_secretly("once more: "):
        raise PkiError("the two passphrases differ", "type it again")
    return text


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A full or broken disk below a temporary folder is a person's to fix too."""
    try:
        yield
    except OSError as error:
        place = Path(str(error.filename)).name if error.filename else "a temporary file"
        raise PkiError(f"{place}: cannot be written: {error.strerror}", "make room on that disk") from None
