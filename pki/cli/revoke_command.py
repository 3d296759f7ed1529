"""The commands revoke and retire: impact, confirmation, revocation, publication, and verification at every service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from invoke.context import Context
from invoke.exceptions import Exit

from pki.authority.certificate_holders import certificates_of_client
from pki.cli.certificate_lookup import Names, not_declared
from pki.cli.decorator import command, evidence_of, held_project_of, home_of, now_of, project_of
from pki.cli.prompt import ask, confirm
from pki.common.errors import ErrorCode, PkiError
from pki.common.remedies import for_this_project
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import client_artifact
from pki.ledger.types import Issued
from pki.monitor import dependents, open_sessions, revocation_publication
from pki.monitor.report.run import Run
from pki.monitor.revocation_check import Observation, RefusalVerdict, RevocationCheck
from pki.monitor.revocation_impact import AfterRevocation, consequences
from pki.monitor.revocation_publication import PublicationResult
from pki.pipeline import plan as pipeline_plan
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from pki.x509.revocation import REASONS

PLAIN_REASONS = {
    "key-compromise": "keyCompromise",
    "affiliation-changed": "affiliationChanged",
    "superseded": "superseded",
    "cessation-of-operation": "cessationOfOperation",
    "privilege-withdrawn": "privilegeWithdrawn",
    "unspecified": "unspecified",
}
MEANINGS = {
    "key-compromise": "another person has the key, or may have it: a lost device, a stolen backup",
    "affiliation-changed": "the person or machine has another name or affiliation now",
    "superseded": "another certificate replaces it, and its key is not compromised",
    "cessation-of-operation": "it is no longer used: a service was shut down, a device was returned",
    "privilege-withdrawn": "the person may no longer do what it permits",
    "unspecified": "none of these, or not to be published: the CRL contains no reason",
}
REASON_WIDTH = 23
REASON_INDENT = 2 + REASON_WIDTH + 1
assert set(PLAIN_REASONS.values()) == set(REASONS)
assert PLAIN_REASONS.keys() == MEANINGS.keys()
PARALLEL_HOSTS = 8


@dataclass(frozen=True, slots=True)
class Order:
    """A revocation that was requested.

    `find` returns the valid certificates of `name`. `same_command` is the command to type again. The two other functions
    run under the project's lock: `check_again`, which may raise PkiError, before the revocation is recorded, and
    `after_record` after that.
    """

    name: str
    find: Callable[[Project], list[Issued]]
    reason: str
    same_command: str
    follows: AfterRevocation = AfterRevocation.REPLACEMENT
    check_again: Callable[[], None] = lambda: None
    after_record: Callable[[], None] = lambda: None


@command
def revoke(context: Context, name: str, reason: str = "", yes: bool = False, no_replace: bool = False) -> None:
    """Revoke the valid certificates of a name or client CN, or one serial number, and verify that services refuse them.

    --reason is one of key-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn,
    unspecified. The impact is shown, and confirmed unless --yes is given. A name that stays in pki.yaml gets a new
    certificate with a new key at once. With --no-replace, it gets none until you type `renew NAME`.
    """
    project = project_of(context)
    name = _leaf_name(project, name, "revoke")
    find = finder(name)
    find(project)  # raises PkiError for a wrong name, before the program asks for the reason
    reason = ask_reason(reason)
    same_command = f"./run invoke revoke {name} --reason {reason}{' --no-replace' if no_replace else ''}"
    follows = AfterRevocation.NOTHING if no_replace else AfterRevocation.REPLACEMENT
    carry_out(context, project, Order(name, find, reason, same_command, follows), yes=yes)


@command
def retire(context: Context, name: str, yes: bool = False) -> None:
    """Revoke the certificates of a name that is no longer in pki.yaml. With --yes, it does not ask."""
    project = project_of(context)
    leaves = pipeline_plan.plan(project).leaves
    name = _leaf_name(project, name, "retire")
    find = finder(name, by_cn=False)
    meant = ArtifactId.parse(name).short
    if meant not in leaves:  # it is a name that left pki.yaml, or a serial number
        meant = find(project)[-1].artifact.short
    if meant in leaves:
        raise PkiError(f"{meant} is still in pki.yaml", f"remove it there first, or: ./run invoke revoke {name}")
    order = Order(name, find, "cessation-of-operation", f"./run invoke retire {name}")
    carry_out(context, project, order, yes=yes)


# -- name, reason and confirmation ------------------------------------------------------------------------------------


def ask_reason(reason: str) -> str:
    """Return the reason of a revocation, asked for at a terminal if it is missing. Raises PkiError with all reasons."""
    if reason in PLAIN_REASONS:
        return reason
    rows = [f"  {name:<{REASON_WIDTH}} {meaning}" for name, meaning in MEANINGS.items()]
    if not reason and sys.stdin.isatty():
        screen = Screen()
        for row in rows:
            screen.line(row, indent=REASON_INDENT)
        return ask_reason(ask("reason of the revocation: ").strip() or "?")
    what = f"unknown reason {reason!r}" if reason else "the reason of the revocation is missing"
    raise PkiError(what, "\n".join(["--reason is one of", *rows]))


def _leaf_name(project: Project, name: str, command: str) -> str:
    """Return the name itself, or the leaf that it means (a service, host or DNS name), which is then printed.

    Where a client has the name of that leaf as its CN, return `cert:LEAF`, which means that leaf alone.
    """
    project.ledger_view.check()
    issued = [certificate for certificate in project.revocations.unexpired() if certificate.artifact.kind == "cert"]
    names = Names(project.inventory, pipeline_plan.plan(project).leaves, issued)
    is_certificate = certificates_of_client(issued, name) or any(
        _has_serial(certificate, name) for certificate in project.revocations.unexpired()
    )
    if is_certificate or not names.find(name):
        return name
    leaf = names.leaf(name, command)
    is_cn_too = leaf != name and bool(certificates_of_client(issued, leaf))
    return ArtifactId("cert", leaf) if is_cn_too else leaf


def finder(name: str, *, by_cn: bool = True) -> Callable[[Project], list[Issued]]:
    """Return the function that finds the valid certificates of `name` in a project, as `valid_certificates` does."""
    return lambda project: valid_certificates(
        project.store, project.ledger_view, project.revocations, name, by_cn=by_cn
    )


def valid_certificates(
    store: Store, ledger_view: LedgerView, revocations: Revocations, name: str, *, by_cn: bool = True
) -> list[Issued]:
    """Return the valid, unrevoked certificates of a leaf, a client's CN or a serial number.

    A CN means every certificate with it, wherever it is declared: services distinguish clients by CN alone.
    Raises PkiError for an ambiguous or unknown name, an authority, and if everything is revoked already.
    """
    ledger_view.check()  # without this check, a lost ledger would look like one without certificates
    issued = revocations.unexpired()
    with_same_cn = certificates_of_client(issued, name) if by_cn else []
    matches = _of_leaf(issued, name)
    matches += [certificate for certificate in with_same_cn if certificate not in matches]
    matches = matches or [certificate for certificate in issued if _has_serial(certificate, name)]
    artifacts = {certificate.artifact for certificate in matches}
    is_one_client = all(certificate in with_same_cn for certificate in matches)
    if len(artifacts) > 1 and not is_one_client:
        commands = " or ".join(f"./run invoke revoke {artifact}" for artifact in sorted(artifacts))
        raise PkiError(f"{name}: means {' and '.join(sorted(artifacts))}", f"name one of them: {commands}")
    is_ca = any(certificate.profile == "root" or certificate.profile.endswith("-ca") for certificate in matches)
    if is_ca or (not matches and _is_authority(store, name)):
        raise PkiError(
            f"{name} is a certificate authority", f"revoking one takes a ceremony: ./run invoke explain {name}"
        )
    unrevoked = [certificate for certificate in matches if not certificate.revoked]
    if matches and not unrevoked:
        raise PkiError(f"{name}: is revoked already ({matches[-1].revoked})", "./run invoke ledger.list")
    if not matches:
        leaves = {certificate.artifact.short for certificate in issued if certificate.artifact.kind != "authority"}
        if not leaves:
            raise PkiError(f"{name}: the ledger contains no valid certificate", "./run doit")
        raise not_declared(name, leaves)
    return unrevoked


def _has_serial(certificate: Issued, text: str) -> bool:
    """Return whether a text is the serial number of a certificate: hexadecimal, in any case, with leading zeros or not."""
    return f"{certificate.serial:x}" == text.lower().lstrip("0")


def _is_authority(store: Store, name: str) -> bool:
    """Return whether a name means an authority: `server`, `server-1` or `authority:server-1`."""
    artifact = ArtifactId.parse(name)
    bare = artifact.name if artifact.kind == "authority" else name
    authorities = store.authorities()
    return bare in authorities or any(bare in store.generations(authority) for authority in authorities)


def _of_leaf(issued: Sequence[Issued], name: str) -> list[Issued]:
    """Return the certificates of a leaf (`web`, `cert:web`), of a client (`phone`), or of an adopted CA (`legacy:web`)."""
    leaf = ArtifactId.parse(name).short
    own = [certificate for certificate in issued if certificate.artifact in {leaf, ArtifactId("cert", leaf)}]
    of_client = [certificate for certificate in issued if certificate.artifact == client_artifact(leaf)]
    of_adopted_ca = [
        certificate for certificate in issued if certificate.artifact == ArtifactId(certificate.issuer, leaf)
    ]
    return own or of_client or of_adopted_ca  # in the order of `Names.find`


# -- revocation, publication and verification ------------------------------------------------------------------------


def carry_out(context: Context, project: Project, order: Order, *, yes: bool) -> None:
    """Show the impact, ask for confirmation, revoke, publish, and verify at every service that it is refused now.

    Raises Exit with status 1 or 2: see REVOCATION in exit_statuses.py.
    """
    project.clock.check()
    plan, screen, certificates = pipeline_plan.plan(project), Screen(), order.find(project)
    for group in _by_artifact(certificates):
        impact = consequences(project.inventory, project.store, project.authorities, plan, group, follows=order.follows)
        _show_impact(screen, group, list(impact))
    if not yes:
        confirm("revoke it?", order.same_command)
    with TemporaryDirectory(prefix="doit-pki-") as folder:
        revocation_check = RevocationCheck(project, plan, certificates, Path(folder))
        revocation_check.probe_before()
        project.ledger_view.close()  # `_record` opens it again under the lock
        is_unreplaced = _record(context, order, certificates)
        published = _publish(context, plan, certificates)
        findings = revocation_check.probe_after(published.delivered, is_unreplaced=is_unreplaced)
        project.ledger_view.close()
    for observation in findings:
        screen.observed(observation.verdict, observation.place, observation.text)
    if certificates[-1].profile == "client" and certificates[-1].artifact.kind == "cert":
        for place, text in open_sessions.of_clients(project.inventory, certificates):
            screen.observed("sessions", place, text)
    code, text = verdict(findings, published.failures)
    screen.line(for_this_project(text))
    if code:
        raise Exit(code=code)


def _show_impact(screen: Screen, certificates: Sequence[Issued], impact: Sequence[tuple[str, str]]) -> None:
    """Print the certificates of one name, and what their revocation will break: labels and texts in two columns."""
    for certificate in certificates:
        screen.line(
            f"{certificate.artifact.short}, serial {certificate.serial:x}, valid until {certificate.not_after:%Y-%m-%d}"
        )
    width = max(len(label) for label, _ in impact)
    for label, text in impact:
        screen.line(f"  {label:<{width}}  {text}", indent=width + 4)


def _by_artifact(certificates: Sequence[Issued]) -> list[list[Issued]]:
    """Return the certificates grouped by leaf."""
    names = dict.fromkeys(certificate.artifact for certificate in certificates)
    return [[certificate for certificate in certificates if certificate.artifact == name] for name in names]


def _record(context: Context, order: Order, certificates: Sequence[Issued]) -> bool:
    """Write the revocations into the ledger.

    Return whether --no-replace leaves a name of pki.yaml without a valid certificate.
    Raises PkiError if the valid certificates are no longer those that were shown: another command changed the project.
    """
    with held_project_of(context) as project:
        order.check_again()
        if order.find(project) != certificates:
            raise PkiError(
                f"{order.name}: its valid certificates are no longer those that were shown; nothing was revoked",
                order.same_command,
            )
        unreplaced = _unreplaced(project, order, certificates)
        reason = PLAIN_REASONS[order.reason]
        project.ledger.record_revocations(
            certificates,
            reason=reason,
            at=project.now,
            stop_replacement={name: f"{serial} {order.reason}" for name, serial in unreplaced.items()},
        )
        for certificate in certificates:
            Screen().done("revoked", certificate.artifact, f"serial {certificate.serial:x}: {order.reason}")
        project.ledger.close()
        order.after_record()
    return order.follows is AfterRevocation.NOTHING and bool(unreplaced)


def _unreplaced(project: Project, order: Order, certificates: Sequence[Issued]) -> dict[str, str]:
    """Return the leaves whose replacement is stopped, each with the serial number of its certificate (hexadecimal).

    A client that is removed from pki.yaml is one of them: if the command is killed before the removal, no run issues a
    new certificate to it.
    """
    if order.follows is AfterRevocation.REMOVAL:
        return {client_artifact(order.name): f"{certificates[-1].serial:x}"}
    leaves, unreplaced = pipeline_plan.plan(project).leaves, dict[str, str]()
    for group in _by_artifact(certificates) if order.follows is AfterRevocation.NOTHING else ():
        newest = group[-1]
        leaf = leaves.get(newest.artifact.short)
        # The revocation of an older certificate of the leaf must not stop the renewal of the present one.
        if leaf is not None and dependents.current_bundle(project.store, leaf, group):
            unreplaced[newest.artifact] = f"{newest.serial:x}"
    return unreplaced


def _publish(context: Context, plan: Plan, certificates: Sequence[Issued]) -> PublicationResult:
    """Run doit, which issues and deploys the CRLs, and check what was published and deployed."""
    hosts = sum(
        1 for delivery in plan.deliveries.values() if delivery.records.transport == "ssh" and not delivery.engine
    )
    home, now = home_of(context), now_of(context)
    run = Run(home, now, evidence_of(context), is_part=True)
    code = run.main(["-n", str(min(hosts, PARALLEL_HOSTS))] if hosts > 1 else [])
    report = run.report
    failures = {task["name"]: ErrorCode.OTHER for task in report.get("blocked", [])}
    failures |= {task["name"]: ErrorCode(task["code"]) for task in report.get("failed", [])}
    # A critical finding makes the exit status 1 too, but is no failure of the run.
    is_unexplained = bool(code) and not failures and not (report and report["critical"])
    if not report or is_unexplained:
        failures["doit"] = ErrorCode.OTHER
    project = Project.open(home, now)
    try:
        return revocation_publication.check(project, certificates, failures)
    finally:
        project.ledger_view.close()


def verdict(findings: Sequence[Observation], failures: Mapping[str, ErrorCode]) -> tuple[int, str]:
    """Return the exit status and the last line of a revocation."""
    places = {kind: [finding.place for finding in findings if finding.verdict == kind] for kind in RefusalVerdict}
    verified, folders = places[RefusalVerdict.VERIFIED], places[RefusalVerdict.FOLDER]
    unseen = places[RefusalVerdict.UNKNOWN]
    unverified, accepting = places[RefusalVerdict.UNVERIFIED], places[RefusalVerdict.FAILED]
    absent = [name for name, code in failures.items() if code is ErrorCode.UNREACHABLE]
    broken = [name for name in failures if name not in absent]
    if accepting:
        return 1, f"revoked, but STILL ACCEPTED by {', '.join(accepting)}; see docs/how-to/revoke.md"
    if broken:
        return 1, f"revoked; failed: {', '.join(broken)}; fix it, then ./run doit tries again"
    if unverified or absent:
        # `unverified` already contains the services of hosts that could not be reached
        left = ", ".join([*(unverified or absent), *folders, *unseen])
        return (
            2,
            f"revoked and published; not verified: {left}; the next ./run doit deploys to the hosts that it can reach, and verifies them",
        )
    if folders or unseen:
        texts = ["revoked and published", f"verified at {', '.join(verified)}" if verified else ""]
        texts += [f"not verified: {', '.join(folders)}; copy their files there from build/hosts/" if folders else ""]
        texts += [f"not verifiable from here: {', '.join(unseen)}; check it on the host" if unseen else ""]
        return 2, "; ".join(filter(None, texts))
    if verified:
        return 0, f"revoked, published, and verified at {', '.join(verified)}"
    return 0, "revoked and published; there is no service to verify it at"
