"""The table of `invoke status`: one row for each authority, leaf, CRL, host and service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority import certificates, crl_size, leaf_files, renewal
from pki.ceremony.online import needs
from pki.common import filesystem, timestamps
from pki.common.durations import in_brief
from pki.common.errors import RETRIED, as_pki_error
from pki.common.reasons import Reason, Why, joined
from pki.common.remedies import RESTORE
from pki.common.visible import shorten
from pki.config.identifiers import ALL_AUTHORITIES, ArtifactId, GenerationName
from pki.config.model import Leaf
from pki.deploy import receipt
from pki.deploy.delivery import Delivery
from pki.monitor import adopted_cas, probes, revocation_exposure, unverified_upstreams
from pki.monitor.checks import check_authorities
from pki.monitor.checks.check_context import LastRun
from pki.monitor.external_authorities import ExternalAuthorities
from pki.monitor.probes import ProbeResult
from pki.monitor.unseen_services import unseen_services
from pki.pipeline.artifact import Artifact
from pki.pipeline.plan import Plan
from pki.project.authorities import own_authorities
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509 import canonical

CELL_WIDTH = 120  # characters


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: name, state, time left, next event, and who acts.

    `state` is ok, due, blocked, stopped (replacement stopped), revoked, expired, missing, failing or unknown; `left` is
    the time left as text, `next` what happens next, `by` who does it: doit, you, a ceremony, or doit and then a ceremony.
    `has_fault` means that `next` names a fault, such as one in a template, with which every run fails.
    """

    name: str
    state: str
    left: str
    next: str
    by: str
    has_fault: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the cells for the terminal; `invoke health` shows the full text of a shortened one."""
        return (self.name, self.state, self.left, shorten(self.next, CELL_WIDTH), self.by)


@dataclass(frozen=True, slots=True)
class StatusTable:
    """The rows of `invoke status`: authorities, CRLs, leaves and hosts."""

    project: Project

    def rows(self, plan: Plan) -> Iterator[TableRow]:
        """Yield a row for everything that expires or drifts, in the order in which doit makes it."""
        run = LastRun.load(self.project.store)
        check_authorities.decrypt_keys(self.project, thorough=False)
        return (_with_failure(row, run) for row in self._all_rows(plan))

    def _all_rows(self, plan: Plan) -> Iterator[TableRow]:
        artifacts = {artifact.id: artifact for artifact in plan.artifacts}
        is_declared = self.project.inventory.authorities.peer is not None
        for authority in ALL_AUTHORITIES if is_declared else own_authorities(self.project.authorities):
            yield from _guarded(ArtifactId("authority", authority), partial(self._authority_rows, authority))
        yield from _guarded("authority:external", self._external_rows)
        yield from _guarded("authority:adopted", self._adopted_rows)
        yield from _guarded("ceremony", self._requirement_rows)
        yield from _guarded("crls", partial(self._crl_rows, artifacts.values()))
        for leaf in plan.leaves.values():
            yield from _guarded(leaf.artifact, partial(self._leaf_row, leaf))
        for name, artifact in artifacts.items():
            if name.kind == "deploy":
                delivery, release = plan.deliveries[name.name], artifacts[ArtifactId("release", name.name)]
                yield from _guarded(name, partial(self._host_row, delivery, artifact, release))
        yield from _guarded("services", self._service_rows)

    def _authority_rows(self, authority: str) -> Iterator[TableRow]:
        names = self.project.store.generations(authority)
        if not names and self.project.roots.missing:
            yield TableRow(ArtifactId("authority", authority), "missing", "", f"restore it with {RESTORE}", "you")
        elif not names:
            yield TableRow(ArtifactId("authority", authority), "missing", "", "needs a root ceremony", self._ceremony())
        for generation in filter(None, map(self.project.authorities.generation, names)):
            yield self._generation_row(generation, newest=names[-1])

    def _generation_row(self, generation: Generation, newest: str) -> TableRow:
        """Return the row of one generation of our own; `newest` is the newest of its authority, which signs."""
        artifact, end = ArtifactId("authority", generation.name), generation.not_after
        if end < self.project.now:
            state, text = "expired", f"expired on {end:%Y-%m-%d}"
        elif self.project.authorities.is_revoked_by_root(generation):
            state, text = "revoked", "its root's CRL lists it"
        elif fault := self.project.signing_keys.cached_faults.get(generation.name):
            text = "; ".join(filter(None, [f"cannot sign: {fault.message}", fault.hint]))
            return TableRow(artifact, "blocked", self._left(end), text, "you")
        elif generation.name == newest:
            requested_on = needs.signing_period_end(self.project.authorities, generation)
            latest = needs.full_lifetime_end(self.project.authorities, generation)
            state = "due" if requested_on <= self.project.now else "ok"
            text = f"a successor is requested on {requested_on:%Y-%m-%d}, and must exist by {latest:%Y-%m-%d}"
        else:
            state, text = "ok", f"trusted until it expires; {newest} has replaced it"
        return TableRow(artifact, state, self._left(end), text, self._ceremony())

    def _leaf_row(self, leaf: Leaf) -> TableRow:
        name, examination = leaf.artifact, certificates.LeafCertificates(self.project).examine(leaf)
        summary = examination.summary
        if reasons_for_stop := leaf_files.stopped_reasons(self.project.revocations, name):
            return TableRow(name, "stopped", "", joined(reasons_for_stop), "you")
        if summary is None:
            is_missing = examination.differences == [Why.NOT_CREATED()]
            return TableRow(name, "missing" if is_missing else "due", "", joined(examination.differences), "doit")
        left = self._left(summary.not_after)
        if blocker := certificates.LeafCertificates(self.project).no_gain_reason(leaf):
            return TableRow(name, "blocked", left, str(blocker), "ceremony")
        reasons = certificates.LeafCertificates(self.project).stale_reasons(leaf)
        postponed = list[Reason]()
        if not reasons:
            postponed = renewal.postponed_reasons(
                self.project.now, self.project.authorities, self.project.signing_keys, leaf, summary
            )
        if postponed:  # the renewal waits for a key that cannot be used
            faults = self.project.signing_keys.cached_faults.items()
            why = [error.message for name, error in faults if GenerationName.parse(name).authority == leaf.authority]
            text = joined([*postponed, *(f"cannot be renewed: {message}" for message in why)])
            return TableRow(name, "due", left, text, "you")
        text = joined(reasons) or f"renewed from {leaf.renewal_start(summary.not_after):%Y-%m-%d} on"
        text += "; revoked on purpose" if leaf.is_canary else ""
        row = TableRow(name, self._state(summary.not_after, reasons), left, text, "doit")
        issuer = self.project.authorities.issuing(leaf.authority)
        return self._with_key_fault(row, issuer.name) if issuer else row

    def _host_row(self, delivery: Delivery, deploy: Artifact, release: Artifact) -> TableRow:
        name = deploy.id.name
        reasons = [*release.reasons(), *deploy.reasons()]
        last_receipt = receipt.load(self.project.store.receipt(name))
        if last_receipt is None:
            return TableRow(deploy.id, "missing", "", joined(reasons), "doit")
        text = (
            joined(reasons)
            or f"nothing until a file changes; last deployed on {last_receipt.delivered_at[:10]} {_transport_text(last_receipt.transport)}"
        )
        text = "; ".join(
            [
                text,
                *revocation_exposure.phrases(
                    self.project.inventory,
                    self.project.now,
                    self.project.ledger_view,
                    self.project.revocations,
                    delivery,
                ),
                *unverified_upstreams.phrases(self.project.inventory, name),
            ]
        )
        if delivery_state := delivery.state(self.project.now) if delivery.records.has_verified_services else "":
            text = f"{delivery_state}; {text}"
        left = self._left(timestamps.moment(last_receipt.first_expiry)) if last_receipt.first_expiry else ""
        is_failing = delivery.records.has_verified_services and delivery.records.contact.failing_since
        state = "failing" if is_failing else "due" if reasons else "ok"
        has_fault = any(reason.code is Why.STATED for reason in reasons)
        return TableRow(deploy.id, state, left, text, "doit", has_fault)

    def _crl_rows(self, artifacts: Iterable[Artifact]) -> Iterator[TableRow]:
        sizes = {
            crl.generation: crl.complaint
            for crl in crl_size.sizes(self.project.inventory, self.project.store, self.project.authorities)
        }
        for artifact in artifacts:
            if artifact.id.kind == "crl":
                size = sizes.get(artifact.id.name, "")
                yield from _guarded(artifact.id, partial(self._crl_row, artifact, size))

    def _external_rows(self) -> Iterator[TableRow]:
        """Yield a row for each generation of an external authority, and for each that has none yet."""
        authorities = self.project.authorities
        existing_authorities = self.project.store.external_authorities()
        for name in self.project.inventory.authorities.externals:
            if name not in existing_authorities:
                text = ExternalAuthorities(self.project).next_step(name)
                waits = "needs a root ceremony" if authorities.has_new_request(name) else text
                yield TableRow(ArtifactId("authority", name), "missing", "", waits, "you")
        for generation_name in (
            generation for name in existing_authorities for generation in authorities.generations(name)
        ):
            generation = authorities.existing(generation_name)
            state, text = ExternalAuthorities(self.project).state(generation)
            yield TableRow(
                ArtifactId("authority", generation_name), state, self._left(generation.not_after), text, "you"
            )

    def _adopted_rows(self) -> Iterator[TableRow]:
        for name in self.project.inventory.authorities.adopted:
            end = adopted_cas.expiry_of(self.project.authorities, name)
            text = adopted_cas.summary(self.project.now, self.project.ledger_view, name)
            if end is None:
                yield TableRow(ArtifactId("authority", name), "missing", "", f"{text}; its folder is invalid", "you")
            else:
                yield TableRow(
                    ArtifactId("authority", name),
                    "expired" if end < self.project.now else "ok",
                    self._left(end),
                    text,
                    "you",
                )

    def _requirement_rows(self) -> Iterator[TableRow]:
        """Yield what existing authorities need from a ceremony, and by when."""
        for requirement in needs.find_requirements(self.project.authorities):
            if not self.project.store.generations(requirement.authority):
                continue  # _authority_rows shows that the authority is missing
            left = self._left(requirement.by) if requirement.by > self.project.now else "0"
            yield TableRow(requirement.artifact, "due", left, requirement.why, self._ceremony())

    def _crl_row(self, artifact: Artifact, size: str) -> TableRow:
        generation = artifact.id.name
        reasons = artifact.reasons()
        data = filesystem.read(self.project.store.crl(generation))
        crl = canonical.read_crl(data, Encoding.DER) if data else None
        end = crl.next_update_utc if crl is not None else None
        if end is None:
            return TableRow(artifact.id, "missing", "", joined(reasons), "doit")
        if GenerationName.parse(generation).is_root:
            return self._series_row(artifact.id, generation, end, reasons)
        rule = self.project.inventory.authorities.crl_rule(generation)
        refresh = end - rule.lifetime + rule.refresh
        is_due = refresh <= self.project.now  # while its key cannot be used, a CRL that is due has no reasons
        text = joined(reasons) or f"next CRL {'was due ' if is_due else ''}on {refresh:%Y-%m-%d}"
        state = "expired" if end <= self.project.now else "due" if reasons or is_due else "ok"
        row = TableRow(artifact.id, state, self._left(end), text, "doit")
        row = self._with_key_fault(row, generation)
        return replace(row, next=f"{row.next}; {size}") if size else row

    def _with_key_fault(self, row: TableRow, generation: str) -> TableRow:
        """Add to a row that it waits for its authority, if the key of the authority cannot be used. A due row is blocked."""
        if generation not in self.project.signing_keys.cached_faults:
            return row
        authority = ArtifactId("authority", generation)
        if row.state == "ok":
            return replace(row, next=f"{row.next}, if {authority} can sign by then")
        state = "blocked" if row.state == "due" else row.state
        return replace(row, state=state, next=f"{row.next}; waits for {authority}", by="you")

    def _series_row(self, name: str, root: str, end: datetime, reasons: list[Reason]) -> TableRow:
        presigned_crls = [presigned_crl.crl for presigned_crl in self.project.authorities.presigned_crls(root)]
        later_starts = [
            presigned_crl.last_update_utc
            for presigned_crl in presigned_crls
            if presigned_crl.last_update_utc > self.project.now
        ]
        last_expiry = max((presigned_crl.next_update_utc or end for presigned_crl in presigned_crls), default=end)
        by = self._ceremony()
        signs = "doit signs more" if by == "doit" else "a ceremony must sign more"
        if later_starts:
            forecast = f"next pre-signed CRL on {min(later_starts):%Y-%m-%d}; {signs} before {last_expiry:%Y-%m-%d}"
        else:
            forecast = f"this is the last pre-signed CRL; {signs} before {end:%Y-%m-%d}"
        if later_starts and by == "ceremony":
            by = "doit, then a ceremony"
        return TableRow(name, self._state(end, reasons), self._left(end), joined(reasons) or forecast, by)

    def _service_rows(self) -> Iterator[TableRow]:
        """Yield the cached probe result of each probed service, with its time; open no connection."""
        results = {result.subject: result for result in probes.load(self.project.inventory, self.project.store)}
        for name, host in self.project.inventory.hosts.items():
            for service in filter(host.probes, host.services):
                subject = probes.service_id(name, service)
                result = results.get(subject)
                if result is None or result.at is None:
                    yield TableRow(subject, "unknown", "", "not probed yet", "doit")
                    continue
                yield self._service_row(result, result.at)
        for result in unseen_services(self.project.inventory):
            yield TableRow(result.subject, "unknown", "", f"not verifiable from here: {result.unverifiable}", "you")

    def _service_row(self, result: ProbeResult, at: datetime) -> TableRow:
        text = "serves what was deployed" if result.is_compared else "answers; not compared with what was deployed"
        if result.unverifiable:
            text = f"{text}; {result.open_question}" if result.fingerprint else result.open_question
        if result.wrong:
            text = result.phrase
        state = "failing" if result.wrong else "unknown" if result.unverifiable else "ok"
        left = self._left(result.not_after) if result.not_after else ""
        by = "doit" if state == "ok" else "you"
        return TableRow(result.subject, state, left, f"{text}, probed {at:%Y-%m-%d %H:%M}", by)

    def _state(self, end: datetime, reasons: list[Reason]) -> str:
        return "expired" if end <= self.project.now else "due" if reasons else "ok"

    def _left(self, end: datetime) -> str:
        return in_brief(end - self.project.now)

    def _ceremony(self) -> str:
        return "doit" if self.project.inventory.sandbox else "ceremony"


def _with_failure(row: TableRow, run: LastRun) -> TableRow:
    """Add why the last run failed to a row that is due, unless the next run retries it anyway."""
    failure, is_due = run.failure(row.name), row.state != "ok" and row.by == "doit"
    if failure is None or not is_due or failure.code in RETRIED:
        return row
    reasons = "" if row.has_fault else f"{row.next}; "  # else the fault would be named twice
    return replace(row, state="failing", next=f"{reasons}the last run failed: {failure.message}", by="you")


def _guarded(name: str, rows: Callable[[], TableRow | Iterable[TableRow]]) -> list[TableRow]:
    """Return the rows of one subject. If computing them fails, return one row with the error, so that other rows are shown."""
    try:
        result = rows()
        return [result] if isinstance(result, TableRow) else list(result)
    except Exception as error:  # noqa: BLE001 - a bug in one row must not hide the others
        fault = as_pki_error(error)
        return [TableRow(name, "missing", "", f"could not be checked: {fault.message}", "you")]


def _transport_text(transport: str) -> str:
    return "into a folder" if transport == "folder" else f"by {transport}"
