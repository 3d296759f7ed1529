"""Checks of hosts: unreachable, failing, pinned, not verified, or changed by others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from pki.common.cache import digest_of
from pki.common.counts import join_names
from pki.common.errors import RETRIED
from pki.common.reasons import Reason, joined
from pki.common.timestamps import instant, moment
from pki.config.identifiers import ArtifactId
from pki.deploy.drift import permission_remedy, reasons_from_json
from pki.deploy.host_payloads import HostPayloads
from pki.deploy.verification import Verdict, Verification, as_json
from pki.monitor import pending_bootstraps, waiting_roots
from pki.monitor.check_result import Finding, Level, rerun
from pki.monitor.checks import shared_causes
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.forecast import PINNED

CRITICAL_TIME_LEFT = timedelta(days=7)  # until the first certificate or CRL on a host that fails expires
CHANGES_NAMED = 4  # changed files that one finding lists
CHANGE_BELONGS = "make the change in pki.yaml or templates/ (docs/reference/managed-files.md)"
REPAIR = f"./run doit restores it; {CHANGE_BELONGS}"


class HostState(NamedTuple):
    """What receipt, contact and pin record about a host; times as text, "" for none.

    `first_expiry` is when the first certificate or CRL on the host expires. `drift` is what was changed there and not
    restored since, as JSON. `writable` are the folders that others can write, as JSON. `refusal` is why the host refused
    the release, as JSON.
    """

    host: str
    failing_since: str
    message: str
    first_expiry: str
    not_verified: Mapping[str, Sequence[str]]
    pinned_since: str
    drift: Sequence[Mapping[str, Any]] = ()
    writable: Sequence[Mapping[str, Any]] = ()
    refusal: Mapping[str, Any] | None = None

    @property
    def is_well(self) -> bool:
        """Return whether there is nothing to report about the host."""
        return not (self.failing_since or self.not_verified or self.pinned_since or self.drift or self.writable)


def check_hosts(context: CheckContext) -> Iterator[Finding]:
    """Report hosts that fail, are pinned, not verified, new, or were changed by others."""
    reported: dict[str, str] = {}  # the subject of the finding that gives the reason, by host
    for state in _unwell_hosts(context):
        for finding in _remote_findings(context, state):
            reported.setdefault(state.host, finding.subject)
            yield finding
    for name in context.run.failed.keys() | context.run.blocked.keys():
        kind, host = ArtifactId.parse(name).parts
        if kind == "deploy" and host not in reported and host in context.plan.deliveries:
            reported[host] = context.run.blocked.get(name, name)
            yield from _failure_before_contact(context, host)
    yield from _drift(context)
    for note in (
        *waiting_roots.notes(context.project.store, context.project.cache, context.plan),
        *pending_bootstraps.notes(context.project, context.plan),
    ):
        yield Finding(note.subject, Level.WARNING, note.text, note.remedy)
    new_hosts = [name for name in context.plan.deliveries if name not in reported and _is_new(context, name)]
    yield from _count_of_deployed(context, reported, new_hosts)


def _count_of_deployed(
    context: CheckContext, reported: Mapping[str, str], new_hosts: Sequence[str]
) -> Iterator[Finding]:
    """Report how many hosts have what pki.yaml declares, and why the others do not have it.

    `reported` maps a host to the subject of the finding that gives the reason: that finding is the problem, and the count
    is for information. Hosts that were never deployed are a notice of their own, but not at the end of a run, which has
    just deployed to all hosts that it could reach.
    """
    hosts, deliveries = context.project.inventory.hosts, context.plan.deliveries
    excluded = [name for name in hosts if name not in deliveries]
    expected = len(hosts.keys() | deliveries.keys()) - len(reported)
    count = len(deliveries) - len(reported) - len(new_hosts)
    parts = [f"{count}{f' of {expected}' if count < expected else ''} deployed as declared in pki.yaml"]
    if new_hosts:
        parts.append(f"not deployed yet: {join_names(new_hosts)}")
    if reported:
        reasons = join_names([f"{host} ({subject})" for host, subject in reported.items()])
        parts.append(f"reported above: {reasons}")
    if excluded:
        parts.append(f"no deployments to {join_names(excluded)}")
    if new_hosts and context.thorough:
        yield Finding("hosts", Level.NOTICE, "; ".join(parts), "./run doit")
    elif count:
        yield Finding("hosts", Level.OK, "; ".join(parts))


def _remote_findings(context: CheckContext, state: HostState) -> Iterator[Finding]:
    """Report everything about one remote host that is not well."""
    if state.failing_since:
        yield _failing_host(context, state)
    drift, writable = reasons_from_json(state.drift), reasons_from_json(state.writable)
    if drift or writable:
        texts = (f"was changed: {_first_changes(drift)}" if drift else "", _first_changes(writable))
        fix = permission_remedy(writable, state.host) if writable else REPAIR
        yield Finding(ArtifactId("drift", state.host), Level.WARNING, "; ".join(filter(None, texts)), fix)
    if state.pinned_since:
        remedy = f"./run invoke deploy.push {state.host}"
        yield Finding(ArtifactId("pinned", state.host), Level.NOTICE, PINNED, remedy, since=moment(state.pinned_since))
    # A probe is newer than the verification of the deployment: a service that was unreachable then may answer now.
    probes = {probe.service: probe for probe in context.probes if probe.host == state.host}
    reported_services = {name for name, probe in probes.items() if probe.wrong}  # by check_services
    verifications = {name: Verification.from_json(item) for name, item in state.not_verified.items()}
    not_verified = [
        f"{name} {verification}"
        for name, verification in verifications.items()
        if name not in reported_services and (verification.verdict is not Verdict.UNREACHED or name not in probes)
    ]
    if not_verified:
        remedy = f"make its services reachable from here, then: ./run invoke deploy.push {state.host}"
        yield Finding(
            ArtifactId("verification", state.host),
            Level.NOTICE,
            "; ".join(not_verified),
            remedy,
        )


def _failing_host(context: CheckContext, state: HostState) -> Finding:
    """Report a host whose deployments fail, with the services that fail for the same reason."""
    subject = ArtifactId("deploy", state.host)
    failure = context.run.failure(subject)
    until = moment(state.first_expiry) if state.first_expiry else None
    is_critical = until is not None and until - context.now <= CRITICAL_TIME_LEFT
    level = Level.CRITICAL if is_critical else Level.WARNING
    text = failure.message if failure else f"deployment failed: {state.message}"
    if silent := shared_causes.services_explained_by_delivery(context, state.host):
        text = f"{text}; {join_names([probe.service for probe in silent])} {silent[0].wrong}"
    what: Reason | str = text
    # The refusal that the host answered last explains the failure, unless this run failed before it reached the host.
    if state.refusal and (failure is None or subject in context.run.failed):
        refusal = Reason.from_json(state.refusal)
        what = replace(refusal, data=(*refusal.data, ("why", text)))
    remedy = (failure.hint if failure else "") or f"./run invoke deploy.run {state.host}"
    if failure and failure.code in RETRIED:  # every run tries again: the fault is at the host or on the way to it
        remedy = f"check the host, then: ./run invoke deploy.run {state.host} --dry-run"
    return Finding(subject, level, what, remedy, since=moment(state.failing_since), until=until)


def failed_deliveries_with_services(context: CheckContext) -> Iterator[Finding]:
    """Report the failed deployments that explain why services do not answer."""
    hosts = {
        probe.host for probe in context.probes if probe.wrong and shared_causes.is_explained_by_delivery(context, probe)
    }
    yield from (_failing_host(context, state) for state in _unwell_hosts(context) if state.host in hosts)


def _is_new(context: CheckContext, host: str) -> bool:
    """Return whether the program never deployed to a host.

    Only a thorough check looks for such hosts: after a run, every host was deployed or has failed.
    """
    return context.thorough and not context.project.store.receipt(host).exists()


def _failure_before_contact(context: CheckContext, host: str) -> Iterator[Finding]:
    """Report a host that failed before it was contacted, for example because a folder cannot be written.

    A host that is only blocked is not reported, because the artifact that blocks it is.
    """
    subject = ArtifactId("deploy", host)
    failure = context.run.failure(subject)
    if failure and subject in context.run.failed:
        yield Finding(subject, Level.WARNING, failure.message, failure.hint or rerun(subject))


def _unwell_hosts(context: CheckContext) -> Sequence[HostState]:
    """Return the states of hosts that are not well; cached while the folders of receipts and contacts do not change."""
    project = context.project
    remote = [delivery for delivery in context.plan.deliveries.values() if delivery.records.has_verified_services]
    if not remote:
        return []
    key = digest_of([delivery.host for delivery in remote], sorted((project.host_decisions.pins or {}).items()))
    folders = [str(project.store.receipt("x").parent), str(project.store.contact("x").parent)]
    states = project.cache.cached(
        "unwell hosts",
        key,
        folders,
        lambda: [state for delivery in remote if not (state := _state(delivery.payloads)).is_well],
    )
    return [HostState(*row) for row in states]


def _state(payloads: HostPayloads) -> HostState:
    """Return what receipt, contact and pin of a host record."""
    receipt, contact = payloads.records.receipt, payloads.records.contact
    verifications = receipt.verification if receipt else {}
    not_verified = {service: item for service, item in (verifications or {}).items() if not item.is_verified}
    pin = payloads.recorded_pin()
    return HostState(
        host=payloads.records.host,
        failing_since=contact.failing_since,
        message=contact.message,
        first_expiry=receipt.first_expiry if receipt else "",
        not_verified=as_json(not_verified),
        pinned_since=instant(pin.since) if pin and pin.release else "",
        drift=[item.as_json() for item in contact.drift],
        writable=[item.as_json() for item in contact.writable],
        refusal=contact.refusal.as_json() if contact.refusal else None,
    )


def _drift(context: CheckContext) -> Iterator[Finding]:
    """Report managed files that were changed on a host and restored by this run; for folders, also the other changes.

    The changes on a remote host that are not restored are in its HostState.
    """
    for name, delivery in context.plan.deliveries.items():
        subject, restored = ArtifactId("deploy", name), list[Reason]()
        if context.run.at and subject in context.run.changed:
            restored = list(delivery.records.repaired_drift(context.run.at))
        if restored:
            text = f"was changed on the host; restored: {_first_changes(restored)}"
            yield Finding(ArtifactId("drift", name), Level.NOTICE, text, CHANGE_BELONGS, is_over=True)
        elif context.thorough and not delivery.records.is_contacted and (drift := delivery.records.drift):
            yield Finding(ArtifactId("drift", name), Level.NOTICE, f"was changed: {_first_changes(drift)}", REPAIR)


def _first_changes(drift: Sequence[Reason]) -> str:
    """Return the first changes as text, and how many more there are."""
    more = [f"{len(drift) - CHANGES_NAMED} more"] if len(drift) > CHANGES_NAMED else []
    return joined([*drift[:CHANGES_NAMED], *more])
