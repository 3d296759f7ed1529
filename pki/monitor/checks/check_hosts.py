"""Health of hosts: which one does not answer, is pinned, is not verified, or was changed on the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from pki.common.cache import digest_of
from pki.common.errors import RETRIED
from pki.common.reasons import Reason, joined
from pki.config.identifiers import ArtifactId
from pki.deploy.delivery import Delivery
from pki.deploy.drift import permission_remedy
from pki.deploy.drift import reasons_from_json as drifted
from pki.deploy.receipt import instant, moment
from pki.deploy.verification import Verdict, Verification, as_json
from pki.monitor import pending_bootstraps, waiting_roots
from pki.monitor.check_result import Finding, Level, by_time_left, named, rerun
from pki.monitor.checks import shared_causes
from pki.monitor.checks.check_context import View
from pki.monitor.forecast import PINNED

DAY = timedelta(days=1)
CRITICAL = 7 * DAY
MOST = 4  # changed files that one finding names
CHANGE_BELONGS = "make the change in pki.yaml or templates/ (docs/managed-files.md)"
REPAIR = f"./run doit puts it right; {CHANGE_BELONGS}"


class State(NamedTuple):
    """What receipt, contact and history say of a host that is not simply well; instants as text.

    `drift` is what a look found changed there and nothing repaired since, `writable` the folders that others can write,
    `refusal` the reason for which it refused what was delivered.
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


def hosts(view: View) -> Iterator[Finding]:
    """Every host answers, follows its releases and is verified; what somebody changed there is said once."""
    troubled = set[str]()
    for state in _states(view):
        troubled.add(state.host)
        yield from _remote(view, state)
    for name in view.run.failed.keys() | view.run.unmet.keys():
        kind, host = ArtifactId.parse(name).kind, ArtifactId.parse(name).name
        if kind == "deploy" and host not in troubled and host in view.plan.deliveries:
            troubled.add(host)
            yield from _failed(view, host)
    yield from _drifted(view)
    for note in (*waiting_roots.notes(view.project, view.plan), *pending_bootstraps.notes(view.project, view.plan)):
        yield Finding(note.subject, Level.WARNING, note.text, note.remedy)
    new = [name for name in view.plan.deliveries if name not in troubled and _is_new(view, name)]
    if new:
        text = f"never delivered to: {named(new)}; the next run does it"
        yield Finding("hosts", Level.NOTICE, text, "./run doit")
    yield from _counted(view, len(view.plan.deliveries) - len(troubled) - len(new))


def _counted(view: View, there: int) -> Iterator[Finding]:
    """How many hosts hold what pki.yaml says, of how many; and which get nothing."""
    hosts, deliveries = view.project.inventory.hosts, view.plan.deliveries
    apart = [name for name in hosts if name not in deliveries]
    expected = len(hosts.keys() | deliveries.keys())
    if there:
        of = f" of {expected}" if there < expected else ""
        rest = f"; nothing is delivered to {named(apart)}" if apart else ""
        yield Finding("hosts", Level.OK, f"{there}{of} as pki.yaml says{rest}")


def _remote(view: View, state: State) -> Iterator[Finding]:
    if state.failing_since:
        yield _failing(view, state)
    drift, writable = drifted(state.drift), drifted(state.writable)
    if drift or writable:
        told = (f"was changed: {_listed(drift)}" if drift else "", _listed(writable))
        fix = permission_remedy(writable, state.host) if writable else REPAIR
        yield Finding(ArtifactId("drift", state.host), Level.WARNING, "; ".join(filter(None, told)), fix)
    if state.pinned_since:
        remedy = f"./run invoke deploy.push {state.host}"
        yield Finding(ArtifactId("pinned", state.host), Level.NOTICE, PINNED, remedy, since=moment(state.pinned_since))
    seen = {one.service: one for one in view.probes if one.host == state.host}  # as it is now, whatever a delivery saw
    not_verified = [(name, Verification.from_json(one)) for name, one in state.not_verified.items()]
    faulty = {name for name, one in seen.items() if one.wrong}  # which is told as such
    not_verified = [one for one in not_verified if one[0] not in faulty]
    if not_verified := [one for one in not_verified if one[1].verdict is not Verdict.UNREACHED or one[0] not in seen]:
        remedy = f"./run invoke deploy.push {state.host}, with the way to it open"
        yield Finding(
            ArtifactId("verification", state.host),
            Level.NOTICE,
            "; ".join(f"{name} {one}" for name, one in not_verified),
            remedy,
        )


def _failing(view: View, state: State) -> Finding:
    """A host whose delivery fails, with the services that answer nobody for the same reason."""
    subject = ArtifactId("deploy", state.host)
    failure, until = view.run.failure(subject), moment(state.ends) if state.ends else None
    level = max(Level.WARNING, by_time_left(until - view.now, CRITICAL, CRITICAL) if until else Level.WARNING)
    text = failure.message if failure else f"could not be brought up to date: {state.message}"
    if silent := shared_causes.told(view, state.host):
        text = f"{text}; {named([one.service for one in silent])} {silent[0].wrong}"
    what: Reason | str = text
    if state.refusal and (failure is None or subject in view.run.failed):
        what = replace(refusal := Reason.from_json(state.refusal), data=(*refusal.data, ("why", text)))
    remedy = (failure.hint if failure else "") or f"./run invoke deploy.run {state.host}"
    if failure and failure.code in RETRIED:
        remedy = f"look at the host, then: ./run invoke deploy.run {state.host} --dry-run"
    return Finding(subject, level, what, remedy, since=moment(state.failing_since), until=until)


def failing_services(view: View) -> Iterator[Finding]:
    """The failed deliveries that tell of services."""
    hosts = {one.host for one in view.probes if one.wrong and shared_causes.is_told(view, one)}
    yield from (_failing(view, state) for state in _states(view) if state.host in hosts)


def _is_new(view: View, host: str) -> bool:
    """Whether a host has taken nothing yet; after a run it has, or has failed."""
    return view.thorough and not view.project.store.receipt(host).exists()


def _failed(view: View, host: str) -> Iterator[Finding]:
    """A host that failed without a contact: a release that is not there, a folder that cannot be written."""
    failure = view.run.failure(ArtifactId("deploy", host))
    if failure and ArtifactId("deploy", host) in view.run.failed:
        yield Finding(
            ArtifactId("deploy", host),
            Level.WARNING,
            failure.message,
            failure.hint or rerun(ArtifactId("deploy", host)),
        )


def _states(view: View) -> Sequence[State]:
    """The hosts that are not simply well. Whenever a receipt or a contact is written, its folder changes too."""
    project = view.project
    remote = [one for one in view.plan.deliveries.values() if one.is_remote]
    if not remote:
        return []
    known = digest_of([one.host for one in remote], sorted((project.pins or {}).items()))
    found = project.cache.recall("unwell hosts", known)
    if found is None:
        found = [state for one in remote if any((state := _state(one))[i] for i in (1, 4, 5, 6, 7))]
        folders = [str(project.store.receipt("x").parent), str(project.store.contact("x").parent)]
        project.cache.remember("unwell hosts", known, folders, found)
    return [State(*one) for one in found]


def _state(delivery: Delivery) -> State:
    receipt, contact = delivery.receipt, delivery.contact
    verifications = {
        name: one for name, one in ((receipt and receipt.verification) or {}).items() if not one.is_verified
    }
    return State(
        host=delivery.host,
        failing_since=contact.failing_since,
        message=contact.message,
        ends=receipt.ends if receipt else "",
        not_verified=as_json(verifications),
        pinned_since=instant(pin.since) if (pin := delivery.pinned()) and pin.release else "",
        drift=[one.as_json() for one in contact.drift],
        writable=[one.as_json() for one in contact.writable],
        refusal=contact.refusal.as_json() if contact.refusal else None,
    )


def _drifted(view: View) -> Iterator[Finding]:
    """Return the drift that this run found and repaired; of folder hosts also the drift that the next run will repair."""
    for name, delivery in view.plan.deliveries.items():
        subject = ArtifactId("deploy", name)
        if subject in view.run.made and view.run.at and (drift := delivery.repaired_drift(view.run.at)):
            text = f"was changed on the host; restored: {_listed(drift)}"
            yield Finding(ArtifactId("drift", name), Level.NOTICE, text, CHANGE_BELONGS, passing=True)
        elif view.thorough and not delivery.is_remote and (drift := delivery.drift):
            yield Finding(ArtifactId("drift", name), Level.NOTICE, f"was changed: {_listed(drift)}", REPAIR)


def _listed(drift: Sequence[Reason]) -> str:
    """What was changed, as much of it as can be taken in at a glance."""
    return joined([*drift[:MOST], *([f"{len(drift) - MOST} more"] if len(drift) > MOST else [])])
