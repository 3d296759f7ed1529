"""Deliveries by hand: preparing hosts, looking at them, pushing, going back."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from typing import Any, NamedTuple

from invoke.context import Context
from invoke.exceptions import Exit

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
from pki.cli.json_output import DeliveryRow, DriftOutput, DriftRow, HistoryOutput, ReasonOutput
from pki.cli.revoke_command import confirm
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy import bootstrap as bootstraps
from pki.deploy import diff as deploy_diff
from pki.deploy import drift as drifts
from pki.deploy import receipt as receipts
from pki.deploy import release_roots
from pki.deploy.delivery import Delivery
from pki.deploy.payload import Payload
from pki.deploy.transaction import Change, differences
from pki.monitor.report.run import Run
from pki.pipeline import delivery_targets, plan
from pki.project import ledger_decisions
from pki.project.project import Project

WIDTH = 10  # hosts that are looked at at once


@command
def bootstrap(
    context: Context,
    host: str,
    certificates_only: bool = False,
    with_config: bool = False,
    login: str = "",
    key: str = "",
    show: bool = False,
) -> None:
    """Prepare a host once: pki-apply, what it permits, and a key that may start it and nothing else.

    --certificates-only permits exactly the files of its release, and roots by their SHA-256, --with-config the folders they lie in (which, for a
    proxy's configuration, is as much as root); pki.yaml (`scope`) says which it is. --login USER is the account that
    prepares (root, or one with sudo), --key FILE a public key of yours instead of a new one. --show prints the script.
    """
    project = project_of(context)
    said = project.inventory.hosts.get(host)
    delivery = _delivery(context, project, host)
    scope = said.scope if said else "config"
    _insist_on_scope(host, scope, certificates_only=certificates_only, with_config=with_config)
    with redirect_stdout(sys.stderr) if show else nullcontext():  # what is shown is to be run
        _make(context, ArtifactId("release", host))
    payload = _wanted(delivery)
    is_local = delivery_targets.way(project, host, said).is_local
    public = "" if is_local else _public_key(context, project, key)
    way = delivery_targets.way(project, host, said)  # with the key that may have been made just now
    account = "" if is_local else way.user or "root"
    prepared = bootstraps.Bootstrap(
        host, bootstraps.permissions(host, payload, delivery.receipt, exact=scope == "certificates"), account, public
    )
    if show:
        _permitted(project, host, payload, scope)
        print(prepared.script(), end="")
        return
    via = replace(way, user=login, identity="")
    as_root = os.geteuid() == 0 if way.is_local else login in {"", "root"}
    said_there = bootstraps.install(prepared, via, as_root=as_root)
    bootstraps.attempt(way, payload, as_root=os.geteuid() == 0)
    _permitted(project, host, payload, scope)
    if (receipt := delivery.receipt) and receipt.held:
        receipts.save(project.store.receipt(host), replace(receipt, held={}))  # the next run deploys these files
    level = "these files and no others" if scope == "certificates" else "their folders: as much as root on that host"
    Screen().done("prepared", ArtifactId("deploy", host), f"{said_there}; it permits {level}")


def _insist_on_scope(host: str, scope: str, *, certificates_only: bool, with_config: bool) -> None:
    """Raise PkiError where an option of deploy.bootstrap contradicts pki.yaml, or the other one."""
    if certificates_only and with_config:
        raise PkiError("--certificates-only and --with-config exclude each other", "give one of them")
    if (certificates_only and scope != "certificates") or (with_config and scope != "config"):
        wanted = "certificates" if certificates_only else "config"
        raise PkiError(
            f"pki.yaml says scope: {scope} for {host}", f"set scope: {wanted} under hosts.{host}, then try again"
        )


def _permitted(project: Project, host: str, payload: Payload, scope: str) -> None:
    """Record which roots a host accepts from now on; one whose script is run by hand says itself what it holds back."""
    accepted = (
        " ".join(release_roots.of(payload).fingerprints) or ledger_decisions.NONE
        if scope == "certificates"
        else ledger_decisions.ANY
    )
    is_so = project.permitted_roots.get(host) == ([] if accepted == ledger_decisions.NONE else accepted.split())
    if not (is_so or (accepted == ledger_decisions.ANY and host not in project.permitted_roots)):
        _decide(project, host, "roots-permitted", accepted)


@command_with(may_lack="host")
def drift(context: Context, host: str | None = None, json: bool = False) -> None:
    """Compare hosts with what was deployed there; changes nothing there. Exit status 0: as it was deployed, 2: something is not.

    What it finds, the next run repairs. --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    deliveries = _deliveries(project)
    chosen = [deliveries[require_one_of(host, deliveries, "host")]] if host else list(deliveries.values())
    with ThreadPoolExecutor(WIDTH) as pool:
        looked = dict(
            zip((one.host for one in chosen), pool.map(lambda one: _drift(one, project), chosen), strict=True)
        )
    for name, found in looked.items():
        if not isinstance(found, PkiError):
            deliveries[name].found_drift(found.drift, found.writable)
    if json:
        DriftOutput(at=project.now, hosts=[_drift_row(name, found) for name, found in looked.items()]).show()
    else:
        _say_drift(screen, looked)
    if any(isinstance(found, PkiError) for found in looked.values()):
        raise Exit(code=1)
    if any(found.phrases for found in looked.values() if not isinstance(found, PkiError)):
        raise Exit(code=2)


def _say_drift(screen: Screen, looked: Mapping[str, _Looked | PkiError]) -> None:
    waiting, is_well = 0, True
    for host, found in looked.items():
        name = ArtifactId("deploy", host)
        if isinstance(found, PkiError):
            screen.failed(name, found.message, found.hint)
            is_well = False
            continue
        for phrase in found.phrases:
            screen.due(name, str(phrase))
        if found.writable:
            screen.line(f"→ {drifts.closing(found.writable, host)}")
        is_well = is_well and not found.phrases
        waiting += found.waiting
    if is_well:
        owed = f"; {waiting} changes wait for the next run" if waiting else ""
        screen.line(f"{len(looked)} hosts are as they should be{owed}")


@command
def diff(context: Context, host: str) -> None:
    """What the next delivery would change on a host, as a diff; of a private key only its fingerprint."""
    project = project_as_it_is(context)
    delivery = _delivery(context, project, host)
    if delivery.wanted() is None:
        project.insist_on_roots()
    payload = _wanted(delivery)
    receipt = delivery.receipt
    delivered = delivery.history.payload(receipt.release) if receipt else None
    with _said_of(host), _change(delivery, payload, project).session() as session:
        looked = session.look()
        lines = [line for seen in looked for line in deploy_diff.lines(session, seen, payload, delivered)]
        session.end()
    delivery.found_drift(drifts.of(looked, receipt), session.writable)
    for line in lines or [f"{host} is as it should be"]:
        Screen().line(line)


@command
def push(context: Context, host: str) -> None:
    """Deliver to a host now, whatever its window says, and let a host that is held follow its releases again."""
    project = project_of(context)
    delivery = _delivery(context, project, host)
    if delivery.pinned():
        _decide(project, host, "unpinned", "followed again by deploy.push")
    _deliver(context, delivery)


@command
def rollback(context: Context, host: str, to: str = "", yes: bool = False) -> None:
    """Put a host back to the release before, or to --to RELEASE, with the newest CRLs, and hold it there until deploy.push.

    A release whose certificates have run out or are revoked is refused. Asks before; --yes does not.
    """
    project = project_of(context)
    delivery = _delivery(context, project, host)
    receipt, present = delivery.receipt, Payload.of(project.store.release(host))
    if receipt is None or present is None:
        raise PkiError(f"{host}: first deployment", f"./run invoke deploy.push {host}")
    earlier, before = delivery.history.find(host, to, receipt.release).release.digest, delivery.pinned()
    if not yes:
        again = f"./run invoke deploy.rollback {host}{f' --to {to}' if to else ''}"
        confirm(f"put {host} back to release {earlier[:12]}, and hold it there until deploy.push?", again)
    _decide(project, host, "pinned", earlier)
    try:
        _deliver(context, delivery)
    except BaseException:
        if before:
            _decide(project, host, "pinned", f"{before.release} since {before.since:%Y-%m-%dT%H:%M:%SZ}")
        else:
            _decide(project, host, "unpinned", "the rollback failed")
        raise
    Screen().line(f"{host} is held at {earlier[:12]}; let it go on with ./run invoke deploy.push {host}")


def _decide(project: Project, host: str, decision: str, detail: str) -> None:
    """Record what was decided about a host."""
    with project.store.lock():
        project.ledger.record_decision(ArtifactId("deploy", host), decision, detail, project.now)
        project.ledger.close()


@command
def show_history(context: Context, host: str, json: bool = False) -> None:
    """What was delivered to a host, when, and what was seen of it; --json is for programs."""
    project = project_as_it_is(context)
    delivery = _delivery(context, project, host)
    kept = {path.name for path in delivery.history.releases()}
    rows = [
        (
            str(note["at"]),
            str(note["release"])[:12],
            str(note["what"]),
            "kept" if note["release"] in kept else "",
            str(note.get("why") or _verification_of(note.get("verification") or {})),
        )
        for note in delivery.history.notes()
    ]
    if json:
        told = [
            DeliveryRow(at=str(note["at"]), release=str(note["release"]), what=what, kept=bool(kept_), seen=seen)
            for note, (_, _, what, kept_, seen) in zip(delivery.history.notes(), rows, strict=True)
        ]
        HistoryOutput(at=project.now, host=host, deliveries=told, state=delivery.state(project.now)).show()
        return
    Screen().table(f"{host}: {len(rows)} deliveries", ("when", "release", "what", "for rollback", "seen"), rows)
    if state := delivery.state(project.now):
        Screen().line(state)


@command
def run(context: Context, host: str, dry_run: bool = False) -> None:
    """Bring one host up to date, as doit would; --dry-run builds, checks and looks, and changes nothing there."""
    project = project_of(context)
    delivery = _delivery(context, project, host)
    if not dry_run:
        if not _make(context, ArtifactId("deploy", host)):
            Screen().line(f"{host} is as it should be")
        return
    payload, screen = _wanted(delivery), Screen()
    with _said_of(host):
        change = _change(delivery, payload, project)
        change.check(None)
        with change.session() as session:
            seen = session.look()
            change.guard(session, seen, None)
            session.end()
    delivery.found_drift(drifts.of(seen, delivery.receipt), session.writable)
    phrases = [*differences(seen), *session.writable]
    for phrase in phrases:
        screen.due(ArtifactId("deploy", host), str(phrase))
    count = len([one for one in seen if one.state not in {"same", "set", "held"}])
    screen.line(f"{count} files would change" if phrases else f"{host} is as it should be")


def _drift_row(host: str, found: _Looked | PkiError) -> DriftRow:
    if isinstance(found, PkiError):
        return DriftRow(host=host, reached=False, error=found.message, remedy=found.hint, differences=[], waiting=0)
    differences = [ReasonOutput.of(one) for one in found.phrases]
    remedy = str(drifts.closing(found.writable, host)) if found.writable else ""
    return DriftRow(host=host, reached=True, error="", remedy=remedy, differences=differences, waiting=found.waiting)


# -- what the commands share ------------------------------------------------------------------------------------------


class _said_of:  # noqa: N801 - reads as a clause of `with`
    """Put the host's name before what goes wrong with it."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, PkiError):
            raise PkiError(f"{self._host}: {error.message}", error.hint) from None


def _deliveries(project: Project) -> dict[str, Delivery]:
    return dict(plan.plan(project).deliveries)


def _delivery(context: Context, project: Project, host: str) -> Delivery:
    """The delivery of a host by ssh or to this machine."""
    deliveries = _deliveries(project)
    delivery = deliveries[require_one_of(host, deliveries, "host that is delivered to")]
    if not delivery.is_remote:
        what = (
            "under deploy: `ca: local`" if host == "ca" else f"under hosts.{host}: `deliver: ssh` or `deliver: local`"
        )
        raise PkiError(f"{host} is delivered into a folder", f"in pki.yaml, {what}")
    return delivery


def _wanted(delivery: Delivery) -> Payload:
    if (payload := delivery.wanted()) is None:
        raise PkiError(f"{delivery.host}: its release is not there", f"./run doit release:{delivery.host}")
    return payload


def _change(delivery: Delivery, payload: Payload, project: Project) -> Change:
    return delivery.change(payload, delivery.receipt, project.now)


def _make(context: Context, name: str) -> bool:
    """Let doit bring one artifact up to date; returns whether it changed anything. Raises Exit where it could not."""
    run = Run(home_of(context), now_of(context), evidence_of(context), is_part=True)
    if code := run.main([name]):
        raise Exit(code=code)
    return bool(run.report.get("changed"))


def _deliver(context: Context, delivery: Delivery) -> None:
    """Build the release, then deliver it without asking whether it must be."""
    _make(context, ArtifactId("release", delivery.host))
    with held_project_of(context) as project, _said_of(delivery.host):
        outcome = _deliveries(project)[delivery.host].deliver(project.now)
    Screen().done(outcome.verb, ArtifactId("deploy", delivery.host), str(outcome))


class _Looked(NamedTuple):
    """What a look at a host found: what is not as deployed, and how much waits for its delivery."""

    phrases: Sequence[Reason]
    drift: tuple[Reason, ...] = ()
    writable: tuple[Reason, ...] = ()
    waiting: int = 0


def _drift(delivery: Delivery, project: Project) -> _Looked | PkiError:
    try:
        receipt, payload = delivery.receipt, delivery.wanted()
        if receipt is None and not delivery.has_lost_receipt:
            return _Looked([Why.NEVER_DEPLOYED()])
        if receipt is None:
            return _Looked([Why.RECEIPT_DAMAGED()])
        if not delivery.is_remote:
            return _Looked(delivery.transport.drift(receipt))
        if payload is None:
            return _Looked([Why.STATED(text="its release is not there: ./run doit")])
        with delivery.change(payload, receipt, project.now).session() as session:
            seen = session.look()
            session.end()
    except PkiError as error:
        delivery.found_unreached(error, project.now)
        return error
    found = drifts.of(seen, receipt)
    drifted = [one for one in seen if drifts.of([one], receipt)]
    phrases = differences(drifted)
    waiting = len(differences(seen)) - len(phrases)
    return _Looked([*phrases, *session.writable], found, session.writable, waiting)


def _public_key(context: Context, project: Project, key: str) -> str:
    if not key:
        return bootstraps.deploy_key(project.store.ca)
    try:
        text = path_of(context, key).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise PkiError(f"{key}: cannot be read", "name a public key such as ~/.ssh/id_ed25519.pub") from None
    if "PRIVATE KEY" in text or len(text.split()) < 2 or "\n" in text:
        raise PkiError(f"{key}: is no public key of OpenSSH", "name the .pub file beside the private key")
    return text


def _verification_of(verification: dict[str, str]) -> str:
    return ", ".join(f"{service} {text}" for service, text in verification.items())


TASKS: dict[str, Any] = {
    "bootstrap": bootstrap,
    "diff": diff,
    "drift": drift,
    "history": show_history,
    "push": push,
    "rollback": rollback,
    "run": run,
}
