"""A host brought up to its release in one contact: looked at, changed, verified, or put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.reasons import Reason, Why
from pki.common.remedies import Place, Remedy, at
from pki.config.identifiers import ArtifactId
from pki.config.leaf_certificates import PROBE
from pki.deploy import drift, host_clocks, host_output, installed_crls, preflight, verification
from pki.deploy.installed_crls import InstalledCrl
from pki.deploy.payload import Payload
from pki.deploy.preflight import Findings, Trust
from pki.deploy.protocol import FileState, HostRefusal, Row, ServiceRefusal, Session, manifest_rows
from pki.deploy.receipt import Receipt, file_record, instant, moment
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint, Prober, fingerprint
from pki.deploy.verification import Expectation, Verification

MAX_LINKS = 20  # that are named one by one


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a release goes, and who looks whether it arrived.

    `canary` is the serial number of the certificate that is revoked on purpose, 0 where there is none. `turn` is held
    while the host changes: those of one group never do at the same time. `transport` is what the receipt says of the
    way, where the way itself does not.
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
    """What became of a host: its new receipt, and what was done there, one phrase each; none when nothing had to be.

    `drift` is what was not there as it had been deployed before; `writable` are folders that others can write there.
    """

    receipt: Receipt
    done: tuple[Reason, ...]
    drift: tuple[Reason, ...] = ()
    writable: tuple[Reason, ...] = ()

    def with_surplus(self, others: Sequence[Mapping[str, str]]) -> HostOutcome:
        """The same with files on the receipt that the host had from us before: the next change takes them away."""
        known = {file["path"] for file in self.receipt.files}
        more = [{**one, "sha256": "0"} for one in others if one["path"] not in known]
        return replace(self, receipt=replace(self.receipt, files=(*self.receipt.files, *more)))


class Change:
    """One release on its way to one host; that of a `held` host may lack services that were added since.

    `previous` is what the host took by our own memory; where that is lost, `others` is what the host says itself.
    Where the release `is_part` of what the host is to have, its other files stay, and the receipt names them.
    """

    def __init__(
        self,
        destination: Destination,
        payload: Payload,
        previous: Receipt | None,
        now: datetime,
        *,
        held: bool = False,
        recall: Callable[[str], bytes | None] = lambda _: None,
        others: Sequence[Mapping[str, str]] | None = None,
        is_part: bool = False,
    ) -> None:
        self.destination = destination
        self.payload = payload
        self._pinned = held
        self._recall = recall
        self._is_part = is_part
        self._previous = previous
        self._now = now
        kept = {file.path for file in payload.release.files}
        self._surplus = others
        before = previous.held if previous else {}
        self._held_back = {one.path: one.sha256 for one in payload.release.files if before.get(one.path) == one.sha256}
        gone = [file for file in (previous.files if previous else others or ()) if file["path"] not in kept]
        self.rows = manifest_rows(payload, gone)
        self._started = time.monotonic()

    @property
    def files(self) -> tuple[Mapping[str, str], ...]:
        return tuple(file_record(file) for file in self.payload.release.files if file.path not in self._held_back)

    def without_held_back(self, seen: Sequence[FileState]) -> list[FileState]:
        """What differs on the host and can be placed; files that it holds back are noted, and left out."""
        self._held_back = {one.row.file.path: one.row.file.sha256 for one in seen if one.state == "held"}
        return [one for one in seen if one.state not in {"same", "held"}]

    @property
    def _is_checked(self) -> bool:
        """Whether this very release was looked at when it was delivered, and nothing in it can have ended since then.

        A revoked certificate leaves the release of a host, unless that is held.
        """
        before = self._previous
        if self._pinned or before is None or not self.is_already_deployed:
            return False
        return not before.ends or self._now < moment(before.ends)

    def session(self) -> Session:
        return Session(self.destination.transport, self.rows, as_root=self.destination.as_root)

    def check(self, delivered: Payload | None) -> Findings:
        """Look at the release before it leaves; `delivered` is what the host has by our own memory."""
        names = [] if self._pinned else [endpoint.name for endpoint in self.destination.endpoints]
        findings = preflight.check_release(self.payload, self.destination.trust, names, self._now)
        if delivered:
            installed_crls.check_no_regression(
                self.payload, installed_crls.delivered_crls(delivered, self.payload), self.destination.trust, self._now
            )
        return findings

    def guard(self, session: Session, seen: Sequence[FileState], delivered: Payload | None) -> list[Reason]:
        """Hold the release against the CRLs on the host that are not the ones delivered last, as `inplace.guard` does.

        A CRL is from the future only if the host's own clock says so, too: ours may be behind.
        """
        now = max(self._now, host_clocks.answer_date(session.greeting) or self._now)
        if delivered and now > self._now:
            installed_crls.check_no_regression(
                self.payload, installed_crls.delivered_crls(delivered, self.payload), self.destination.trust, now
            )
        known = {file.sha256 for file in delivered.release.files} if delivered else set()
        other = [one for one in seen if one.sha256 not in {one.row.file.sha256, *known}]
        found = installed_crls.read_from_session(session, other, self.payload, self._recall)
        return installed_crls.check_no_regression(self.payload, found, self.destination.trust, now)

    def deliver(self, delivered: Payload | None) -> HostOutcome:
        """Make the host hold the release, or leave it as it was; `delivered` as for `check`.

        Raises PkiError: UnreachableError when there was no contact, HostRefusal with the words of the host or the
        proof when it had to be put back.
        """
        findings = None if self._is_checked else self.check(delivered)
        with self.session() as session:
            seen = self.without_held_back(session.inspect())
            if session.surplus and self.needs_surplus_list and not self._is_part:
                session.end()
                return self._with_surplus(session.surplus).deliver(delivered)
            if seen or session.stuck or not self.is_already_deployed:
                findings = findings or self.check(delivered)
                foreign = self.guard(session, seen, delivered)
                waits = time.monotonic()
                with self.destination.group_lock:
                    session.extend_deadline(time.monotonic() - waits)
                    verifications = self._change(session, seen, findings)
                session.end()
                outcome = self.outcome(findings, seen, verifications)
                if self._is_part and self.needs_surplus_list:
                    outcome = outcome.with_surplus(session.surplus)
                return replace(outcome, done=(*outcome.done, *foreign), writable=session.writable)
            session.end()
        return replace(self._check_services(findings, delivered), writable=session.writable)

    def _with_surplus(self, others: Sequence[Mapping[str, str]]) -> Change:
        """The same where the host itself has told which files it had from us: no receipt here says so."""
        to, payload = self.destination, self.payload
        return Change(to, payload, None, self._now, held=self._pinned, recall=self._recall, others=others)

    def _check_services(self, findings: Findings | None, delivered: Payload | None) -> HostOutcome:
        """Look whether a host that holds its release already serves what it holds."""
        to = self.destination
        if not to.endpoints:
            return self._unchanged_outcome(None)
        verifications = verification.verify_services(
            to.endpoints, self.expectations(findings or self.check(delivered)), None, to.prober
        )
        if what := verification.failure_text(verifications):
            raise ServiceRefusal(what, self.remedy, verification.failed_services(verifications))
        return self._unchanged_outcome(verifications)

    def _unchanged_outcome(self, verifications: Mapping[str, Verification] | None) -> HostOutcome:
        """The receipt stays as it was, but for what is seen of the services, where that changed."""
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
        """What to type where the files are right and a service is not: the reloads, then a look."""
        host = self.payload.release.host
        reloads = dict.fromkeys(file.reload for file in self.payload.release.files if file.reload)
        again = f"./run doit {ArtifactId('deploy', host)}"  # without this project's folder: Ansible runs elsewhere
        return at(Place.HOST, "; ".join(reloads) or "look at its proxy", host, after=f"; then: {again}")

    def replaceable_crls(self, sent: Iterable[InstalledCrl]) -> list[str]:
        """SHA-256 of all CRL files in whose place this release may go: its own, and those of some that were `sent`."""
        own = [file.sha256 for file in self.payload.release.files if file.crl]
        return sorted({*own, *installed_crls.replaceable(self.payload, sent, self.destination.trust, self._now)})

    @property
    def is_already_deployed(self) -> bool:
        """Whether the host took these very files before."""
        before = self._previous
        return before is not None and (before.files, dict(before.held)) == (self.files, self._held_back)

    def outcome(
        self, findings: Findings, seen: Sequence[FileState], verifications: Mapping[str, Verification] | None
    ) -> HostOutcome:
        """What became of a host that had these files otherwise; where there were none, its receipt stays."""
        if self.is_already_deployed and not seen:
            return self._unchanged_outcome(verifications)
        done = (*_done_reasons(seen), *self._held_back_reasons())
        return HostOutcome(self._receipt(findings, verifications), done, drift.drift_reasons(seen, self._previous))

    @property
    def needs_surplus_list(self) -> bool:
        """Whether nobody knows which files the host had from here, besides the host itself."""
        return self._previous is None and self._surplus is None

    def _change(self, session: Session, seen: Sequence[FileState], findings: Findings) -> Mapping[str, Verification]:
        """Place what differs, CRLs first, and look at the services. Raises HostRefusal."""
        crls = [one.row for one in seen if one.row.file.crl and not one.row.gone]
        others = [one.row for one in seen if one.row not in crls]
        refusal = self._settle(session, crls)
        if session.stuck:
            what, commands = host_output.stuck_files(session.stuck)
            raise HostRefusal(
                f"an earlier change cannot be undone: {what}; until then only CRLs are delivered", commands
            )
        if refusal and not others:
            raise refusal
        verifications = self._replace(session, others, findings)
        if refusal and (again := self._settle(session, crls)):
            raise again
        return verifications

    def _settle(self, session: Session, rows: Sequence[Row]) -> HostRefusal | None:
        """CRLs go first, on their own, and stay; a service that does not take them may need the other files to be fixed."""
        try:
            if rows:
                session.place(rows, self.payload, settle=True)
        except HostRefusal as refusal:
            return refusal
        return None

    def _replace(self, session: Session, rows: Sequence[Row], findings: Findings) -> Mapping[str, Verification]:
        to = self.destination
        before = verification.check_before(to.endpoints, to.prober)
        if rows:
            session.place(rows, self.payload)
        verifications = verification.verify_services(to.endpoints, self.expectations(findings), before, to.prober)
        if what := verification.failure_text(verifications):
            if rows:
                session.undo()
            after = "the previous files were put back" if rows else self.remedy
            raise ServiceRefusal(what, after, verification.failed_services(verifications))
        if rows:
            session.keep()
        return verifications

    def expectations(self, findings: Findings) -> dict[str, Expectation]:
        """What each service is to serve, and what its proxy makes of the test identities, by the service's name."""
        return expectations(self.payload, findings, self.destination.endpoints, self.destination.canary)

    def _held_back_reasons(self) -> Iterator[Reason]:
        for path in self._held_back:
            yield Why.HELD_BACK(file=path, host=self.payload.release.host)

    def _receipt(self, findings: Findings, verifications: Mapping[str, Verification] | None) -> Receipt:
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
    payload: Payload, findings: Findings, endpoints: Iterable[Endpoint], canary: int
) -> dict[str, Expectation]:
    """What a release promises of each of some endpoints, by its name; `findings` are those of the release.

    A configuration that names the probe promises to answer it.
    """
    names = {one.name for one in endpoints} & findings.leaves.keys()
    others = (file for file in payload.release.files if not file.crl)
    answers = any(PROBE.encode() in payload.content(file) for file in others)
    revokes = bool(canary) and findings.lists(canary)
    return {
        name: Expectation(fingerprint(findings.leaves[name].public_bytes(Encoding.DER)), answers, revokes)
        for name in sorted(names)
    }


def _done_reasons(seen: Sequence[FileState]) -> list[Reason]:
    """What was done, file by file as long as that can be taken in at a glance; links that became files in any case."""
    links = [one.reason for one in seen if one.state == "link"]
    reasons = [one.reason for one in seen if one.state != "link"]
    if len(links) > MAX_LINKS:
        links[MAX_LINKS:] = [Why.MORE_LINKS(count=len(links) - MAX_LINKS)]
    return [*links, *(reasons if len(reasons) <= 4 else [*reasons[:2], Why.MORE_FILES(count=len(reasons) - 2)])]


def differences(seen: Iterable[FileState]) -> list[Reason]:
    """What a host has otherwise than its release, one phrase for each file."""
    return [one.reason for one in seen if one.state not in {"same", "set"}]
