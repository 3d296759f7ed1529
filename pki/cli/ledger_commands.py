"""The commands ledger.list, ledger.show, ledger.verify, ledger.recover and ledger.accept-loss."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki.authority import recover_revocations
from pki.backup import lost_ledger, restore
from pki.backup.lost_ledger import AcceptedLoss
from pki.cli.daily_commands import require_one_of
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
from pki.cli.prompt import ask
from pki.common import filesystem
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy import crl_files
from pki.deploy.delivery import Delivery
from pki.deploy.installed_crls import InstalledCrl
from pki.ledger.types import RESTORE_FILE, Issued, RecoveredRevocations
from pki.monitor.report.run import Run
from pki.pipeline import plan
from pki.project.project import Project

PARALLEL_HOSTS = 10
FOREIGN = "was not signed by an authority of this project"


@command
def show_list(context: Context, name: str = "", json: bool = False) -> None:
    """List every certificate that was ever issued, oldest first; --name: those of one leaf or adopted authority.

    --json is for programs.
    """
    project = project_as_it_is(context)
    if project.inventory.authorities.is_adopted(name):
        certificates = project.ledger.certificates(issuer=name)
    else:
        certificates = project.ledger.certificates(
            artifact=(name if ":" in name else ArtifactId("cert", name)) if name else None
        )
    if json:
        entries = [CertificateEntry(**_entry(project.now, certificate)) for certificate in certificates]
        LedgerListOutput(at=project.now, certificates=entries).show()
        return
    rows = [
        (
            f"{certificate.serial:x}",
            certificate.artifact,
            f"{certificate.not_before:%Y-%m-%d}",
            f"{certificate.not_after:%Y-%m-%d}",
            f"revoked: {certificate.revoked}" if certificate.revoked else _state(certificate, project.now),
            certificate.reason,
            certificate.by,
        )
        for certificate in certificates
    ]
    Screen().table(
        counted(len(rows), "certificate"),
        ("serial", "artifact", "from", "until", "state", "issued because", "recorded by"),
        rows,
    )


@command
def show(context: Context, serial: str, json: bool = False) -> None:
    """Show one certificate and its PEM text, by its serial number (hexadecimal, as in ledger.list); --json for programs."""
    project = project_as_it_is(context)
    try:
        certificates = project.ledger.certificates(serial=int(serial, 16))
    except ValueError:
        raise PkiError(f"{serial}: expected a serial number in hexadecimal", "./run invoke ledger.list") from None
    if not certificates:
        raise PkiError(f"{serial}: no certificate with this serial number", "./run invoke ledger.list")
    if json:
        entries = [
            CertificateWithPem(**_entry(project.now, certificate), pem=certificate.pem) for certificate in certificates
        ]
        LedgerShowOutput(at=project.now, certificates=entries).show()
        return
    for certificate in certificates:  # several adopted authorities may have used the number
        _show(certificate)


def _show(certificate: Issued) -> None:
    screen, by = Screen(), f", by {certificate.revoked_by}" if certificate.revoked_by else ""
    for key, value in (
        ("serial", f"{certificate.serial:x}"),
        ("artifact", certificate.artifact),
        ("profile", certificate.profile),
        ("issuer", certificate.issuer),
        ("subject", certificate.subject),
        ("names", ", ".join(certificate.names)),
        ("valid", f"{certificate.not_before:%Y-%m-%d %H:%M:%S} to {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC"),
        ("revoked", certificate.revoked + by if certificate.revoked else "no"),
        ("because", certificate.reason),
        ("recorded by", certificate.by or "unknown: an earlier version recorded it"),
    ):
        screen.line(f"{key:<11} {value}", indent=12)
    screen.line(certificate.pem.rstrip() or "its certificate was not available at the import", is_verbatim=True)


def _state(certificate: Issued, now: datetime) -> str:
    if certificate.revoked:
        return "revoked"
    return "expired" if certificate.not_after < now else "valid"


def _entry(now: datetime, certificate: Issued) -> dict[str, Any]:
    """Return the fields of a CertificateEntry."""
    return {
        "serial": f"{certificate.serial:x}",
        **{
            name: getattr(certificate, name)
            for name in ("artifact", "profile", "issuer", "subject", "revoked", "revoked_by", "by")
        },
        "names": list(certificate.names),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "state": _state(certificate, now),
        "issued_because": certificate.reason,
    }


@command
def verify(context: Context, json: bool = False) -> None:
    """Recompute the hash chain over every event and row, and report what was changed or is lost.

    --json is for programs.
    """
    project = project_as_it_is(context)
    faults = list(project.ledger.verify())
    messages, remedy = faults, str(RESTORE_FILE if faults else "")
    # of a ledger that was changed, only the change is reported
    if not faults and (loss := project.ledger_view.fault):
        messages, remedy = [loss.evidence], str(loss.remedy)
    events = project.ledger.events() if not faults else []
    head = events[-1].hash if events else ""
    if json:
        LedgerVerifyOutput(
            at=project.now, intact=not messages, events=len(events), head=head, faults=messages, remedy=remedy
        ).show()
    else:
        screen = Screen()
        for number, message in enumerate(messages, 1):
            screen.failed("ledger", message, remedy if number == len(messages) else "")
        if not messages:
            last = f"; hash of the last one: {head[:16]}" if head else ""
            screen.line(f"ledger intact ({counted(len(events), 'event')}{last})")
    if messages:
        raise Exit(code=1)


@command_with(may_lack="host")
def recover(context: Context, host: str | None = None, file: str = "", all_: bool = False, json: bool = False) -> None:
    """Recover revocations and CRL numbers that a restored ledger lost, from the CRLs on HOST.

    Nothing is changed on the host. --all reads every host; --file FILE is a CRL from elsewhere, PEM or DER. Only CRLs
    that an authority of this project signed are used. The next doit issues CRLs that list all revocations.
    --json is for programs.
    """
    if (bool(host), bool(file), all_).count(True) != 1:
        raise PkiError("expected one of HOST, --all, --file FILE", "./run invoke ledger.recover --all")
    if file:
        content = filesystem.read(path_of(context, file))
        if content is None:
            raise PkiError(f"{file}: is not there", "name a CRL, such as one fetched from its published address")
        crls: dict[str, list[InstalledCrl] | PkiError] = {file: [InstalledCrl(file, content)]}
    else:
        with redirect_stdout(sys.stderr) if json else nullcontext():  # the lines of doit
            deliveries = _deliveries(context, host or "")
        with ThreadPoolExecutor(PARALLEL_HOSTS) as pool:
            crls = dict(zip((delivery.host for delivery in deliveries), pool.map(_crls_of, deliveries), strict=True))
    failed = {name: error for name, error in crls.items() if isinstance(error, PkiError)}
    with held_project_of(context) as project:
        recorded = [_record(project, name, files) for name, files in crls.items() if not isinstance(files, PkiError)]
        if all_:
            restore.recover_from_published_crls(project)
        is_covered = all_ and not failed and lost_ledger.accept_if_covered(project)
        project.ledger.close()
    if json:
        _recover_output(project.now, recorded, failed, is_continued=is_covered).show()
    else:
        _print_recovered(recorded, failed, is_continued=is_covered)
    if failed or (file and not any(source.recovered for source in recorded)):
        raise Exit(code=1)


def _recover_output(
    now: datetime, recorded: Sequence[_Recorded], failed: Mapping[str, PkiError], *, is_continued: bool
) -> LedgerRecoverOutput:
    return LedgerRecoverOutput(
        at=now,
        crls=[row for source in recorded for row in source.rows()],
        foreign=[remark for source in recorded for remark in source.remarks()],
        without_crl=[source.source for source in recorded if source.is_empty],
        failed=[Remark(subject=name, text=error.message, remedy=error.hint) for name, error in failed.items()],
        goes_on=is_continued,
    )


def _print_recovered(recorded: Sequence[_Recorded], failed: Mapping[str, PkiError], *, is_continued: bool) -> None:
    screen = Screen()
    for name, error in failed.items():
        screen.failed(ArtifactId("deploy", name), error.message, error.hint)
    _print_recorded(screen, recorded)
    if is_continued:
        screen.done(
            "continued", "ledger", "without the lost events; it contains as many revocations as were seen before"
        )


@command_with(many=("without",))
def accept_loss(context: Context, without: Iterable[str] = (), yes: bool = False, json: bool = False) -> None:
    """Continue with a ledger whose newest events are lost for good: it is missing, empty, or older than seen before.

    Before that, revocations are recovered from the CRLs in build/ and on the hosts; --without HOST leaves out a host
    that cannot be reached. The loss is recorded. Look for a newer ledger first: restore, or dumps of the database.
    --json is for programs. It needs --yes, because it does not ask.
    """
    project, screen = project_as_it_is(context), Screen()
    if not project.roots.is_older:  # the response that brings the newest root is accepted afterwards
        project.roots.check()
    fault = lost_ledger.acceptable(project.ledger_view)
    if json and not yes:
        raise PkiError("--json does not ask; nothing was written", "./run invoke ledger.accept-loss --json --yes")
    if not json:
        screen.line(fault.evidence)
        screen.line("certificates that it no longer contains cannot be revoked by name; decisions in it are lost")
    if not yes and ask("no newer ledger exists, and the loss is acceptable: type LOST to continue: ") != "LOST":
        raise PkiError("cancelled; nothing was written", fault.remedy)
    crls = _crls_on_hosts(project, None if json else screen, frozenset(without))
    with project.store.lock():
        accepted = lost_ledger.accept(project, f"accepted by hand: {fault.kind}")
        recorded = [_record(project, name, files) for name, files in crls.items()]
        project.ledger.close()
    if json:
        LedgerAcceptLossOutput(
            at=project.now,
            lost=fault.evidence,
            authorities=accepted.authorities,
            revoked=accepted.revocations,
            crls=[row for source in recorded for row in source.rows()],
            foreign=[remark for source in recorded for remark in source.remarks()],
        ).show()
    else:
        _print_accepted(screen, accepted, recorded)


def _print_accepted(screen: Screen, accepted: AcceptedLoss, recorded: Sequence[_Recorded]) -> None:
    if accepted.authorities:
        screen.done("recorded", "ledger", f"the certificates of {', '.join(accepted.authorities)}")
    if accepted.revocations:
        screen.done("recorded", "ledger", f"revocations from the CRLs in build/: {', '.join(accepted.revocations)}")
    screen.done("continued", "ledger", "without the lost events")
    _print_recorded(screen, recorded)


def _crls_on_hosts(project: Project, screen: Screen | None, without: frozenset[str]) -> dict[str, list[InstalledCrl]]:
    """Return the CRLs on every host. Raises PkiError if a host cannot be read and is not in `without`."""
    deliveries = dict(plan.plan(project).deliveries)
    for name in without:
        require_one_of(name, deliveries, "host")
    included = [
        delivery
        for name, delivery in deliveries.items()
        if name not in without and delivery.payloads.desired() is not None
    ]
    with ThreadPoolExecutor(PARALLEL_HOSTS) as pool:
        crls = dict(zip((delivery.host for delivery in included), pool.map(_crls_of, included), strict=True))
    unread = [name for name, files in crls.items() if isinstance(files, PkiError)]
    for name, files in crls.items():
        if screen and isinstance(files, PkiError):
            screen.failed(ArtifactId("deploy", name), files.message, files.hint)
    if unread:
        raise PkiError(
            f"{', '.join(unread)}: may list revocations that are recorded nowhere else; nothing was recorded",
            f"./run invoke ledger.accept-loss {' '.join(f'--without {name}' for name in unread)}; their CRLs are compared before anything is deployed to them",
        )
    return {name: files for name, files in crls.items() if not isinstance(files, PkiError)}


def _deliveries(context: Context, host: str) -> list[Delivery]:
    """Return the delivery of one host, or of all of them (""), each with its release, which contains the paths of CRLs."""

    def read() -> list[Delivery]:
        deliveries = dict(plan.plan(project_of(context)).deliveries)
        return [deliveries[require_one_of(host, deliveries, "host")]] if host else list(deliveries.values())

    missing = [ArtifactId("release", delivery.host) for delivery in read() if delivery.payloads.desired() is None]
    if missing:
        Run(home_of(context), now_of(context), evidence_of(context)).main(missing)
    return read()


def _crls_of(delivery: Delivery) -> list[InstalledCrl] | PkiError:
    try:
        return delivery.crls_in_place()
    except PkiError as error:
        return error


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What was recorded from the CRLs of one source; `foreign` are CRLs that no authority of this project signed."""

    source: str
    recovered: tuple[RecoveredRevocations, ...]
    foreign: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Return whether the source contained no CRL."""
        return not self.recovered and not self.foreign

    def rows(self) -> list[CrlRead]:
        """Return one row of JSON for each CRL of this project."""
        return [
            CrlRead(
                source=self.source,
                authority=str(crl.generation),
                number=crl.number,
                revoked=[f"{serial:x}" for serial in crl.serials],
                number_is_new=crl.is_newer,
            )
            for crl in self.recovered
        ]

    def remarks(self) -> list[Remark]:
        """Return one remark of JSON for each CRL of another CA."""
        return [Remark(subject=name, text=FOREIGN, remedy="") for name in self.foreign]


def _record(project: Project, source: str, files: Iterable[InstalledCrl]) -> _Recorded:
    """Record the revocations and number of each CRL in some files."""
    crls = {crl.digest: (file.path, crl) for file in files for crl in crl_files.parse_crls(file.content)}
    results = [
        (crl.describe(path), recover_revocations.recover_from_crl(project, crl.crl, source))
        for path, crl in crls.values()
    ]
    recovered = tuple(result for _, result in results if result)
    return _Recorded(source, recovered, tuple(name for name, result in results if not result))


def _print_recorded(screen: Screen, recorded: Sequence[_Recorded]) -> None:
    for source in recorded:
        for name in source.foreign:
            screen.note(name, FOREIGN, "nothing of it was recorded")
        for crl in source.recovered:
            artifact = ArtifactId("crl", crl.generation)
            if crl.serials:
                text = f"revocations from number {crl.number}: {crl_files.format_serials(crl.serials)}"
                screen.done("recorded", artifact, text)
            if crl.is_newer:
                screen.done("recorded", artifact, f"number {crl.number} is already used: the next number is higher")
        if source.is_empty:
            screen.line(f"{source.source} contains no CRL")
    recovered = [crl for source in recorded for crl in source.recovered]
    serials = {serial for crl in recovered for serial in crl.serials}
    if serials or any(crl.is_newer for crl in recovered):
        screen.line(f"{counted(len(serials), 'revocation')} recovered; ./run doit issues CRLs that list them")
    elif recovered:
        screen.line("the ledger contained all of it already")


TASKS = {"list": show_list, "show": show, "verify": verify, "recover": recover, "accept-loss": accept_loss}
