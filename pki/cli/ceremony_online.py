"""Commands for root ceremonies on the online machine: request, rehearse, kit, accept and verify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
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
from pki.ceremony.online.ceremony_archive import OpenRequest
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.script import render_script
from pki.ceremony.vault import PastCeremony
from pki.ceremony.vault_contents import VaultContents
from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, command_with, held_project_of, path_of, project_as_it_is, project_of
from pki.cli.prompt import ask_first_words
from pki.cli.revoke_command import PLAIN_REASONS
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.reasons import joined
from pki.common.remedies import RESTORE, for_this_project, run_for, run_in_commands_folder
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project import version_change
from pki.project.authorities import Authorities
from pki.project.ca_keys import KeyRing
from pki.project.layout import Store


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
    """Request a root ceremony for everything that is required, and for what you add; show the next steps.

    --new server (client, root) requests a new generation, --revoke server-1 --reason key-compromise revokes an
    intermediate, --crls requests new root CRLs, --destroy root-1 destroys a root's key; --drop-earlier drops the options of
    the open request. --output DIR copies the request to a drive. doit prepares what is required by itself; then this
    command only shows it.
    """
    screen, options = Screen(), _options(new, revoke, destroy, reason, crls=crls)
    with held_project_of(context) as project:
        if project.inventory.sandbox:
            sandbox_ceremony.perform_ceremony(project, options)
            screen.line(f"the sandbox performed the ceremony itself; now: {run_for(project.store.home)} doit")
            return
        earlier_requests = ceremony_archive.open_requests(project.store)
        preparation = make_request.RequestPreparation(project)
        reasons = preparation.outdated_reasons() if earlier_requests else []
        open_request = preparation.prepare(options, drop_earlier=drop_earlier)
    if earlier_requests and earlier_requests[-1].digest != open_request.digest:
        screen.line(
            f"replaces request {earlier_requests[-1].request.number}, whose printed page and kit are void: {joined(reasons) or 'you added options'}"
        )
    for line in _request_lines(project.store, project.now, project.authorities, open_request):
        screen.line(line)
    if output:
        target = path_of(context, output) / f"request-{open_request.request.number:04}.yaml"
        if not target.parent.is_dir():
            raise PkiError(f"{target.parent}: is not a folder", "mount the drive, then name its folder")
        kits.check_no_vault(target.parent)
        filesystem.write(target, filesystem.read(open_request.path) or b"")
        screen.line(f"copied to {target}")


def _options(new: list[str], revoke: list[str], destroy: list[str], reason: str, *, crls: bool) -> RequestOptions:
    if revoke and not reason:
        raise PkiError("--revoke needs a reason", "--reason key-compromise, superseded or cessation-of-operation")
    if reason and not revoke:
        raise PkiError("--reason is only valid with --revoke", "name the intermediate: --revoke server-1")
    plain = PLAIN_REASONS[require_one_of(reason, PLAIN_REASONS, "reason")] if reason else ""
    return RequestOptions(tuple(new), tuple((name, plain) for name in revoke), tuple(destroy), crls)


def _request_lines(store: Store, now: datetime, authorities: Authorities, open_request: OpenRequest) -> Iterator[str]:
    """Yield the screen lines of a request: its content, its digest in words, and the next steps."""
    yield f"request {open_request.request.number}, prepared {open_request.request.prepared:%Y-%m-%d %H:%M} UTC, in {store.shown(open_request.path)}"
    yield from (f"  because {reason}" for reason in open_request.request.because)
    lines = (
        *plan_text.root_lines(open_request.request),
        *plan_text.signature_lines(open_request.request, _past_ceremonies(store)),
    )
    yield from ("", "the ceremony will:", *(f"  {line}".rstrip() for line in plan_text.in_paragraphs(lines)))
    if open_request.request.intermediates and authorities.inventory.permit_addresses is None:
        yield ""
        yield "addresses: the private block around each of the networks; permit_addresses in pki.yaml names others"
    if requirements := needs.find_requirements(authorities):
        by = min(requirement.by for requirement in requirements)
        yield ""
        yield f"the operator and a witness perform it {f'by {by:%Y-%m-%d}' if by > now else 'now'}"
    yield ""
    yield f"SHA-256 {open_request.digest}"
    yield from words.numbered_lines(open_request.digest)
    yield ""
    yield for_this_project("write the first words down, or print this; then, step by step (docs/how-to/ceremony.md):")
    run = run_for(store.home)
    yield "1. try the ceremony with throw-away keys"
    yield f"  {run} invoke ceremony.rehearse"
    yield "2. write the program and this request to a USB drive"
    yield f"  {run} invoke ceremony.kit DIR"
    create = "create the root, " if open_request.request.roots else ""
    yield f"3. on the offline machine: {create}sign, and copy everything to a second drive"
    if open_request.request.roots:
        yield "  ./run invoke ceremony.root REQUEST --vault DIR"
    yield "  ./run invoke ceremony.sign REQUEST --vault DIR --output DIR"
    yield "  ./run invoke ceremony.copy --vault DIR --to DIR"
    yield "4. on this machine again: accept the response, and issue everything that waits for it"
    yield f"  {run} invoke ceremony.accept DIR/response-{open_request.request.number:04}"
    yield f"  {run} doit"


def _past_ceremonies(store: Store) -> VaultContents:
    """Return the accepted ceremonies of this project, in the form in which a vault contains them."""
    history = []
    for folder in store.ceremonies():
        request_data, response_data = (filesystem.read(folder / f"{name}.yaml") for name in ("request", "response"))
        if request_data is not None and response_data is not None:
            history.append(
                PastCeremony(
                    number=int(folder.name),
                    folder=folder,
                    request=request_response.load(request_data, str(folder), request_response.Request),
                    response=request_response.load(response_data, str(folder), request_response.Response),
                    request_digest=request_response.digest(request_data),
                    response_digest=request_response.digest(response_data),
                )
            )
    return VaultContents({}, history)


@command
def rehearse(context: Context, output: str = "") -> None:
    """Perform the ceremony of the open request with throw-away keys; write the texts of what it will sign.

    They are written to rehearsal/NNNN/ in the project (or --output DIR), for commit and review. What only the real
    ceremony determines (serial numbers, signatures, a new root's key) is left out, so the same request gives the same
    texts.
    """
    project, screen = project_of(context), Screen()
    open_requests = ceremony_archive.open_requests(project.store)
    if not open_requests:
        raise PkiError("there is no open request to rehearse", f"{run_for(project.store.home)} invoke ceremony.request")
    open_request = open_requests[-1]
    number = open_request.request.number
    folder = path_of(context, output) if output else project.store.home / "rehearsal" / f"{number:04}"
    make_request.check_current(project.inventory, project.store, project.now, project.authorities, open_request)
    files = rehearsal.rehearse(project.now, project.authorities, open_request)
    filesystem.write_all({folder / name: (content, filesystem.PUBLIC) for name, content in files.items()})
    for name in files:
        screen.line(f"{folder / name}")
    screen.line(f"request {number} can be performed: every check passed with throw-away keys")


@command
def kit(context: Context, folder: str, python: str = "", platform: str = "", hsm: bool = False) -> None:
    """Write what the offline machine needs to a drive: program, wheels, open request and a script to print.

    It is written to FOLDER/doit-pki-kit. When the offline machine differs from this one: --python 3.13, and --platform
    manylinux_2_28_aarch64 for another architecture or an older system. --hsm adds the library for tokens.
    """
    project, screen = project_of(context), Screen()
    machine, target = kits.Machine(python, platform), kits.check_place(path_of(context, folder))
    home = str(project.store.home.resolve())
    files = {kits.PROJECT: f"{home}\n{run_in_commands_folder(Path(home))}\n".encode()}
    open_requests = ceremony_archive.open_requests(project.store)
    if open_requests:
        open_request = open_requests[-1]
        make_request.check_current(project.inventory, project.store, project.now, project.authorities, open_request)
        files[f"request-{open_request.request.number:04}.yaml"] = request_response.dump(open_request.request)
        files["CEREMONY.txt"] = render_script(
            open_request.request,
            open_request.digest,
            _past_ceremonies(project.store),
            str(machine),
            hsm=hsm,
            project=home,
        )
    digest, count = kits.write_kit(target, PROGRAM, machine, files, hsm=hsm)
    screen.done("created", "kit", f"{target}, for {machine}")
    if open_requests:
        screen.line(f"print CEREMONY.txt in it: request {open_requests[-1].request.number}")
    else:
        screen.line("no request is open: the kit has only the program")
    screen.line("")
    screen.line(f"SHA-256 of its SHA256SUMS {digest}")
    screen.line(f"{count} files")
    screen.line("")
    screen.line("take this on paper to the offline machine; type there, before you run anything from the kit:")
    for line in (
        *kit_unpacking.LIST,
        "# compare all 64 digits with the paper, then:",
        *kit_unpacking.FILES,
        *kit_unpacking.CHECKS,
    ):
        screen.line(f"  {line}")
    screen.line(f"the last two commands must print: whole, and {count}")


@command
def accept(context: Context, response: str, words: str = "") -> None:
    """Accept the response of a ceremony: RESPONSE is the folder response-NNNN that ceremony.sign wrote.

    Everything in it is verified again. The first words of its SHA-256, which the offline machine showed, are prompted for
    (or --words "…"). Nothing is recorded unless all checks pass.
    """
    project, screen = project_as_it_is(context), Screen()
    folder = path_of(context, response)
    accept_response.ResponseAcceptance(project).check_roots(folder)
    with project.store.lock():
        version_change.begin(project.store)
        verified = accept_response.ResponseAcceptance(project).verify(folder)
        for name, sha256 in verified.roots.items():
            by_whom = "by members of clusters alone " if GenerationName.parse(name).authority == "root-peer" else ""
            screen.line(f"new root certificate {name}; it will be trusted {by_whom}from now on: SHA-256 {sha256}")
        if verified.is_lost:
            numbers = ", ".join(str(result.request.number) for result in verified.results)
            screen.line(f"ca/ has no records of ceremony {numbers}: accepted again")
        digest = request_response.digest(verified.parsed.data)
        accept_response.confirm_words(
            verified,
            words or ask_first_words("response", "the ceremony", digest, accept_response.other_digests(verified)),
        )
        if verified.is_lost and not project.store.generations("root") and project.ledger_view.fault:
            lost_ledger.accept(project, f"ca/ was lost; accepted again with ceremony {verified.request.number}")
        crls_to_destroy = accept_response.ResponseAcceptance(project).store(verified)
        if verified.is_lost:
            restore.recover_from_published_crls(project)
        project.ledger.close()
    _print_accepted(project.store, project.keys, verified, crls_to_destroy)


def _print_accepted(
    store: Store, key_ring: KeyRing, verified: accept_response.VerifiedResponse, crls_to_destroy: Sequence[str]
) -> None:
    """Print what was accepted, and what is left to do by hand."""
    screen = Screen()
    for name, issuer in (pair for result in verified.results for pair in result.parsed.certificates):
        screen.done("accepted", ArtifactId("authority", GenerationName.parse(name).authority), f"{name} by {issuer}")
    for name in sorted({name for result in verified.results for name, _ in result.parsed.certificates}):
        if (generation := GenerationName.parse(name)).is_external:
            chain = store.shown(store.external_chain(generation.authority))
            screen.line(f"after the next run, install {chain} on the server that has the key of {name}")
    for crl in crls_to_destroy:
        screen.note(
            "destroy", f"{crl}, was replaced", "every copy of it: older backups of ca/, other copies of the vault"
        )
    if lost_keys := lost_ceremonies.find_lost_keys(key_ring, verified.results):
        command = lost_ceremonies.successors_command(store, lost_keys)
        screen.note(", ".join(lost_keys), "the key is not in ca/", f"{RESTORE}; if no backup has it: {command}")
    screen.line(f"ceremony {verified.request.number} is accepted; now: {run_for(store.home)} doit")


@command_with(may_lack="folder")
def verify(context: Context, folder: str | None = None) -> None:
    """Verify every hash and signature of all ceremonies again: of this project, or of the vault FOLDER."""
    place = _folder_with_transcript(path_of(context, folder) if folder else project_as_it_is(context).store.ca)
    result, screen = audit.verify(place), Screen()
    if vault_identity.is_vault(place):
        _add_drive(place, result)
    for line in result.lines:
        screen.line(line)
    for fault in result.faults:
        screen.failed("ceremony", fault, "")
    if result.faults:
        raise Exit(code=1)
    if result.unused_roots:
        unsigned = audit.unused_roots_error(place, result.unused_roots)
        screen.line(f"{unsigned.message}\n→ {unsigned.hint}")
    screen.line("all is as it was made" + (", so far" if result.unused_roots else ""))


def _add_drive(place: Path, result: audit.AuditResult) -> None:
    """Add the drive of a vault to the result. A vault that is not on a drive is a fault, unless a deviation is recorded."""
    identity, fault = vault_identity.read_identity(place), drives.vault_fault(place)
    number = f"vault {identity.vault}" if identity else "a vault without a number"
    result.lines.append(f"{number} on {place}: {drives.mount_of(place)}")
    if fault and not audit.may_lack_drive(place):
        result.faults.append(fault.message)


def _folder_with_transcript(place: Path) -> Path:
    """Return the folder with the transcript: `ca/` of a project, or the folder itself."""
    return place / "ca" if (place / "ca" / "transcript.jsonl").exists() else place


TASKS: dict[str, Any] = {"request": request, "rehearse": rehearse, "kit": kit, "accept": accept, "verify": verify}
