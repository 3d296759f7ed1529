"""Checks of hosts: unreachable, failing, pinned, not verified, or changed by others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from pki.common.cache import digest_of
from pki.common.errors import RETRIED
from pki.common.reasons import Reason, joined
from pki.common.timestamps import instant, moment
from pki.config.identifiers import ArtifactId
from pki.deploy.drift import permission_remedy
from pki.deploy.drift import reasons_from_json as drifted
from pki.deploy.host_payloads import HostPayloads
from pki.deploy.verification import Verdict, Verification, as_json
from pki.monitor import pending_bootstraps, waiting_roots
from pki.monitor.check_result import Finding, Level, join_names, level_by_time_left, rerun
from pki.monitor.checks import shared_causes
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.forecast import PINNED

DAY = timedelta(days=1)
CRITICAL = 7 * DAY
CHANGES_NAMED = 4  # changed files that one finding lists
CHANGE_BELONGS = "make the change in pki.yaml or templates/ (docs/reference/managed-files.md)"
REPAIR = f"./run doit restores it; {CHANGE_BELONGS}"


class HostState(NamedTuple):
    """What receipt, contact and pin record about a host; times as text, "" for none.

    `ends` is when the first certificate or CRL on it expires, `drift` what was changed there and not restored since,
    `writable` the folders that others can write, `refusal` why the host refused the release.
    """

    host: str
    failing_since: str
    message: str
    ends: str
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
    troubled: dict[str, str] = {}  # host → the subject of the finding that gives the reason
    for state in _states(context):
        for finding in _remote_findings(context, state):
            troubled.setdefault(state.host, finding.subject)
            yield finding
    for name in context.run.failed.keys() | context.run.blocked.keys():
        kind, host = ArtifactId.parse(name).kind, ArtifactId.parse(name).name
        if kind == "deploy" and host not in troubled and host in context.plan.deliveries:
            troubled[host] = context.run.blocked.get(name, name)
            yield from _failed(context, host)
    yield from _drifted(context)
    for note in (
        *waiting_roots.notes(context.project.store, context.project.cache, context.plan),
        *pending_bootstraps.notes(context.project, context.plan),
    ):
        yield Finding(note.subject, Level.WARNING, note.text, note.remedy)
    new_hosts = [name for name in context.plan.deliveries if name not in troubled and _is_new(context, name)]
    yield from _counted(context, troubled, new_hosts)


def _counted(context: CheckContext, troubled: Mapping[str, str], new_hosts: Sequence[str]) -> Iterator[Finding]:
    """Report how many hosts have what pki.yaml declares, and why the others do not have it.

    `troubled` maps a host to the subject of the finding that gives the reason. After a run, a host that is not as declared
    has been reported already, so only a thorough check counts such hosts again.
    """
    hosts, deliveries = context.project.inventory.hosts, context.plan.deliveries
    excluded = [name for name in hosts if name not in deliveries]
    expected = len(hosts.keys() | deliveries.keys())
    count = len(deliveries) - len(troubled) - len(new_hosts)
    parts = [f"{count}{f' of {expected}' if count < expected else ''} deployed as declared in pki.yaml"]
    if new_hosts:
        parts.append(f"not deployed yet: {join_names(new_hosts)}")
    if troubled:
        reasons = join_names([f"{host} (see {subject})" for host, subject in troubled.items()])
        parts.append(f"not as declared: {reasons}")
    if excluded:
        parts.append(f"no deployments to {join_names(excluded)}")
    if not troubled and not new_hosts:
        yield from [Finding("hosts", Level.OK, "; ".join(parts))] if count else []
    elif context.thorough:
        remedy = "solve the findings that are named, then: ./run doit" if troubled else "./run doit"
        yield Finding("hosts", Level.NOTICE, "; ".join(parts), remedy)


def _remote_findings(context: CheckContext, state: HostState) -> Iterator[Finding]:
    """Report everything about one remote host that is not well."""
    if state.failing_since:
        yield _failing(context, state)
    drift, writable = drifted(state.drift), drifted(state.writable)
    if drift or writable:
        texts = (f"was changed: {_listed(drift)}" if drift else "", _listed(writable))
        fix = permission_remedy(writable, state.host) if writable else REPAIR
        yield Finding(ArtifactId("drift", state.host), Level.WARNING, "; ".join(filter(None, texts)), fix)
    if state.pinned_since:
        remedy = f"./run invoke deploy.push {state.host}"
        yield Finding(ArtifactId("pinned", state.host), Level.NOTICE, PINNED, remedy, since=moment(state.pinned_since))
    # the last probe is newer than what the deployment saw
    probes = {probe.service: probe for probe in context.probes if probe.host == state.host}
    not_verified = [(name, Verification.from_json(item)) for name, item in state.not_verified.items()]
    reported = {name for name, probe in probes.items() if probe.wrong}  # check_services reports them
    not_verified = [item for item in not_verified if item[0] not in reported]
    if not_verified := [
        item for item in not_verified if item[1].verdict is not Verdict.UNREACHED or item[0] not in probes
    ]:
        remedy = f"make its services reachable from here, then: ./run invoke deploy.push {state.host}"
        yield Finding(
            ArtifactId("verification", state.host),
            Level.NOTICE,
            "; ".join(f"{name} {item}" for name, item in not_verified),
            remedy,
        )


def _failing(context: CheckContext, state: HostState) -> Finding:
    """Report a host whose deployments fail, with the services that fail for the same reason."""
    subject = ArtifactId("deploy", state.host)
    failure, until = context.run.failure(subject), moment(state.ends) if state.ends else None
    level = max(Level.WARNING, level_by_time_left(until - context.now, CRITICAL, CRITICAL) if until else Level.WARNING)
    text = failure.message if failure else f"deployment failed: {state.message}"
    if silent := shared_causes.services_explained_by_delivery(context, state.host):
        text = f"{text}; {join_names([probe.service for probe in silent])} {silent[0].wrong}"
    what: Reason | str = text
    if state.refusal and (failure is None or subject in context.run.failed):
        what = replace(refusal := Reason.from_json(state.refusal), data=(*refusal.data, ("why", text)))
    remedy = (failure.hint if failure else "") or f"./run invoke deploy.run {state.host}"
    if failure and failure.code in RETRIED:
        remedy = f"check the host, then: ./run invoke deploy.run {state.host} --dry-run"
    return Finding(subject, level, what, remedy, since=moment(state.failing_since), until=until)


def failed_deliveries_with_services(context: CheckContext) -> Iterator[Finding]:
    """Report the failed deployments that explain why services do not answer."""
    hosts = {
        probe.host for probe in context.probes if probe.wrong and shared_causes.is_explained_by_delivery(context, probe)
    }
    yield from (_failing(context, state) for state in _states(context) if state.host in hosts)


def _is_new(context: CheckContext, host: str) -> bool:
    """Return whether a host was never deployed. Only a thorough check asks: after a run, every host was deployed or failed."""
    return context.thorough and not context.project.store.receipt(host).exists()


def _failed(context: CheckContext, host: str) -> Iterator[Finding]:
    """Report a host that failed before it was contacted: no release, or a folder that cannot be written."""
    failure = context.run.failure(ArtifactId("deploy", host))
    if failure and ArtifactId("deploy", host) in context.run.failed:
        yield Finding(
            ArtifactId("deploy", host),
            Level.WARNING,
            failure.message,
            failure.hint or rerun(ArtifactId("deploy", host)),
        )


def _states(context: CheckContext) -> Sequence[HostState]:
    """Return the states of hosts that are not well; cached until a receipt or contact changes, with its folder."""
    project = context.project
    remote = [delivery for delivery in context.plan.deliveries.values() if delivery.records.is_remote]
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
    verifications = {
        name: item for name, item in ((receipt and receipt.verification) or {}).items() if not item.is_verified
    }
    return HostState(
        host=payloads.records.host,
        failing_since=contact.failing_since,
        message=contact.message,
        ends=receipt.first_expiry if receipt else "",
        not_verified=as_json(verifications),
        pinned_since=instant(pin.since) if (pin := payloads.pinned()) and pin.release else "",
        drift=[item.as_json() for item in contact.drift],
        writable=[item.as_json() for item in contact.writable],
        refusal=contact.refusal.as_json() if contact.refusal else None,
    )


def _drifted(context: CheckContext) -> Iterator[Finding]:
    """Report managed files that were changed on a host; for folders, also what the next run will restore."""
    for name, delivery in context.plan.deliveries.items():
        subject = ArtifactId("deploy", name)
        if (
            subject in context.run.changed
            and context.run.at
            and (drift := delivery.records.repaired_drift(context.run.at))
        ):
            text = f"was changed on the host; restored: {_listed(drift)}"
            yield Finding(ArtifactId("drift", name), Level.NOTICE, text, CHANGE_BELONGS, is_over=True)
        elif context.thorough and not delivery.records.is_remote and (drift := delivery.records.drift):
            yield Finding(ArtifactId("drift", name), Level.NOTICE, f"was changed: {_listed(drift)}", REPAIR)


def _listed(drift: Sequence[Reason]) -> str:
    """Return the first changes as text, and how many more there are."""
    return joined(
        [*drift[:CHANGES_NAMED], *([f"{len(drift) - CHANGES_NAMED} more"] if len(drift) > CHANGES_NAMED else [])]
    )
