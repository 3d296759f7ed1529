"""Looking into the ledger."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki.authority import recover_revocations
from pki.backup import lost_ledger, restore
from pki.backup.lost_ledger import Accepted
from pki.cli.daily_commands import known
from pki.cli.decorator import (
    command,
    command_with,
    evidence_of,
    held_project_of,
    home_of,
    now_of,
    path_of,
    project_as_it_is,
    project_of,
)
from pki.cli.json_output import (
    CertificateEntry,
    CertificateWithPem,
    CrlRead,
    LedgerAcceptLossOutput,
    LedgerListOutput,
    LedgerRecoverOutput,
    LedgerShowOutput,
    LedgerVerifyOutput,
    Remark,
)
from pki.cli.prompt import typed
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy import crl_files
from pki.deploy.delivery import Delivery
from pki.deploy.installed_crls import InstalledCrl
from pki.ledger.types import PUT_BACK, Issued, Recovered
from pki.monitor.report.run import Run
from pki.pipeline import plan
from pki.project.project import Project

WIDTH = 10  # hosts that are asked at once
FOREIGN = "was signed by no authority of this project"


@command
def show_list(context: Context, name: str = "", json: bool = False) -> None:
    """Every certificate ever issued, oldest first; --name for those of one leaf, or of one adopted authority.

    --json is for programs.
    """
    project = project_as_it_is(context)
    if project.is_adopted(name):
        found = project.ledger.certificates(issuer=name)
    else:
        found = project.ledger.certificates(
            artifact=(name if ":" in name else ArtifactId("cert", name)) if name else None
        )
    if json:
        shown = [CertificateEntry(**_entry(project, one)) for one in found]
        LedgerListOutput(at=project.now, certificates=shown).show()
        return
    rows = [
        (
            f"{one.serial:x}",
            one.artifact,
            f"{one.not_before:%Y-%m-%d}",
            f"{one.not_after:%Y-%m-%d}",
            f"revoked: {one.revoked}" if one.revoked else "expired" if one.not_after < project.now else "valid",
            one.reason,
            one.by,
        )
        for one in found
    ]
    Screen().table(
        f"{len(rows)} certificates", ("serial", "artifact", "from", "until", "state", "issued because", "by"), rows
    )


@command
def show(context: Context, serial: str, json: bool = False) -> None:
    """One certificate by serial number (hexadecimal, as ledger.list shows it), with its PEM; --json is for programs."""
    project = project_as_it_is(context)
    try:
        found = project.ledger.certificates(serial=int(serial, 16))
    except ValueError:
        raise PkiError(f"{serial}: expected a serial number in hexadecimal", "./run invoke ledger.list") from None
    if not found:
        raise PkiError(f"{serial}: no certificate with this serial number", "./run invoke ledger.list")
    if json:
        shown = [CertificateWithPem(**_entry(project, one), pem=one.pem) for one in found]
        LedgerShowOutput(at=project.now, certificates=shown).show()
        return
    for one in found:  # adopted authorities may each have one
        _show(one)


def _show(one: Issued) -> None:
    screen = Screen()
    for key, value in (
        ("serial", f"{one.serial:x}"),
        ("artifact", one.artifact),
        ("profile", one.profile),
        ("issuer", one.issuer),
        ("subject", one.subject),
        ("names", ", ".join(one.names)),
        ("valid", f"{one.not_before:%Y-%m-%d %H:%M:%S} to {one.not_after:%Y-%m-%d %H:%M:%S} UTC"),
        ("revoked", f"{one.revoked}{f', by {one.revoked_by}' if one.revoked_by else ''}" if one.revoked else "no"),
        ("because", one.reason),
        ("by", one.by or "not recorded by the program of that time"),
    ):
        screen.line(f"{key:<9} {value}")
    screen.line(one.pem.rstrip() or "its certificate was not there when it was taken in")


def _entry(project: Project, one: Issued) -> dict[str, Any]:
    """The fields of a CertificateEntry."""
    return {
        "serial": f"{one.serial:x}",
        **{
            name: getattr(one, name)
            for name in ("artifact", "profile", "issuer", "subject", "revoked", "revoked_by", "by")
        },
        "names": list(one.names),
        "not_before": one.not_before,
        "not_after": one.not_after,
        "state": "revoked" if one.revoked else "expired" if one.not_after < project.now else "valid",
        "issued_because": one.reason,
    }


@command
def verify(context: Context, json: bool = False) -> None:
    """Recompute the hash chain over every event and row; exit status 1 when anything was changed, or is lost.

    --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    faults = project.ledger.verify()
    if json:
        lost, said = project.ledger_fault, project.ledger.events() if not faults else []
        told = [*faults, *([lost.evidence] if lost and not faults else [])]
        remedy = str(PUT_BACK if faults else lost.remedy if lost else "")
        head = said[-1].hash if said else ""
        LedgerVerifyOutput(
            at=project.now, intact=not told, events=len(said), head=head, faults=told, remedy=remedy
        ).show()
        if told:
            raise Exit(code=1)
        return
    for fault in faults:
        screen.failed("ledger", fault, PUT_BACK if fault == faults[-1] else "")
    if not faults and (lost := project.ledger_fault):
        screen.failed("ledger", lost.evidence, lost.remedy)
    if faults or project.ledger_fault:
        raise Exit(code=1)
    events = project.ledger.events()
    head = f", head {events[-1].hash[:16]}" if events else ""
    screen.line(f"ledger is whole: {len(events)} events{head}")


@command_with(may_lack="host")
def recover(context: Context, host: str | None = None, file: str = "", all_: bool = False, json: bool = False) -> None:
    """Take back what a restored ledger lost: revocations and CRL numbers that the CRLs in place on HOST tell.

    Nothing is changed there. --all asks every host; --file FILE is a CRL from elsewhere, PEM or DER. Only what an
    authority of this project signed is believed. The next doit makes CRLs that list all of it.
    --json is for programs.
    """
    if (bool(host), bool(file), all_).count(True) != 1:
        raise PkiError("expected one of HOST, --all, --file FILE", "./run invoke ledger.recover --all")
    if file:
        content = filesystem.read(path_of(context, file))
        if content is None:
            raise PkiError(f"{file}: is not there", "name a CRL, such as one fetched from its published address")
        found: dict[str, list[InstalledCrl] | PkiError] = {file: [InstalledCrl(file, content)]}
    else:
        with redirect_stdout(sys.stderr) if json else nullcontext():  # what a release that is made says
            chosen = _chosen(context, host or "")
        with ThreadPoolExecutor(WIDTH) as pool:
            found = dict(zip((one.host for one in chosen), pool.map(_in_place, chosen), strict=True))
    failed = {name: error for name, error in found.items() if isinstance(error, PkiError)}
    with held_project_of(context) as project:
        told = [_take_in(project, name, files) for name, files in found.items() if not isinstance(files, PkiError)]
        if all_:
            restore.recover_from_published_crls(project)
        is_covered = all_ and not failed and lost_ledger.accept_if_covered(project)
        project.ledger.close()
    if json:
        _recovered(project, told, failed, goes_on=is_covered).show()
    else:
        _say_recovered(told, failed, goes_on=is_covered)
    if failed or (file and not any(one.learnt for one in told)):
        raise Exit(code=1)


def _recovered(
    project: Project, told: Sequence[_TakenIn], failed: Mapping[str, PkiError], *, goes_on: bool
) -> LedgerRecoverOutput:
    return LedgerRecoverOutput(
        at=project.now,
        crls=[one for some in told for one in some.rows()],
        foreign=[one for some in told for one in some.remarks()],
        without_crl=[one.source for one in told if one.is_empty],
        failed=[Remark(subject=name, text=error.message, remedy=error.hint) for name, error in failed.items()],
        goes_on=goes_on,
    )


def _say_recovered(told: Sequence[_TakenIn], failed: Mapping[str, PkiError], *, goes_on: bool) -> None:
    screen = Screen()
    for name, error in failed.items():
        screen.failed(ArtifactId("deploy", name), error.message, error.hint)
    _say_what_came_back(screen, told)
    if goes_on:
        screen.made("ledger", "holds as many revocations as were seen, and goes on without the events that are lost")


@command_with(many=("without",))
def accept_loss(context: Context, without: Iterable[str] = (), yes: bool = False, json: bool = False) -> None:
    """Let a ledger go on whose newest events are lost for good: missing, empty, or older than the state that was seen.

    First it takes back what the CRLs in build/ and on the hosts list; --without HOST for one that cannot be reached.
    What is lost is recorded in it. Look for a newer ledger first: restore, or the database's own dumps.
    --json is for programs, and asks nothing: with --yes.
    """
    project, screen = project_as_it_is(context), Screen()
    if not project.is_older:  # the response that brings the newest root is accepted afterwards
        project.check_roots()
    fault = lost_ledger.acceptable(project)
    if json and not yes:
        raise PkiError("--json asks nothing; nothing was written", "./run invoke ledger.accept-loss --json --yes")
    if not json:
        screen.line(fault.evidence)
        screen.line("certificates that it does not know any more cannot be revoked by name; decisions in it are lost")
    if not yes and typed("no newer ledger exists, and what is lost may be lost: type LOST to go on: ") != "LOST":
        raise PkiError("cancelled; nothing was written", fault.remedy)
    found = _listed_on_hosts(project, None if json else screen, frozenset(without))
    with project.store.lock():
        accepted = lost_ledger.accept(project, f"accepted by hand: {fault.kind}")
        told = [_take_in(project, name, files) for name, files in found.items()]
        project.ledger.close()
    if json:
        LedgerAcceptLossOutput(
            at=project.now,
            lost=fault.evidence,
            authorities=accepted.authorities,
            revoked=accepted.revocations,
            crls=[one for some in told for one in some.rows()],
            foreign=[one for some in told for one in some.remarks()],
        ).show()
    else:
        _say_accepted(screen, accepted, told)


def _say_accepted(screen: Screen, accepted: Accepted, told: Sequence[_TakenIn]) -> None:
    if accepted.authorities:
        screen.made("ledger", f"knows {', '.join(accepted.authorities)} again")
    if accepted.revocations:
        screen.made("ledger", f"revoked, by the CRLs in build/: {', '.join(accepted.revocations)}")
    screen.made("ledger", "goes on without the events that are lost")
    _say_what_came_back(screen, told)


def _listed_on_hosts(project: Project, screen: Screen | None, without: frozenset[str]) -> dict[str, list[InstalledCrl]]:
    """The CRLs on every host that is deployed to. Raises PkiError where one cannot be asked and is not left out."""
    deliveries = dict(plan.plan(project).deliveries)
    for name in without:
        known(name, deliveries, "host")
    chosen = [one for name, one in deliveries.items() if name not in without and one.desired_payload() is not None]
    with ThreadPoolExecutor(WIDTH) as pool:
        found = dict(zip((one.host for one in chosen), pool.map(_in_place, chosen), strict=True))
    silent = [name for name, files in found.items() if isinstance(files, PkiError)]
    for name, files in found.items():
        if screen and isinstance(files, PkiError):
            screen.failed(ArtifactId("deploy", name), files.message, files.hint)
    if silent:
        raise PkiError(
            f"{', '.join(silent)}: may list revocations that nothing else does; nothing was recorded",
            f"./run invoke ledger.accept-loss {' '.join(f'--without {name}' for name in silent)}; their CRLs are compared before anything is deployed to them",
        )
    return {name: files for name, files in found.items() if not isinstance(files, PkiError)}


def _chosen(context: Context, host: str) -> list[Delivery]:
    """A host, or all of them, each with its release: that says where its CRLs lie."""

    def chosen() -> list[Delivery]:
        deliveries = dict(plan.plan(project_of(context)).deliveries)
        return [deliveries[known(host, deliveries, "host")]] if host else list(deliveries.values())

    lacking = [ArtifactId("release", one.host) for one in chosen() if one.desired_payload() is None]
    if lacking:
        Run(home_of(context), now_of(context), evidence_of(context)).main(lacking)
    return chosen()


def _in_place(delivery: Delivery) -> list[InstalledCrl] | PkiError:
    try:
        return delivery.crls_in_place()
    except PkiError as error:
        return error


@dataclass(frozen=True, slots=True)
class _TakenIn:
    """What the CRLs of one source told the ledger; `foreign` are those that no authority of this project signed."""

    source: str
    learnt: tuple[Recovered, ...]
    foreign: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not self.learnt and not self.foreign

    def rows(self) -> list[CrlRead]:
        return [
            CrlRead(
                source=self.source,
                authority=str(one.generation),
                number=one.number,
                revoked=[f"{serial:x}" for serial in one.serials],
                number_is_new=one.is_newer,
            )
            for one in self.learnt
        ]

    def remarks(self) -> list[Remark]:
        return [Remark(subject=name, text=FOREIGN, remedy="") for name in self.foreign]


def _take_in(project: Project, source: str, files: Iterable[InstalledCrl]) -> _TakenIn:
    """Record what each CRL of some files lists."""
    listed = {one.digest: (file.path, one) for file in files for one in crl_files.parse_crls(file.content)}
    found = [
        (one.describe(path), recover_revocations.recover_from_crl(project, one.crl, source))
        for path, one in listed.values()
    ]
    learnt = tuple(told for _, told in found if told)
    return _TakenIn(source, learnt, tuple(name for name, told in found if not told))


def _say_what_came_back(screen: Screen, told: Sequence[_TakenIn]) -> None:
    for some in told:
        for name in some.foreign:
            screen.note(name, FOREIGN, "nothing of it was recorded")
        for one in some.learnt:
            artifact = ArtifactId("crl", one.generation)
            if one.serials:
                screen.made(artifact, f"revoked, by number {one.number}: {crl_files.format_serials(one.serials)}")
            if one.is_newer:
                screen.made(artifact, f"number {one.number} is taken: the next one is above it")
        if some.is_empty:
            screen.line(f"{some.source} holds no CRL")
    learnt = [one for some in told for one in some.learnt]
    serials = {serial for one in learnt for serial in one.serials}
    if serials or any(one.is_newer for one in learnt):
        screen.line(f"{len(serials)} revocations came back; CRLs that list them are made by ./run doit")
    elif learnt:
        screen.line("the ledger knew all of it")


TASKS = {"list": show_list, "show": show, "verify": verify, "recover": recover, "accept-loss": accept_loss}
