"""The state of every authority, leaf, CRL and host: one row each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates, crl_size, renewal
from pki.ceremony.online import needs
from pki.common import filesystem
from pki.common.durations import in_brief
from pki.common.errors import RETRIED, of_any
from pki.common.reasons import Reason, Why, joined
from pki.common.remedies import RESTORE
from pki.common.visible import shorten
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.config.model import Leaf
from pki.deploy import receipt
from pki.deploy.delivery import Delivery
from pki.monitor import external_cas, probes, revocation_exposure, unverified_upstreams
from pki.monitor.checks.check_context import LastRun
from pki.pipeline.artifact import Artifact
from pki.pipeline.plan import Plan
from pki.project.project import Project
from pki.x509 import canonical

WIDEST = 120  # characters of a cell


@dataclass(frozen=True, slots=True)
class Row:
    """`state` is one of ok, due, waits, withheld, revoked, expired, missing, failing, unseen; `left` days as text; `next` what comes, `by` through whom."""

    name: str
    state: str
    left: str
    next: str
    by: str

    def cells(self) -> tuple[str, ...]:
        """What a table shows; all of a longer text is in `invoke health`."""
        return (self.name, self.state, self.left, shorten(self.next, WIDEST), self.by)


def rows(project: Project, plan: Plan) -> Iterator[Row]:
    """A row for everything that can end or drift, in the order in which doit makes it."""
    run = LastRun.load(project.store)
    return (_told(row, run) for row in _rows(project, plan))


def _told(row: Row, run: LastRun) -> Row:
    """A row that says also why the last run could not do what is due, where another one cannot either."""
    failure = run.failure(row.name)
    if failure is None or row.state == "ok" or row.by != "doit" or failure.code in RETRIED:
        return row
    return replace(row, state="failing", next=f"{row.next}; the last run failed: {failure.message}", by="a person")


def _rows(project: Project, plan: Plan) -> Iterator[Row]:
    artifacts = {artifact.id: artifact for artifact in plan.artifacts}
    for authority in AUTHORITIES:
        yield from _held(ArtifactId("authority", authority), partial(_authority_rows, project, authority))
    yield from _held("authority:adopted", partial(_adopted_rows, project))
    yield from _held("ceremony", partial(_needed_rows, project))
    yield from _held("crls", partial(_crl_rows, project, artifacts.values()))
    for leaf in plan.leaves.values():
        yield from _held(leaf.artifact, partial(_leaf_row, project, leaf))
    for name, artifact in artifacts.items():
        if name.kind == "deploy":
            delivery, made = plan.deliveries[name.name], artifacts[ArtifactId("release", name.name)]
            yield from _held(name, partial(_host_row, project, delivery, artifact, made))
    yield from _held("services", partial(_service_rows, project))


def _held(name: str, rows: Callable[[], Row | Iterable[Row]]) -> list[Row]:
    """Rows of one thing; where the look at it breaks, one that says so: the others are shown all the same."""
    try:
        found = rows()
        return [found] if isinstance(found, Row) else list(found)
    except Exception as error:  # noqa: BLE001 - a bug in one row must not hide the others
        told = of_any(error)
        return [Row(name, "missing", "", f"could not be looked at: {told.message}", "a person")]


def _crl_rows(project: Project, artifacts: Iterable[Artifact]) -> Iterator[Row]:
    sizes = {one.generation: one.complaint for one in crl_size.sizes(project)}
    for artifact in artifacts:
        if artifact.id.kind == "crl":
            size = sizes.get(artifact.id.name, "")
            yield from _held(artifact.name, partial(_crl_row, project, artifact, size))


def _authority_rows(project: Project, authority: str) -> Iterator[Row]:
    names = project.store.generations(authority)
    if not names and project.missing_roots:
        yield Row(ArtifactId("authority", authority), "missing", "", f"comes back with {RESTORE}", "you")
    elif not names:
        yield Row(ArtifactId("authority", authority), "missing", "", "a root ceremony", _ceremony(project))
    for name in names:
        found = project.generation(name)
        if found is None:
            continue
        end, usable = found.certificate.not_valid_after_utc, needs.signs_until(project, found)
        is_last = name == names[-1]
        if end < project.now:
            state, text = "expired", f"ended on {end:%Y-%m-%d}"
        elif project.is_revoked_by_root(found):
            state, text = "revoked", "is on its root's CRL"
        elif is_last:
            state = "due" if usable <= project.now else "ok"
            text = (
                f"usable until {usable:%Y-%m-%d}, then a ceremony by {needs.full_length_until(project, found):%Y-%m-%d}"
            )
        else:
            state, text = "ok", f"trusted until its end, issues nothing: {names[-1]} does"
        yield Row(ArtifactId("authority", name), state, _left(project, end), text, _ceremony(project))


def _adopted_rows(project: Project) -> Iterator[Row]:
    for name in project.inventory.authorities.adopted:
        end, text = external_cas.end_of(project, name), external_cas.summary(project, name)
        if end is None:
            yield Row(ArtifactId("authority", name), "missing", "", f"{text}; its folder is not as it should be", "you")
        else:
            yield Row(
                ArtifactId("authority", name),
                "expired" if end < project.now else "ok",
                _left(project, end),
                text,
                "you",
            )


def _needed_rows(project: Project) -> Iterator[Row]:
    """What a ceremony must bring to authorities that are there, by when."""
    for need in (one for one in needs.find_requirements(project) if project.store.generations(one.authority)):
        left = _left(project, need.by) if need.by > project.now else "0"
        yield Row(need.artifact, "due", left, need.why, _ceremony(project))


def _crl_row(project: Project, artifact: Artifact, size: str) -> Row:
    generation = artifact.id.name
    reasons = artifact.reasons()
    data = filesystem.read(project.store.crl(generation))
    crl = canonical.read_crl(data, Encoding.DER) if data else None
    end = crl.next_update_utc if crl is not None else None
    if end is None:
        return Row(artifact.name, "missing", "", joined(reasons), "doit")
    if GenerationName.parse(generation).is_root:
        return _series_row(project, artifact.name, generation, end, reasons)
    rule = project.crl_rule(generation)
    refresh = end - rule.lifetime + rule.refresh
    text = joined(reasons) or f"a new one on {refresh:%Y-%m-%d}"
    text = f"{text}; {size}" if size else text
    return Row(artifact.name, _state(project, end, reasons), _left(project, end), text, "doit")


def _series_row(project: Project, name: str, root: str, end: datetime, reasons: list[Reason]) -> Row:
    presigned_crls = [presigned_crl.crl for presigned_crl in project.presigned_crls(root)]
    later = [
        presigned_crl.last_update_utc for presigned_crl in presigned_crls if presigned_crl.last_update_utc > project.now
    ]
    last = max((presigned_crl.next_update_utc or end for presigned_crl in presigned_crls), default=end)
    text = joined(reasons) or (
        f"next pre-signed CRL on {min(later):%Y-%m-%d}, series of pre-signed CRLs ends on {last:%Y-%m-%d}"
        if later
        else f"the last pre-signed CRL; new ones by {end:%Y-%m-%d}"
    )
    return Row(name, _state(project, end, reasons), _left(project, end), text, "doit" if later else "ceremony")


def _leaf_row(project: Project, leaf: Leaf) -> Row:
    name, held = leaf.artifact, certificates.examine(project, leaf)
    if stopped := certificates.stopped_reasons(project, name):
        return Row(name, "withheld", "", joined(stopped), "a person")
    if isinstance(held, list):
        missing = held == [Why.NO_CERTIFICATE()]
        return Row(name, "missing" if missing else "due", "", joined(held), "doit")
    left = _left(project, held.not_after)
    if waits := certificates.blocked_by(project, leaf):
        return Row(name, "waits", left, str(waits), "ceremony")
    reasons = certificates.stale_reasons(project, leaf)
    if not reasons and (due := renewal.unsigned_reasons(project, leaf, held)):
        faults = project.key_faults().items()
        why = [error.message for name, error in faults if GenerationName.parse(name).authority == leaf.authority]
        text = joined([*due, *(f"cannot be renewed: {message}" for message in why)])
        return Row(name, "due", left, text, "a person")
    text = joined(reasons) or f"renewal from {held.not_after - leaf.renew_before:%Y-%m-%d}"
    text += "; revoked, as it should be" if leaf.is_revoked else ""
    return Row(name, _state(project, held.not_after, reasons), left, text, "doit")


def _host_row(project: Project, delivery: Delivery, deploy: Artifact, made: Artifact) -> Row:
    name = deploy.id.name
    reasons = [*made.reasons(), *deploy.reasons()]
    taken = receipt.load(project.store.receipt(name))
    if taken is None:
        return Row(deploy.name, "missing", "", joined(reasons), "doit")
    text = joined(reasons) or f"delivered {taken.delivered_at[:10]}, {len(taken.files)} files ({taken.transport})"
    text = "; ".join(
        [text, *revocation_exposure.phrases(project, delivery), *unverified_upstreams.phrases(project, name)]
    )
    if state := delivery.state(project.now) if delivery.is_remote else "":
        text = f"{state}; {text}"
    left = _left(project, receipt.moment(taken.ends)) if taken.ends else ""
    is_failing = delivery.is_remote and delivery.contact.failing_since
    return Row(deploy.name, "failing" if is_failing else "due" if reasons else "ok", left, text, "doit")


def _service_rows(project: Project) -> Iterator[Row]:
    """What the last look saw of each service that is looked at, and when; opens no connection."""
    seen = {one.subject: one for one in probes.load(project)}
    for name, host in project.inventory.hosts.items():
        for service in host.services if host.is_probed else ():
            subject = probes.service_id(name, service)
            one = seen.get(subject)
            if one is None or one.at is None:
                yield Row(subject, "unseen", "", "was not looked at yet", "doit")
                continue
            left = _left(project, one.not_after) if one.not_after else ""
            well = "answers as deployed" if one.is_compared else "answers, and was not compared with what was deployed"
            text = f"{one.phrase or well}, seen {one.at:%Y-%m-%d %H:%M}"
            yield Row(subject, "failing" if one.wrong else "ok", left, text, "a person" if one.wrong else "doit")


def _state(project: Project, end: datetime, reasons: list[Reason]) -> str:
    return "expired" if end <= project.now else "due" if reasons else "ok"


def _left(project: Project, end: datetime) -> str:
    return in_brief(end - project.now)


def _ceremony(project: Project) -> str:
    return "doit (sandbox)" if project.inventory.sandbox else "owner, witness"
