"""Root ceremonies, the online side: asked for, rehearsed, accepted, verified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki.backup import lost_ledger, restore
from pki.ceremony import audit, drives, kit_unpacking, plan_text, request_response, vault_identity, words
from pki.ceremony.online import (
    accept_response,
    ceremony_archive,
    lost_ceremonies,
    make_request,
    needs,
    rehearsal,
    sandbox_ceremony,
)
from pki.ceremony.online import kit as kits
from pki.ceremony.online.ceremony_archive import Open
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.policy import Known
from pki.ceremony.script import script
from pki.ceremony.vault import Past
from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, command_with, held_project_of, path_of, project_as_it_is, project_of
from pki.cli.prompt import ask_first_words
from pki.cli.revoke_command import PLAIN_REASONS
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.reasons import joined
from pki.common.remedies import RESTORE, run_for
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project.project import Project


@command_with(many=("new", "revoke", "destroy"))
def request(
    context: Context,
    new: list[str],
    revoke: list[str],
    destroy: list[str],
    reason: str = "",
    crls: bool = False,
    drop_earlier: bool = False,
    output: str = "",
) -> None:
    """Ask for a root ceremony: everything that is needed, and what you wish; says what to do next.

    --new server (client, root) asks for a new generation, --revoke server-1 --reason key-compromise revokes an
    intermediate, --crls asks for new root CRLs, --destroy root-1 for the end of a root's key; --drop-earlier forgets what the
    open request wishes. --output DIR copies the request to a medium. doit prepares what is needed by itself; then this
    only shows it.
    """
    screen, options = Screen(), _options(new, revoke, destroy, reason, crls=crls)
    with held_project_of(context) as project:
        if project.inventory.sandbox:
            sandbox_ceremony.ceremony(project, options)
            screen.line(f"the sandbox held the ceremony itself; now: {run_for(project.store.home)} doit")
            return
        before = ceremony_archive.open_requests(project)[-1:]
        reasons = make_request.uncovered(project, needs.needs(project)) if before else []
        asked = make_request.prepare(project, options, drop_earlier=drop_earlier)
    if before and before[0].digest != asked.digest:
        screen.line(
            f"in place of request {before[0].request.number}, whose paper and kit are void: {joined(reasons) or 'as you options'}"
        )
    for line in _shown(project, asked):
        screen.line(line)
    if output:
        target = path_of(context, output) / f"request-{asked.request.number:04}.yaml"
        if not target.parent.is_dir():
            raise PkiError(f"{target.parent}: is not a folder", "mount the drive, then name its folder")
        kits.insist_no_vault(target.parent)
        filesystem.write(target, filesystem.read(asked.path) or b"")
        screen.line(f"copied to {target}")


def _options(new: list[str], revoke: list[str], destroy: list[str], reason: str, *, crls: bool) -> RequestOptions:
    if revoke and not reason:
        raise PkiError("why is it to be revoked?", "--reason key-compromise, superseded or cessation-of-operation")
    if reason and not revoke:
        raise PkiError("--reason belongs to --revoke", "name the intermediate: --revoke server-1")
    plain = PLAIN_REASONS[require_one_of(reason, PLAIN_REASONS, "reason")] if reason else ""
    return RequestOptions(tuple(new), tuple((name, plain) for name in revoke), tuple(destroy), crls)


def _shown(project: Project, asked: Open) -> Iterator[str]:
    """A request as its paper shows it: what it asks, its digest in words, and the next steps."""
    yield f"request {asked.request.number}, prepared {asked.request.prepared:%Y-%m-%d %H:%M} UTC, in {project.store.shown(asked.path)}"
    yield from (f"  because {reason}" for reason in asked.request.because)
    yield ""
    yield from plan_text.roots(asked.request)
    yield from plan_text.signatures(asked.request, _known(project))
    if found := needs.needs(project):
        by = min(need.by for need in found)
        yield ""
        yield f"to be held {f'by {by:%Y-%m-%d}' if by > project.now else 'now'}, by the root's owner and a witness"
    yield ""
    yield f"SHA-256 {asked.digest}"
    yield from words.shown(asked.digest)
    yield ""
    yield "write the first words down, or print this; then (docs/ceremony.md, step by step):"
    run = run_for(project.store.home)
    yield f"  {run} invoke ceremony.rehearse     see what the day will bring"
    yield f"  {run} invoke ceremony.kit DIR      the program and this request, onto a drive"
    if asked.request.roots:
        yield "  ./run invoke ceremony.root REQUEST --vault DIR     on the offline machine"
    yield "  ./run invoke ceremony.sign REQUEST --vault DIR --output DIR     on the offline machine"
    yield "  ./run invoke ceremony.copy --vault DIR --to DIR     there too: the second drive"
    yield "here again:"
    yield f"  {run} invoke ceremony.accept DIR/response-{asked.request.number:04}"
    yield f"  {run} doit"


def _known(project: Project) -> Known:
    """What the ceremonies that were accepted here have made, as the vault knows it too."""
    history = []
    for folder in project.store.ceremonies():
        asked, answered = filesystem.read(folder / "request.yaml"), filesystem.read(folder / "response.yaml")
        if asked is not None and answered is not None:
            parts = (
                request_response.load(asked, str(folder), request_response.Request),
                request_response.load(answered, str(folder), request_response.Response),
            )
            history.append(
                Past(
                    int(folder.name), folder, *parts, request_response.digest(asked), request_response.digest(answered)
                )
            )
    return Known({}, history)


@command
def rehearse(context: Context, output: str = "") -> None:
    """Hold the ceremony of the open request with throw-away keys; write the texts of what the day will bring.

    They go to rehearsal/NNNN/ in the project (or --output DIR), to be committed and reviewed. What only the day can know
    (serial numbers, signatures, a new root's key) is left out, so the same request gives the same texts.
    """
    project, screen = project_of(context), Screen()
    waiting = ceremony_archive.open_requests(project)
    if not waiting:
        raise PkiError("there is no open request to rehearse", f"{run_for(project.store.home)} invoke ceremony.request")
    number = f"{waiting[-1].request.number:04}"
    folder = path_of(context, output) if output else project.store.home / "rehearsal" / number
    make_request.insist_on_current(project, waiting[-1])
    files = rehearsal.rehearse(project, waiting[-1])
    filesystem.write_all({folder / name: (content, filesystem.PUBLIC) for name, content in files.items()})
    for name in files:
        screen.line(f"{folder / name}")
    screen.line(f"request {waiting[-1].request.number} can be held: every check passed with throw-away keys")


@command
def kit(context: Context, folder: str, python: str = "", platform: str = "", hsm: bool = False) -> None:
    """Write what the offline machine needs onto a medium: program, wheels, open request and a script to print.

    It goes to FOLDER/doit-pki-kit. The offline machine may be another one: --python 3.13, and --platform
    manylinux_2_28_aarch64 for another architecture or an older system. --hsm brings what speaks to tokens along.
    """
    project, screen = project_of(context), Screen()
    machine, target = kits.Machine(python, platform), kits.check_place(path_of(context, folder))
    home = str(project.store.home.resolve())
    files = {kits.PROJECT: f"{home}\n".encode()}
    if waiting := ceremony_archive.open_requests(project)[-1:]:
        [asked] = waiting
        make_request.insist_on_current(project, asked)
        files[f"request-{asked.request.number:04}.yaml"] = request_response.dump(asked.request)
        files["CEREMONY.txt"] = script(
            asked.request, asked.digest, _known(project), str(machine), hsm=hsm, project=home
        )
    digest, count = kits.write(target, PROGRAM, machine, files, hsm=hsm)
    screen.done("created", "kit", f"{target}, for {machine}")
    screen.line(
        f"print CEREMONY.txt in it: request {asked.request.number}"
        if waiting
        else "no request is open: the program alone"
    )
    screen.line("")
    screen.line(f"SHA-256 of its SHA256SUMS {digest}")
    screen.line(f"{count} files")
    screen.line("")
    screen.line("take this on paper to the offline machine; there, before anything of the kit is run:")
    for line in (
        *kit_unpacking.LIST,
        "# compare all 64 digits with the paper, then:",
        *kit_unpacking.FILES,
        *kit_unpacking.CHECKS,
    ):
        screen.line(f"  {line}")
    screen.line(f"the last two lines must say: whole, and {count}")


@command
def accept(context: Context, response: str, words: str = "") -> None:
    """Take in what a ceremony made: RESPONSE is the folder response-NNNN that invoke ceremony.sign wrote.

    Everything in it is verified again; the first words of its SHA-256, as the offline machine showed them, are asked
    for (or --words "…"). Nothing is filed before all is well.
    """
    project, screen = project_as_it_is(context), Screen()
    folder = path_of(context, response)
    accept_response.check_roots(project, folder)
    with project.store.lock():
        found = accept_response.brought(project, folder)
        for name, sha256 in found.roots.items():
            screen.line(f"new root certificate {name}; it will be trusted from now on: SHA-256 {sha256}")
        if found.is_lost:
            numbers = ", ".join(str(held.request.number) for held in found.series)
            screen.line(f"ca/ knows nothing of ceremony {numbers}: accepted again")
        digest = request_response.digest(found.answer.data)
        accept_response.confirm(
            found, words or ask_first_words("response", "the ceremony", digest, accept_response.other_digests(found))
        )
        if found.is_lost and not project.store.generations("root") and project.ledger_fault:
            lost_ledger.accept(project, f"ca/ was lost; accepted again with ceremony {found.request.number}")
        old = accept_response.file(project, found)
        if found.is_lost:
            restore.recover_from_published_crls(project)
        project.ledger.close()
    for name, issuer in (pair for held in found.series for pair in held.answer.certificates):
        screen.done("accepted", ArtifactId("authority", GenerationName.parse(name).authority), f"{name} by {issuer}")
    for line in old:
        screen.note(
            "destroy", f"{line}, was replaced", "every copy of it: older backups of ca/, other copies of the vault"
        )
    if lacking := lost_ceremonies.lacking_keys(project, found.series):
        new = lost_ceremonies.new_generations(project, lacking)
        screen.note(", ".join(lacking), "the key is not in ca/", f"{RESTORE}; where no backup has it: {new}")
    screen.line(f"ceremony {found.request.number} is accepted; now: {run_for(project.store.home)} doit")


@command_with(may_lack="folder")
def verify(context: Context, folder: str | None = None) -> None:
    """Compute every hash and signature of all ceremonies again: of this project, or of a vault named as FOLDER."""
    place = _root_of(path_of(context, folder) if folder else project_as_it_is(context).store.ca)
    verdict, screen = audit.verify(place), Screen()
    if vault_identity.is_vault(place):
        _add_drive(place, verdict)
    for line in verdict.lines:
        screen.line(line)
    for fault in verdict.faults:
        screen.failed("ceremony", fault, "")
    if verdict.faults:
        raise Exit(code=1)
    if verdict.waiting:
        unsigned = audit.unsigned(place, verdict.waiting)
        screen.line(f"{unsigned.message}\n→ {unsigned.hint}")
    screen.line("all is as it was made" + (", so far" if verdict.waiting else ""))


def _add_drive(place: Path, verdict: audit.Verdict) -> None:
    """Say on which drive a vault is; one that is on none is a fault, unless it was used so on record."""
    found, fault = vault_identity.read(place), drives.vault_fault(place)
    number = f"vault {found.vault}" if found else "a vault without a number"
    verdict.lines.append(f"{number} on {place}: {drives.mount_of(place)}")
    if fault and not audit.may_lack_drive(place):
        verdict.faults.append(fault.message)


def _root_of(place: Path) -> Path:
    """A vault, `ca/`, or a project: what holds the transcript."""
    return place / "ca" if (place / "ca" / "transcript.jsonl").exists() else place


TASKS: dict[str, Any] = {"request": request, "rehearse": rehearse, "kit": kit, "accept": accept, "verify": verify}
