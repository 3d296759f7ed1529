"""Revoking: what it will break, a yes, the publication, and the proof that nobody lets it in any more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from invoke.context import Context
from invoke.exceptions import Exit

from pki.authority.certificate_holders import certificates_of_client
from pki.cli.certificate_lookup import Names, not_seen
from pki.cli.decorator import command, evidence_of, held_project_of, home_of, now_of, project_of
from pki.cli.prompt import typed
from pki.common.errors import ErrorCode, PkiError
from pki.common.terminal import Screen
from pki.config.identifiers import AUTHORITIES, ArtifactId
from pki.config.leaf_certificates import client_artifact
from pki.ledger.types import Issued
from pki.monitor import dependents, revocation_publication
from pki.monitor.report.run import Run
from pki.monitor.revocation_check import Observation, Witness
from pki.monitor.revocation_impact import consequences
from pki.monitor.revocation_publication import Published
from pki.pipeline import plan as pipeline_plan
from pki.pipeline.plan import Plan
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
    "key-compromise": "somebody else has the key, or may have: a lost device, a stolen backup",
    "affiliation-changed": "its person or machine has another name or place now",
    "superseded": "another certificate took its place, and nothing is wrong with its key",
    "cessation-of-operation": "what it was for is gone: a service shut down, a device given back",
    "privilege-withdrawn": "its person may no longer do what it permits",
    "unspecified": "none of these, or nobody's business: the CRL says no reason",
}
assert set(PLAIN_REASONS.values()) == set(REASONS)
assert PLAIN_REASONS.keys() == MEANINGS.keys()
WIDTH = 8  # hosts that are delivered to at once


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be revoked: the valid certificates that `find` finds for a name, and why; `again` is the command that says so.

    `follows` is what becomes of the name: replacement, nothing, or removal from pki.yaml. While the project is held,
    `insist` raises PkiError where nothing may be revoked after all, and `also` is done once the revocation is recorded.
    """

    name: str
    find: Callable[[Project], list[Issued]]
    reason: str
    again: str
    follows: str = "replacement"
    insist: Callable[[], None] = lambda: None
    also: Callable[[], None] = lambda: None


@command
def revoke(context: Context, name: str, reason: str = "", yes: bool = False, no_replace: bool = False) -> None:
    """Revoke a certificate by name or client CN (every valid one), or serial number, and prove that it is refused.

    --reason is one of key-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn,
    unspecified. What it will break is shown, and asked about unless --yes is given. What stays in pki.yaml gets a new
    certificate with a new key at once, or with --no-replace none before `invoke renew`. Exit status 0: seen to be refused
    everywhere, 1: something failed or lets it in, 2: revoked and published, yet not verified everywhere.
    """
    project = project_of(context)
    name = _meant(project, name, "revoke")
    valid(project, name)  # which says what is wrong with the name before it asks for a reason
    reason = chosen(reason)
    again = f"./run invoke revoke {name} --reason {reason}{' --no-replace' if no_replace else ''}"
    follows = "nothing" if no_replace else "replacement"
    carry_out(context, project, Order(name, partial(valid, name=name), reason, again, follows), yes=yes)


@command
def retire(context: Context, name: str, yes: bool = False) -> None:
    """Revoke the certificates of a name that left pki.yaml; --yes asks nothing."""
    project = project_of(context)
    leaves = pipeline_plan.plan(project).leaves
    name = _meant(project, name, "retire")
    if name in leaves:
        raise PkiError(f"{name} is still in pki.yaml", f"take it out first, or: ./run invoke revoke {name} --reason …")
    find = partial(valid, name=name, by_cn=False)
    carry_out(context, project, Order(name, find, "cessation-of-operation", f"./run invoke retire {name}"), yes=yes)


# -- what is asked ----------------------------------------------------------------------------------------------------


def chosen(reason: str) -> str:
    """A reason in plain words. One that is missing is asked for at a terminal; the others are explained."""
    if reason in PLAIN_REASONS:
        return reason
    explained = "\n".join(f"  {name:<23} {meaning}" for name, meaning in MEANINGS.items())
    if not reason and sys.stdin.isatty():
        print(explained)
        return chosen(typed("why is it revoked? ").strip() or "?")
    what = f"{reason}: no such reason" if reason else "why is it revoked?"
    raise PkiError(what, f"--reason is one of\n{explained}")


def _meant(project: Project, name: str, command: str) -> str:
    """Return a name by which `valid` knows certificates: itself, or the leaf that it stands for, which is said."""
    project.check_ledger()
    issued = [one for one in project.unexpired() if one.artifact.kind == "cert"]
    names = Names(project.inventory, pipeline_plan.plan(project).leaves, issued)
    is_known = certificates_of_client(issued, name) or any(
        f"{one.serial:x}" == name.lower().lstrip("0") for one in project.unexpired()
    )
    if is_known or not names.find(name):
        return name
    return names.leaf(name, command)


def valid(project: Project, name: str, *, by_cn: bool = True) -> list[Issued]:
    """The valid, unrevoked certificates that a name, a client's CN or a serial number stands for; of no authority.

    A CN stands for every certificate with it, whatever file or line declared it: services tell clients apart by nothing else.
    """
    project.check_ledger()  # a lost one knows no certificate, which says nothing of the certificates
    issued = project.unexpired()
    leaf = ArtifactId.parse(name).short
    leaf = f"client-{leaf}" if any(one.artifact == client_artifact(leaf) for one in issued) else leaf
    alike = certificates_of_client(issued, name) if by_cn else []
    found = _named(issued, leaf)
    found += [one for one in alike if one not in found]
    found = found or [one for one in issued if f"{one.serial:x}" == name.lower().lstrip("0")]
    if len(meant := {one.artifact for one in found}) > 1 and not all(one in alike for one in found):
        which = " or ".join(f"./run invoke revoke {one} --reason …" for one in sorted(meant))
        raise PkiError(f"{name}: is {' and '.join(sorted(meant))}", f"say which: {which}")
    if any(one.profile == "root" or one.profile.endswith("-ca") for one in found) or (
        not found and _is_authority(project, name)
    ):
        raise PkiError(
            f"{name} is a certificate authority", f"revoking one takes a ceremony: ./run invoke explain {name}"
        )
    going = [one for one in found if not one.revoked]
    if found and not going:
        raise PkiError(f"{name}: is revoked already ({found[-1].revoked})", "./run invoke ledger.list")
    if not found:
        ours = {one.artifact.short for one in issued if one.artifact.kind != "authority"}
        if not ours:
            raise PkiError(f"{name}: the ledger knows no certificate that is valid", "./run doit")
        raise not_seen(name, ours)
    return going


def _is_authority(project: Project, name: str) -> bool:
    """`server`, `server-1` and `authority:server-1`."""
    artifact = ArtifactId.parse(name)
    bare = artifact.name if artifact.kind == "authority" else name
    return bare in AUTHORITIES or any(bare in project.store.generations(one) for one in AUTHORITIES)


def _named(issued: Sequence[Issued], name: str) -> list[Issued]:
    """Certificates of a leaf, or where none has that name, of an authority from elsewhere: `web` or `legacy:web`."""
    ours = [one for one in issued if one.artifact in {name, ArtifactId("cert", name)}]
    return ours or [one for one in issued if one.artifact == ArtifactId(one.issuer, name)]


def consent(question: str, again: str) -> None:
    """Go on after a yes. Raises PkiError after anything else and where nobody can say it; `again` is the command."""
    if not sys.stdin.isatty():
        raise PkiError("nothing was changed: nobody is there to say yes", f"{again} --yes")
    if typed(f"{question} (yes or no) ").strip().lower() not in {"yes", "y"}:
        raise PkiError("nothing was changed: that was no yes")


# -- what is done -----------------------------------------------------------------------------------------------------


def carry_out(context: Context, project: Project, order: Order, *, yes: bool) -> None:
    """Show what it breaks, ask, record, publish, and look everywhere whether it is refused now.

    Raises Exit with 1 or 2, as `revoke` says.
    """
    project.clock.check()
    plan, screen, going = pipeline_plan.plan(project), Screen(), order.find(project)
    for some in _by_artifact(going):
        for line in consequences(project, plan, some, follows=order.follows):
            screen.line(line)
    if not yes:
        consent("revoke it?", order.again)
    with TemporaryDirectory(prefix="doit-pki-") as folder:
        witness = Witness(project, plan, going, Path(folder))
        witness.look_before()
        project.close_ledger()  # it is opened again where it is recorded in
        kept = _record(context, order, going)
        published = _publish(context, plan, going)
        findings = witness.look_after(published.delivered, kept=kept)
    for found in findings:
        screen.seen(found.verdict, found.place, found.text)
    code, text = verdict(findings, published.failures)
    screen.line(text)
    if code:
        raise Exit(code=code)


def _by_artifact(going: Sequence[Issued]) -> list[list[Issued]]:
    """The certificates of each leaf."""
    names = dict.fromkeys(one.artifact for one in going)
    return [[one for one in going if one.artifact == name] for name in names]


def _record(context: Context, order: Order, going: Sequence[Issued]) -> bool:
    """Write the revocations into the ledger; returns whether a leaf that stays in pki.yaml keeps a revoked certificate.

    Raises PkiError where the project is no longer what was shown: another command had it meanwhile.
    """
    with held_project_of(context) as project:
        order.insist()
        if order.find(project) != going:
            raise PkiError(
                f"{order.name}: its valid certificates are no longer those that were shown; nothing was revoked",
                order.again,
            )
        withhold = _unreplaced(project, order, going)
        reason = PLAIN_REASONS[order.reason]
        project.ledger.record_revocations(
            going,
            reason=reason,
            at=project.now,
            withhold={name: f"{one} {order.reason}" for name, one in withhold.items()},
        )
        for one in going:
            Screen().made(one.artifact, f"serial {one.serial:x} revoked: {order.reason}")
        project.ledger.close()
        order.also()
    return order.follows == "nothing" and bool(withhold)


def _unreplaced(project: Project, order: Order, going: Sequence[Issued]) -> dict[str, str]:
    """Return the leaves that nothing is to replace, each with the serial number of its certificate.

    A client that leaves pki.yaml is one of them: it gets no new certificate if the command is stopped before it left.
    """
    if order.follows == "removal":
        return {client_artifact(order.name): f"{going[-1].serial:x}"}
    leaves, found = pipeline_plan.plan(project).leaves, dict[str, str]()
    for some in _by_artifact(going) if order.follows == "nothing" else ():
        leaf = leaves.get(some[-1].artifact.short)
        if leaf is not None and dependents.present(project, leaf, some):  # it would keep a valid one from its renewal
            found[some[-1].artifact] = f"{some[-1].serial:x}"
    return found


def _publish(context: Context, plan: Plan, going: Sequence[Issued]) -> Published:
    """Let doit bring everything up to date that follows, and read back what came of it."""
    hosts = sum(1 for one in plan.deliveries.values() if one.transport == "ssh" and not one.engine)
    home, now = home_of(context), now_of(context)
    run = Run(home, now, evidence_of(context), is_part=True)
    code = run.main(["-n", str(min(hosts, WIDTH))] if hosts > 1 else [])
    report = run.report
    failures = {one["name"]: ErrorCode.OTHER for one in report.get("not_reached", [])}
    failures |= {one["name"]: ErrorCode(one["code"]) for one in report.get("failed", [])}
    if not report or (
        code and not (failures or report["critical"])
    ):  # the run itself counts critical findings elsewhere
        failures["doit"] = ErrorCode.OTHER
    return revocation_publication.check(Project.open(home, now), going, failures)


def verdict(findings: Sequence[Observation], failures: Mapping[str, ErrorCode]) -> tuple[int, str]:
    """The exit status of a revocation and its last words."""
    by = {
        kind: [one.place for one in findings if one.verdict == kind]
        for kind in ("verified", "open", "failed", "folder")
    }
    absent = [name for name, code in failures.items() if code is ErrorCode.UNREACHABLE]
    broken = [name for name in failures if name not in absent]
    if by["failed"]:
        return 1, f"revoked, and STILL LET IN: {', '.join(by['failed'])}; docs/revocation.md says what to do"
    if broken:
        return 1, f"revoked; failed: {', '.join(broken)}; fix it, then ./run doit tries again"
    if by["open"] or absent:
        left = ", ".join([*(by["open"] or absent), *by["folder"]])
        return (
            2,
            f"revoked and published; not verified: {left}; the next ./run doit delivers and proves what it can reach",
        )
    if by["folder"]:
        verified, left = f"; verified at {', '.join(by['verified'])}" if by["verified"] else "", ", ".join(by["folder"])
        return 2, f"revoked and published{verified}; not verified: {left}; bring what doit made for them there"
    if by["verified"]:
        return 0, f"revoked, published, and verified at {', '.join(by['verified'])}"
    return 0, "revoked and published; there is nothing here to prove it at"
