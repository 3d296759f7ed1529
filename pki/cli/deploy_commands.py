"""The commands deploy.*: prepare hosts, compare them, deliver to them, roll them back."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from datetime import datetime
from typing import Any

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
from pki.cli.json_output import DeliveryRow, HistoryOutput
from pki.cli.prompt import confirm
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.common.timestamps import instant
from pki.config.identifiers import ArtifactId
from pki.deploy import bootstrap as bootstraps
from pki.deploy import diff as deploy_diff
from pki.deploy import drift as drifts
from pki.deploy import receipt as receipts
from pki.deploy import release_roots
from pki.deploy.delivery import Delivery
from pki.deploy.host_output import FileStatus
from pki.deploy.payload import Payload
from pki.deploy.transaction import HostChange, differences
from pki.monitor.report.run import Run
from pki.pipeline import delivery_targets, plan
from pki.project import ledger_decisions
from pki.project.host_decisions import HostDecisions
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView
from pki.project.project import Project


@command_with(many=("trust",))
def bootstrap(
    context: Context,
    host: str,
    trust: list[str],
    certificates_only: bool = False,
    with_config: bool = False,
    login: str = "",
    key: str = "",
    show: bool = False,
) -> None:
    """Prepare a host once: install pki-apply, its permissions, and a key that may start pki-apply and nothing else.

    With --certificates-only, the key may write exactly the files of the release, and roots with a known SHA-256; with
    --with-config, their folders: with a proxy's configuration, that equals root access. The default is `scope` in pki.yaml.
    --login USER: prepare as root or an account with sudo. --key FILE: use your own public key. --show: print the script.
    --trust ACCOUNT: files may be placed in folders that this account can write, such as freerad in /etc/freeradius/3.0.
    """
    project = project_of(context)
    settings = project.inventory.hosts.get(host)
    delivery = _delivery(context, project, host)
    scope = settings.scope if settings else "config"
    _insist_on_scope(host, scope, certificates_only=certificates_only, with_config=with_config)
    with redirect_stdout(sys.stderr) if show else nullcontext():  # standard output is the script alone
        _run_for(context, ArtifactId("release", host))
    payload = _payload_of(delivery)
    is_local = delivery_targets.transport_of(project.inventory, project.store, host, settings).is_local
    public_key = "" if is_local else _public_key(context, project.store, key)  # before transport_of, which uses it
    transport = delivery_targets.transport_of(project.inventory, project.store, host, settings)
    account = "" if is_local else transport.user or "root"
    receipt, exact = delivery.records.receipt, scope == "certificates"
    permissions = bootstraps.permissions_text(host, payload, receipt, exact=exact, trusted=trust)
    preparation = bootstraps.Bootstrap(host, permissions, account, public_key)
    if show:
        _record_roots(project.store, project.now, project.ledger_view, project.host_decisions, host, payload, scope)
        print(preparation.script(), end="")
        return
    login_transport = replace(transport, user=login, identity="")
    as_root = os.geteuid() == 0 if transport.is_local else login in {"", "root"}
    output = bootstraps.install(preparation, login_transport, as_root=as_root)
    bootstraps.verify_start(transport, payload, as_root=os.geteuid() == 0)
    _record_roots(project.store, project.now, project.ledger_view, project.host_decisions, host, payload, scope)
    if receipt and receipt.held_back:  # the next run deploys these files
        receipts.save(project.store.receipt(host), replace(receipt, held_back={}))
    permission = _what_the_key_may_write(scope, is_local=is_local)
    Screen().done("prepared", ArtifactId("deploy", host), f"{output}{permission}")


def _what_the_key_may_write(scope: str, *, is_local: bool) -> str:
    """Return what the message about a prepared host adds: this machine itself needs no deployment key."""
    if is_local:
        return ""
    level = "files of its release" if scope == "certificates" else "folders of its release, as powerful as root access"
    return f"; the deployment key may write the {level}"


def _insist_on_scope(host: str, scope: str, *, certificates_only: bool, with_config: bool) -> None:
    """Raise PkiError where an option of deploy.bootstrap contradicts pki.yaml, or the other option."""
    if certificates_only and with_config:
        raise PkiError("--certificates-only and --with-config exclude each other", "give one of them")
    scope_option = "certificates" if certificates_only else "config" if with_config else scope
    if scope_option != scope:
        hint = f"set scope: {scope_option} under hosts.{host}, then try again"
        raise PkiError(f"pki.yaml says scope: {scope} for {host}", hint)


def _record_roots(
    store: Store,
    now: datetime,
    ledger_view: LedgerView,
    host_decisions: HostDecisions,
    host: str,
    payload: Payload,
    scope: str,
) -> None:
    """Record which roots a host accepts from now on, also before a script with --show is run by hand."""
    accepted_roots = ledger_decisions.ANY
    if scope == "certificates":
        accepted_roots = " ".join(release_roots.find_roots(payload).fingerprints) or ledger_decisions.NONE
    fingerprints = [] if accepted_roots == ledger_decisions.NONE else accepted_roots.split()
    is_recorded = host_decisions.permitted_roots.get(host) == fingerprints
    is_default = accepted_roots == ledger_decisions.ANY and host not in host_decisions.permitted_roots
    if not is_recorded and not is_default:
        _decide(store, now, ledger_view, host, "roots-permitted", accepted_roots)


@command
def diff(context: Context, host: str) -> None:
    """Show as a diff what the next delivery would change on a host; of a private key only its fingerprint."""
    project = project_as_it_is(context)
    delivery = _delivery(context, project, host)
    if delivery.payloads.desired() is None:
        project.roots.check()
    payload = _payload_of(delivery)
    receipt = delivery.records.receipt
    delivered = delivery.records.history.payload(receipt.release) if receipt else None
    with _naming(host), _change_of(delivery, payload, project.now).session() as session:
        states = session.inspect()
        lines = [line for state in states for line in deploy_diff.diff_lines(session, state, payload, delivered)]
        session.end()
    delivery.records.record_drift(drifts.drift_reasons(states, receipt), session.writable)
    for line in lines or [f"{host} is up to date"]:
        Screen().line(line)


@command
def push(context: Context, host: str) -> None:
    """Deliver to a host now, also outside of its window; a pinned host follows its releases again."""
    project = project_of(context)
    delivery = _delivery(context, project, host, by_command=True)
    if delivery.payloads.recorded_pin():
        _decide(project.store, project.now, project.ledger_view, host, "unpinned", "followed again by deploy.push")
    _deliver(context, delivery)


@command
def rollback(context: Context, host: str, to: str = "", yes: bool = False) -> None:
    """Put a host back to the previous release, or to --to RELEASE, with the newest CRLs, and pin it there until deploy.push.

    A release with an expired or revoked certificate is refused. With --yes, it does not ask.
    """
    project = project_of(context)
    delivery = _delivery(context, project, host)
    receipt, current = delivery.records.receipt, Payload.of(project.store.release(host))
    if receipt is None or current is None:
        raise PkiError(f"{host}: was never deployed", f"./run invoke deploy.push {host}")
    earlier_digest = delivery.records.history.find_release(host, to, receipt.release).release.digest
    previous_pin = delivery.payloads.recorded_pin()
    if not yes:
        same_command = f"./run invoke deploy.rollback {host}{f' --to {to}' if to else ''}"
        confirm(f"put {host} back to release {earlier_digest[:12]}, and pin it there until deploy.push?", same_command)
    _decide(project.store, project.now, project.ledger_view, host, "pinned", earlier_digest)
    try:
        _deliver(context, delivery)
    except BaseException:  # also Ctrl-C: the host keeps its release, so its former pin must stay
        if previous_pin:
            _decide(
                project.store,
                project.now,
                project.ledger_view,
                host,
                "pinned",
                f"{previous_pin.release} since {instant(previous_pin.since)}",
            )
        else:
            _decide(project.store, project.now, project.ledger_view, host, "unpinned", "the rollback failed")
        raise
    Screen().line(
        f"{host} is pinned to {earlier_digest[:12]}; to follow new releases again: ./run invoke deploy.push {host}"
    )


def _decide(store: Store, now: datetime, ledger_view: LedgerView, host: str, decision: str, detail: str) -> None:
    """Record a decision about a host in the ledger."""
    with store.lock():
        ledger_view.ledger.record_decision(ArtifactId("deploy", host), decision, detail, now)
        ledger_view.ledger.close()


@command
def show_history(context: Context, host: str, json: bool = False) -> None:
    """Show the deliveries to a host, and what was verified; --json is for programs."""
    project = project_as_it_is(context)
    delivery = _delivery(context, project, host)
    history = delivery.records.history
    kept_names = {path.name for path in history.releases()}
    deliveries = [
        DeliveryRow(
            at=str(entry["at"]),
            release=str(entry["release"]),
            what=str(entry["what"]),
            kept=entry["release"] in kept_names,
            seen=str(entry.get("why") or ", ".join(map(" ".join, (entry.get("verification") or {}).items()))),
        )
        for entry in history.log_entries()
    ]
    if json:
        HistoryOutput(at=project.now, host=host, deliveries=deliveries, state=delivery.state(project.now)).show()
        return
    title = f"deliveries to {host}: {len(deliveries)}"
    rows = [(row.at, row.release[:12], row.what, "kept" if row.kept else "", row.seen) for row in deliveries]
    Screen().table(title, ("when", "release", "what", "for rollback", "verification"), rows)
    if state := delivery.state(project.now):
        Screen().line(state)


@command
def run(context: Context, host: str, dry_run: bool = False) -> None:
    """Bring one host up to date, as doit would; --dry-run builds and checks, and changes nothing on the host."""
    project = project_of(context)
    delivery = _delivery(context, project, host)
    if not dry_run:
        if not _run_for(context, ArtifactId("deploy", host)):
            Screen().line(f"{host} is up to date")
        return
    payload, screen = _payload_of(delivery), Screen()
    with _naming(host):
        change = _change_of(delivery, payload, project.now)
        change.check_release(None)
        with change.session() as session:
            states = session.inspect()
            change.check_installed_crls(session, states, None)
            session.end()
    delivery.records.record_drift(drifts.drift_reasons(states, delivery.records.receipt), session.writable)
    reasons = [*differences(states), *session.writable]
    for reason in reasons:
        screen.due(ArtifactId("deploy", host), str(reason))
    count = sum(state.status.differs and state.status is not FileStatus.HELD_BACK for state in states)
    screen.line(f"{counted(count, 'file')} would change" if reasons else f"{host} is up to date")


# -- shared by the commands -------------------------------------------------------------------------------------------


class _naming:  # noqa: N801 - reads as a clause of `with`
    """Put the host's name before the message of an error inside the `with` block."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, PkiError):
            raise PkiError(f"{self._host}: {error.message}", error.hint) from None


def deliveries_of(project: Project) -> dict[str, Delivery]:
    """Return the delivery of each host."""
    return dict(plan.plan(project).deliveries)


def _delivery(context: Context, project: Project, host: str, *, by_command: bool = False) -> Delivery:
    """Return the delivery of a host with `deliver: ssh` or `deliver: local`. Raises PkiError for another one.

    With `by_command`, also that of a host with `deliver: {command: …}`.
    """
    deliveries = deliveries_of(project)
    delivery = deliveries[require_one_of(host, deliveries, "host")]
    if by_command and delivery.hook:
        return delivery
    if delivery.hook:
        what = f"{host} is deployed by a command: doit cannot compare, undo or prepare what is there"
        raise PkiError(what, f"to run the command again: ./run invoke deploy.push {host}")
    if not delivery.records.is_contacted:
        lines = "`ca: local` under deploy" if host == "ca" else f"`deliver: ssh` or `deliver: local` under hosts.{host}"
        raise PkiError(f"{host} is deployed into a folder", f"in pki.yaml, set {lines}")
    return delivery


def _payload_of(delivery: Delivery) -> Payload:
    """Return what must be on the host. Raises PkiError when it has no release."""
    if (payload := delivery.payloads.desired()) is None:
        raise PkiError(f"{delivery.host}: its release is missing", f"./run doit release:{delivery.host}")
    return payload


def _change_of(delivery: Delivery, payload: Payload, now: datetime) -> HostChange:
    """Return the change that brings a host to `payload`."""
    return delivery.change(payload, delivery.records.receipt, now)


def _run_for(context: Context, name: str) -> bool:
    """Bring one artifact up to date with doit; returns whether it changed anything. Raises Exit when it failed."""
    run = Run(home_of(context), now_of(context), evidence_of(context), is_part=True)
    if code := run.main([name]):
        raise Exit(code=code)
    return bool(run.report.get("changed"))


def _deliver(context: Context, delivery: Delivery) -> None:
    """Build the release, and deliver it whether or not it is due."""
    _run_for(context, ArtifactId("release", delivery.host))
    with held_project_of(context) as project, _naming(delivery.host):
        outcome = deliveries_of(project)[delivery.host].deliver(project.now)
    Screen().done(outcome.verb, ArtifactId("deploy", delivery.host), str(outcome))


def _public_key(context: Context, store: Store, key: str) -> str:
    """Return the public key for deployments: the given file, or the project's own key."""
    if not key:
        return bootstraps.deploy_key(store.ca)
    try:
        text = path_of(context, key).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise PkiError(f"{key}: cannot be read", "name a public key such as ~/.ssh/id_ed25519.pub") from None
    if "PRIVATE KEY" in text or len(text.split()) < 2 or "\n" in text:
        raise PkiError(f"{key}: is not an OpenSSH public key", "name the .pub file beside the private key")
    return text


TASKS: dict[str, Any] = {
    "bootstrap": bootstrap,
    "diff": diff,
    "history": show_history,
    "push": push,
    "rollback": rollback,
    "run": run,
}
