"""One contact that brings a host to its release: inspect, change, verify, keep or roll back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.reasons import Reason, Why
from pki.common.remedies import Place, Remedy, at
from pki.common.timestamps import instant, moment
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import PROBE
from pki.deploy import drift, host_clocks, host_output, installed_crls, preflight, verification
from pki.deploy.host_session import Session
from pki.deploy.installed_crls import InstalledCrl
from pki.deploy.payload import Payload
from pki.deploy.preflight import ReleaseContents, Trust
from pki.deploy.protocol import FileState, HostRefusal, ManifestRow, ServiceRefusal, manifest_rows
from pki.deploy.receipt import Receipt, file_record
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint, Prober, fingerprint
from pki.deploy.verification import Expectation, Verification

MAX_LINKS = 20  # that a reason names one by one


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of a release, and the means to verify its services.

    `canary` is the serial number of the certificate that is revoked on purpose, 0 if there is none. `group_lock` is
    held while the host changes: hosts of one group never change at the same time. `transport_name` is the transport in
    the receipt where it is not that of `transport` (Ansible).
    """

    transport: Transport
    endpoints: tuple[Endpoint, ...]
    trust: Trust
    prober: Prober
    as_root: bool
    canary: int = 0
    group: str = ""
    transport_name: str = ""
    group_lock: AbstractContextManager[None] = field(default_factory=nullcontext)


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """The outcome for a host: its new receipt, and what was done there; empty if nothing had to be done.

    `drift` is what differed from the previous deployment; `writable` are folders that other users can write.
    """

    receipt: Receipt
    done: tuple[Reason, ...]
    drift: tuple[Reason, ...] = ()
    writable: tuple[Reason, ...] = ()

    def with_surplus(self, surplus: Sequence[Mapping[str, str]]) -> HostOutcome:
        """Return the same outcome with files of earlier releases on the receipt, so that the next change removes them."""
        paths = {file["path"] for file in self.receipt.files}
        more = [{**file, "sha256": "0"} for file in surplus if file["path"] not in paths]
        return replace(self, receipt=replace(self.receipt, files=(*self.receipt.files, *more)))


class Change:
    """One release on its way to one host.

    `previous` is the receipt of what the host took; where it is lost, `surplus` is the host's own list of files. A
    `pinned` host may lack services that pki.yaml added since. With `is_part`, the payload is only a part of what the
    host has: its other files stay, and the receipt lists them.
    """

    def __init__(
        self,
        destination: Destination,
        payload: Payload,
        previous: Receipt | None,
        now: datetime,
        *,
        pinned: bool = False,
        recall: Callable[[str], bytes | None] = lambda _: None,
        surplus: Sequence[Mapping[str, str]] | None = None,
        is_part: bool = False,
    ) -> None:
        self.destination = destination
        self.payload = payload
        self._pinned = pinned
        self._recall = recall
        self._is_part = is_part
        self._previous = previous
        self._now = now
        kept = {file.path for file in payload.release.files}
        self._surplus = surplus
        before = previous.held if previous else {}
        self._held_back = {one.path: one.sha256 for one in payload.release.files if before.get(one.path) == one.sha256}
        gone = [file for file in (previous.files if previous else surplus or ()) if file["path"] not in kept]
        self.rows = manifest_rows(payload, gone)
        self._started = time.monotonic()

    @property
    def files(self) -> tuple[Mapping[str, str], ...]:
        """The files of the release as the receipt lists them, without those that the host holds back."""
        return tuple(file_record(file) for file in self.payload.release.files if file.path not in self._held_back)

    def without_held_back(self, states: Sequence[FileState]) -> list[FileState]:
        """Return the files that differ on the host and can be placed. Notes the files that the host holds back."""
        self._held_back = {state.row.file.path: state.row.file.sha256 for state in states if state.state == "held"}
        return [state for state in states if state.state not in {"same", "held"}]

    @property
    def _is_checked(self) -> bool:
        """Return whether this very release was checked when it was delivered, and nothing in it has expired since.

        A revoked certificate leaves the release of a host, unless the host is pinned.
        """
        previous = self._previous
        if self._pinned or previous is None or not self.is_already_deployed:
            return False
        return not previous.ends or self._now < moment(previous.ends)

    def session(self) -> Session:
        """Return a dialogue with the host, to be opened with `with`."""
        return Session(self.destination.transport, self.rows, as_root=self.destination.as_root)

    def check(self, delivered: Payload | None) -> ReleaseContents:
        """Check the release before it leaves; `delivered` is what the host has by our own records. Raises PkiError."""
        names = [] if self._pinned else [endpoint.name for endpoint in self.destination.endpoints]
        findings = preflight.check_release(self.payload, self.destination.trust, names, self._now)
        if delivered:
            installed_crls.check_no_regression(
                self.payload, installed_crls.delivered_crls(delivered, self.payload), self.destination.trust, self._now
            )
        return findings

    def guard(self, session: Session, states: Sequence[FileState], delivered: Payload | None) -> list[Reason]:
        """Raise PkiError when the release would replace a CRL on the host by an older one; returns foreign CRLs.

        A CRL is from the future only if the host's own clock agrees: ours may be behind.
        """
        now = max(self._now, host_clocks.answer_date(session.greeting) or self._now)
        if delivered and now > self._now:
            installed_crls.check_no_regression(
                self.payload, installed_crls.delivered_crls(delivered, self.payload), self.destination.trust, now
            )
        delivered_digests = {file.sha256 for file in delivered.release.files} if delivered else set()
        changed = [one for one in states if one.sha256 not in {one.row.file.sha256, *delivered_digests}]
        installed = installed_crls.read_from_session(session, changed, self.payload, self._recall)
        return installed_crls.check_no_regression(self.payload, installed, self.destination.trust, now)

    def deliver(self, delivered: Payload | None) -> HostOutcome:
        """Make the host hold the release, or leave it as it was; `delivered` as for `check`.

        Raises PkiError: UnreachableError when there was no contact, HostRefusal when the host refused the change or it
        was rolled back.
        """
        findings = None if self._is_checked else self.check(delivered)
        with self.session() as session:
            states = self.without_held_back(session.inspect())
            if session.surplus and self.needs_surplus_list and not self._is_part:
                session.end()
                return self._with_surplus(session.surplus).deliver(delivered)
            if states or session.stuck or not self.is_already_deployed:
                findings = findings or self.check(delivered)
                foreign = self.guard(session, states, delivered)
                started_waiting = time.monotonic()
                with self.destination.group_lock:
                    session.extend_deadline(time.monotonic() - started_waiting)
                    verifications = self._change(session, states, findings)
                session.end()
                outcome = self.outcome(findings, states, verifications)
                if self._is_part and self.needs_surplus_list:
                    outcome = outcome.with_surplus(session.surplus)
                return replace(outcome, done=(*outcome.done, *foreign), writable=session.writable)
            session.end()
        return replace(self._check_services(findings, delivered), writable=session.writable)

    def _with_surplus(self, surplus: Sequence[Mapping[str, str]]) -> Change:
        """Return the same change where no receipt is left, with the host's own list of files."""
        destination, payload = self.destination, self.payload
        return Change(destination, payload, None, self._now, pinned=self._pinned, recall=self._recall, surplus=surplus)

    def _check_services(self, findings: ReleaseContents | None, delivered: Payload | None) -> HostOutcome:
        """Verify the services of a host that holds its release already."""
        destination = self.destination
        if not destination.endpoints:
            return self._unchanged_outcome(None)
        verifications = verification.verify_services(
            destination.endpoints, self.expectations(findings or self.check(delivered)), None, destination.prober
        )
        if failure := verification.failure_text(verifications):
            raise ServiceRefusal(failure, self.remedy, verification.failed_services(verifications))
        return self._unchanged_outcome(verifications)

    def _unchanged_outcome(self, verifications: Mapping[str, Verification] | None) -> HostOutcome:
        """Return the outcome for an unchanged host: its receipt, with the new verification where that changed."""
        assert self._previous is not None
        before = self._previous.verification or {}
        if verifications is None or verifications == before:
            return HostOutcome(self._previous, ())
        changed = [
            Why.VERIFICATION(service=service, result=str(text))
            for service, text in verifications.items()
            if before.get(service) != text
        ]
        return HostOutcome(replace(self._previous, verification=verifications), tuple(changed))

    @property
    def remedy(self) -> Remedy:
        """Return what to type where the files are right and a service is not: the reload commands, then a check."""
        host = self.payload.release.host
        reloads = dict.fromkeys(file.reload for file in self.payload.release.files if file.reload)
        check = (
            f"./run doit {ArtifactId('deploy', host)}"  # without the project's path: Ansible may run on another machine
        )
        return at(Place.HOST, "; ".join(reloads) or "check its proxy", host, after=f"; then: {check}")

    def replaceable_crls(self, sent: Iterable[InstalledCrl]) -> list[str]:
        """Return the SHA-256 of all CRL files that this release may replace: its own, and some of those `sent` before."""
        own = [file.sha256 for file in self.payload.release.files if file.crl]
        return sorted({*own, *installed_crls.replaceable(self.payload, sent, self.destination.trust, self._now)})

    @property
    def is_already_deployed(self) -> bool:
        """Return whether the host took exactly these files with the previous delivery."""
        previous = self._previous
        return previous is not None and (previous.files, dict(previous.held)) == (self.files, self._held_back)

    def outcome(
        self, findings: ReleaseContents, states: Sequence[FileState], verifications: Mapping[str, Verification] | None
    ) -> HostOutcome:
        """Return the outcome for a host on which `states` differed; its receipt stays when nothing did."""
        if self.is_already_deployed and not states:
            return self._unchanged_outcome(verifications)
        done = (*_done_reasons(states), *self._held_back_reasons())
        return HostOutcome(self._receipt(findings, verifications), done, drift.drift_reasons(states, self._previous))

    @property
    def needs_surplus_list(self) -> bool:
        """Return whether only the host itself knows which files it has from earlier releases."""
        return self._previous is None and self._surplus is None

    def _change(
        self, session: Session, states: Sequence[FileState], findings: ReleaseContents
    ) -> Mapping[str, Verification]:
        """Place what differs, CRLs first, and verify the services. Raises HostRefusal."""
        crls = [state.row for state in states if state.row.file.crl and not state.row.gone]
        other_rows = [state.row for state in states if state.row not in crls]
        refusal = self._settle(session, crls)
        if session.stuck:
            files, commands = host_output.stuck_files(session.stuck)
            raise HostRefusal(
                f"an earlier change cannot be undone: {files}; until then only CRLs are delivered", commands
            )
        if refusal and not other_rows:
            raise refusal
        verifications = self._replace(session, other_rows, findings)
        if refusal and (second_refusal := self._settle(session, crls)):
            raise second_refusal
        return verifications

    def _settle(self, session: Session, rows: Sequence[ManifestRow]) -> HostRefusal | None:
        """Place CRLs, which stay. Returns a refusal: a service may reject them until the other files are fixed."""
        try:
            if rows:
                session.place(rows, self.payload, settle=True)
        except HostRefusal as refusal:
            return refusal
        return None

    def _replace(
        self, session: Session, rows: Sequence[ManifestRow], findings: ReleaseContents
    ) -> Mapping[str, Verification]:
        """Place the other files and verify the services; rolls back when one fails."""
        destination = self.destination
        before = verification.check_before(destination.endpoints, destination.prober)
        if rows:
            session.place(rows, self.payload)
        verifications = verification.verify_services(
            destination.endpoints, self.expectations(findings), before, destination.prober
        )
        if failure := verification.failure_text(verifications):
            if rows:
                session.undo()
            after = "rolled back" if rows else self.remedy
            raise ServiceRefusal(failure, after, verification.failed_services(verifications))
        if rows:
            session.keep()
        return verifications

    def expectations(self, findings: ReleaseContents) -> dict[str, Expectation]:
        """Return what a release promises for some endpoints, by name; `findings` are those of the release.

        A configuration that names the probe promises to answer it itself.
        """
        return expectations(self.payload, findings, self.destination.endpoints, self.destination.canary)

    def _held_back_reasons(self) -> Iterator[Reason]:
        for path in self._held_back:
            yield Why.HELD_BACK(file=path, host=self.payload.release.host)

    def _receipt(self, findings: ReleaseContents, verifications: Mapping[str, Verification] | None) -> Receipt:
        return Receipt(
            host=self.payload.release.host,
            release=self.payload.release.digest,
            delivered_at=instant(self._now),
            transport=self.destination.transport_name or ("local" if self.destination.transport.is_local else "ssh"),
            files=self.files,
            verification=verifications,
            ends=instant(findings.ends) if findings.ends else "",
            seconds=round(time.monotonic() - self._started, 3),
            roots=preflight.root_subjects(self.payload, self.destination.trust),
            held=self._held_back,
        )


def expectations(
    payload: Payload, findings: ReleaseContents, endpoints: Iterable[Endpoint], canary: int
) -> dict[str, Expectation]:
    """Return what a release promises about some endpoints, by name; `findings` are those of the release.

    A configuration that names the probe promises that the proxy answers it.
    """
    names = {one.name for one in endpoints} & findings.leaves.keys()
    others = (file for file in payload.release.files if not file.crl)
    answers = any(PROBE.encode() in payload.content(file) for file in others)
    revokes = bool(canary) and findings.lists(canary)
    return {
        name: Expectation(fingerprint(findings.leaves[name].public_bytes(Encoding.DER)), answers, revokes)
        for name in sorted(names)
    }


def _done_reasons(states: Sequence[FileState]) -> list[Reason]:
    """Return what was done: a few files by name, the others counted; replaced links are always named."""
    links = [state.reason for state in states if state.state == "link"]
    reasons = [state.reason for state in states if state.state != "link"]
    if len(links) > MAX_LINKS:
        links[MAX_LINKS:] = [Why.MORE_LINKS(count=len(links) - MAX_LINKS)]
    return [*links, *(reasons if len(reasons) <= 4 else [*reasons[:2], Why.MORE_FILES(count=len(reasons) - 2)])]


def differences(states: Iterable[FileState]) -> list[Reason]:
    """Return how a host differs from its release, one reason for each file."""
    return [state.reason for state in states if state.state not in {"same", "set"}]
