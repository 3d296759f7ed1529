"""One contact that brings a host to its release: inspect, change, verify, keep or roll back.

The order of `HostChange.deliver`:

1. check the release here (`check_release`), unless the same release was checked before;
2. ask the host for the state of each file (`note_states`); without a difference, only the services are verified;
3. read the CRLs on the host that we did not send, and refuse to replace a newer one (`check_installed_crls`);
4. place the CRLs: they stay, whatever happens next (`_place_crls`);
5. place the other files, and verify the services (`_place_others`): the host keeps the change, or rolls it back;
6. try CRLs again that the host refused in step 4.

If a file of an earlier change can be neither replaced nor restored (it is "stuck"), only step 4 is done.

A host with `scope: certificates` accepts a new root, and files with new names, only after another `deploy.bootstrap`.
Until then it holds such a file back (`FileStatus.HELD_BACK`): all other files are deployed, and the receipt lists the
files that are held back with their SHA-256.
"""

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
from pki.deploy.host_output import FileStatus
from pki.deploy.host_session import Session
from pki.deploy.installed_crls import InstalledCrl
from pki.deploy.payload import Payload
from pki.deploy.preflight import ReleaseContents, Trust
from pki.deploy.protocol import NO_DIGEST, FileState, HostRefusal, ManifestRow, ServiceRefusal, manifest_rows
from pki.deploy.receipt import Receipt, file_record
from pki.deploy.ssh import Transport
from pki.deploy.tls_client import Endpoint, Prober, fingerprint
from pki.deploy.verification import Expectation, Verification

MAX_LINKS, MAX_FILES = 20, 4  # of replaced symbolic links, and of other changed files, at most so many are named


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of a release, and the means to verify its services.

    `canary` is the serial number of the certificate that is revoked on purpose, 0 if there is none. `without_root` are
    the managed files that must not contain a root. `group_lock` is held while the host changes: hosts of one group never
    change at the same time. `transport_name` is written into the receipt instead of `ssh` or `local`, if Ansible
    delivers.
    """

    transport: Transport
    endpoints: tuple[Endpoint, ...]
    trust: Trust
    prober: Prober
    as_root: bool
    canary: int = 0
    without_root: frozenset[str] = frozenset()
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
        more = [{**file, "sha256": NO_DIGEST} for file in surplus if file["path"] not in paths]
        return replace(self, receipt=replace(self.receipt, files=(*self.receipt.files, *more)))


class HostChange:
    """One release on its way to one host.

    - `previous` is the receipt of the last delivery. Methods that compare CRLs take `delivered`, the contents of its files.
    - `surplus` is the host's own list of the files that it got from us, if that receipt is lost.
    - A `pinned` host stays at an earlier release, so it may lack services that pki.yaml has gained since.
    - `recall` returns a CRL that was sent before, by its SHA-256.
    - With `is_part`, the payload has only the CRLs of a pinned host: its other files stay, and the receipt lists them.
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
        paths = {file.path for file in payload.release.files}
        self._surplus = surplus
        # The files that the host holds back, by path: their SHA-256. Until it answers, what it held back last time counts.
        held_before = previous.held_back if previous else {}
        self._held_back = {
            file.path: file.sha256 for file in payload.release.files if held_before.get(file.path) == file.sha256
        }
        removed = [file for file in (previous.files if previous else surplus or ()) if file["path"] not in paths]
        self.rows = manifest_rows(payload, removed)
        self._started = time.monotonic()

    @property
    def files(self) -> tuple[Mapping[str, str], ...]:
        """The files of the release as the receipt lists them, without those that are held back."""
        return tuple(file_record(file) for file in self.payload.release.files if file.path not in self._held_back)

    def note_states(self, states: Sequence[FileState]) -> list[FileState]:
        """Note which files the host holds back, as it answered now; return those that must be placed or removed."""
        held_back = (state.row.file for state in states if state.status is FileStatus.HELD_BACK)
        self._held_back = {file.path: file.sha256 for file in held_back}
        return [state for state in states if state.status.is_to_be_placed]

    @property
    def _was_checked_before(self) -> bool:
        """Return whether the same release was checked when it was delivered, and nothing in it has expired since.

        A pinned host is always checked again: its old release may contain a certificate that has been revoked since.
        """
        previous = self._previous
        if self._pinned or previous is None or not self.is_already_deployed:
            return False
        return not previous.first_expiry or self._now < moment(previous.first_expiry)

    def session(self) -> Session:
        """Return a dialogue with the host, to be opened with `with`."""
        return Session(self.destination.transport, self.rows, as_root=self.destination.as_root)

    def check_release(self, delivered: Payload | None) -> ReleaseContents:
        """Check the release before anything is sent, and return its contents. Raises PkiError.

        `delivered` is what the host has by our own records: none of its CRLs may be newer than those of the release.
        """
        names = [] if self._pinned else [endpoint.name for endpoint in self.destination.endpoints]
        destination = self.destination
        contents = preflight.check_release(
            self.payload, destination.trust, names, self._now, without_root=destination.without_root
        )
        if delivered:
            installed_crls.check_no_regression(
                self.payload, installed_crls.delivered_crls(delivered, self.payload), self.destination.trust, self._now
            )
        return contents

    def check_installed_crls(
        self, session: Session, states: Sequence[FileState], delivered: Payload | None
    ) -> list[Reason]:
        """Raise PkiError if the release would replace a CRL on the host by an older one.

        Returns the foreign CRLs, which no authority of this project signed: they are replaced and reported. A CRL that is
        dated in the future may be replaced by an older one, because a wrong clock made it. "In the future" means later
        than both our clock and the host's. `check_release` knew only our clock: if the host's is later, the CRLs of our
        records are compared again.
        """
        now = max(self._now, host_clocks.answer_date(session.greeting) or self._now)
        if delivered and now > self._now:
            installed_crls.check_no_regression(
                self.payload, installed_crls.delivered_crls(delivered, self.payload), self.destination.trust, now
            )
        delivered_digests = {file.sha256 for file in delivered.release.files} if delivered else set()
        unknown = [state for state in states if state.sha256 not in {state.row.file.sha256, *delivered_digests}]
        crls_on_host = installed_crls.read_from_session(session, unknown, self.payload, self._recall)
        return installed_crls.check_no_regression(self.payload, crls_on_host, self.destination.trust, now)

    def deliver(self, delivered: Payload | None) -> HostOutcome:
        """Bring the host to the release; `delivered` as for `check_release`.

        If a file is refused, all files except CRLs are rolled back. A CRL that is refused is tried again after the other
        files; if it is refused again, PkiError is raised and the other files stay.

        Raises PkiError: UnreachableError when there was no contact, HostRefusal when the host refused the change or it
        was rolled back.
        """
        contents = None if self._was_checked_before else self.check_release(delivered)
        with self.session() as session:
            states = self.note_states(session.inspect())
            if session.surplus and self.needs_surplus_list and not self._is_part:
                session.end()  # the second delivery knows the host's list, so it does not come here again
                return self._restarted_with(session.surplus).deliver(delivered)
            if states or session.stuck or not self.is_already_deployed:
                contents = contents or self.check_release(delivered)
                foreign_crls = self.check_installed_crls(session, states, delivered)
                started_waiting = time.monotonic()
                with self.destination.group_lock:
                    session.extend_deadline(time.monotonic() - started_waiting)
                    verifications = self._place(session, states, contents)
                session.end()
                outcome = self.outcome(contents, states, verifications)
                if self._is_part and self.needs_surplus_list:
                    outcome = outcome.with_surplus(session.surplus)
                return replace(outcome, done=(*outcome.done, *foreign_crls), writable=session.writable)
            session.end()
        return replace(self._verify_unchanged_services(contents, delivered), writable=session.writable)

    def _restarted_with(self, surplus: Sequence[Mapping[str, str]]) -> HostChange:
        """Return the same change for a host without a receipt, with the host's own list of files."""
        destination, payload = self.destination, self.payload
        return HostChange(
            destination, payload, None, self._now, pinned=self._pinned, recall=self._recall, surplus=surplus
        )

    def _verify_unchanged_services(self, contents: ReleaseContents | None, delivered: Payload | None) -> HostOutcome:
        """Verify the services of a host that has its release already."""
        destination = self.destination
        if not destination.endpoints:
            return self._unchanged_outcome(None)
        verifications = verification.verify_services(
            destination.endpoints,
            self.expectations(contents or self.check_release(delivered)),
            None,
            destination.prober,
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
        changed_reasons = [
            Why.VERIFICATION(service=service, result=str(text))
            for service, text in verifications.items()
            if before.get(service) != text
        ]
        return HostOutcome(replace(self._previous, verification=verifications), tuple(changed_reasons))

    @property
    def remedy(self) -> Remedy:
        """Return what to type if the files are in place and a service does not use them: reload it, then check again."""
        host = self.payload.release.host
        reloads = dict.fromkeys(file.reload for file in self.payload.release.files if file.reload)
        check = (
            f"./run doit {ArtifactId('deploy', host)}"  # without the project's path: Ansible may run on another machine
        )
        return at(Place.HOST, "; ".join(reloads) or "check its proxy", host, after=f"; then: {check}")

    def replaceable_crls(self, sent: Iterable[InstalledCrl]) -> list[str]:
        """Return the SHA-256 of all CRL files that this release may replace: its own, and older ones among `sent`."""
        digests = [file.sha256 for file in self.payload.release.files if file.crl]
        sent_digests = installed_crls.replaceable_digests(self.payload, sent, self.destination.trust, self._now)
        return sorted({*digests, *sent_digests})

    @property
    def is_already_deployed(self) -> bool:
        """Return whether exactly these files were deployed by the previous delivery."""
        previous = self._previous
        return previous is not None and (previous.files, dict(previous.held_back)) == (self.files, self._held_back)

    def outcome(
        self, contents: ReleaseContents, states: Sequence[FileState], verifications: Mapping[str, Verification] | None
    ) -> HostOutcome:
        """Return the outcome for a host on which the files in `states` differed; without any, its receipt stays."""
        if self.is_already_deployed and not states:
            return self._unchanged_outcome(verifications)
        reasons = (*_done_reasons(states), *self._held_back_reasons())
        return HostOutcome(self._receipt(contents, verifications), reasons, drift.drift_reasons(states, self._previous))

    @property
    def needs_surplus_list(self) -> bool:
        """Return whether only the host itself knows which files it has from earlier releases."""
        return self._previous is None and self._surplus is None

    def _place(
        self, session: Session, states: Sequence[FileState], contents: ReleaseContents
    ) -> Mapping[str, Verification]:
        """Place the files that differ, CRLs first, and verify the services. Raises HostRefusal.

        CRLs that the host refused are tried again after the other files: a service may have rejected them until its
        configuration was fixed.
        """
        crl_rows = [state.row for state in states if state.row.file.crl and not state.row.is_removal]
        other_rows = [state.row for state in states if state.row not in crl_rows]
        refusal = self._place_crls(session, crl_rows)
        if session.stuck:
            files, commands = host_output.stuck_files(session.stuck)
            raise HostRefusal(
                f"an earlier change cannot be undone: {files}; until then only CRLs are delivered", commands
            )
        if refusal and not other_rows:
            raise refusal
        verifications = self._place_others(session, other_rows, contents)
        if refusal and (second_refusal := self._place_crls(session, crl_rows)):
            raise second_refusal
        return verifications

    def _place_crls(self, session: Session, rows: Sequence[ManifestRow]) -> HostRefusal | None:
        """Place CRLs, which stay whatever follows. Returns the host's refusal, None if it took them."""
        try:
            if rows:
                session.place(rows, self.payload, settle=True)  # keep them, even if a command fails
        except HostRefusal as refusal:
            return refusal
        return None

    def _place_others(
        self, session: Session, rows: Sequence[ManifestRow], contents: ReleaseContents
    ) -> Mapping[str, Verification]:
        """Place the files that are no CRLs, and verify the services. Keeps the change, or rolls it back if one fails."""
        destination = self.destination
        before = verification.check_before(destination.endpoints, destination.prober)
        if rows:
            session.place(rows, self.payload)
        verifications = verification.verify_services(
            destination.endpoints, self.expectations(contents), before, destination.prober
        )
        if failure := verification.failure_text(verifications):
            if rows:
                session.undo()
            hint = "rolled back" if rows else self.remedy
            raise ServiceRefusal(failure, hint, verification.failed_services(verifications))
        if rows:
            session.keep()
        return verifications

    def expectations(self, contents: ReleaseContents) -> dict[str, Expectation]:
        """Return what each service must do after this change, by its name."""
        return expectations(self.payload, contents, self.destination.endpoints, self.destination.canary)

    def _held_back_reasons(self) -> Iterator[Reason]:
        for path in self._held_back:
            yield Why.HELD_BACK(file=path, host=self.payload.release.host)

    def _receipt(self, contents: ReleaseContents, verifications: Mapping[str, Verification] | None) -> Receipt:
        return Receipt(
            host=self.payload.release.host,
            release=self.payload.release.digest,
            delivered_at=instant(self._now),
            transport=self.destination.transport_name or ("local" if self.destination.transport.is_local else "ssh"),
            files=self.files,
            verification=verifications,
            first_expiry=instant(contents.first_expiry) if contents.first_expiry else "",
            seconds=round(time.monotonic() - self._started, 3),
            roots=preflight.root_subjects(self.payload, self.destination.trust),
            held_back=self._held_back,
        )


def expectations(
    payload: Payload, contents: ReleaseContents, endpoints: Iterable[Endpoint], canary: int
) -> dict[str, Expectation]:
    """Return what each of `endpoints` must do once the release is deployed, by name.

    If a file of the release names the test identity PROBE, the proxy itself must answer it. The certificate `canary` must
    be refused if a CRL of the release lists it.
    """
    names = {endpoint.name for endpoint in endpoints} & contents.leaves.keys()
    other_files = (file for file in payload.release.files if not file.crl)
    proxy_answers_probe = any(PROBE.encode() in payload.content(file) for file in other_files)
    is_canary_listed = bool(canary) and contents.lists(canary)
    return {
        name: Expectation(
            fingerprint(contents.leaves[name].public_bytes(Encoding.DER)), proxy_answers_probe, is_canary_listed
        )
        for name in sorted(names)
    }


def _done_reasons(states: Sequence[FileState]) -> list[Reason]:
    """Return what was done: a few files by name, the others counted. Of replaced links, MAX_LINKS are named."""
    links = [state.reason for state in states if state.status is FileStatus.LINK]
    reasons = [state.reason for state in states if state.status is not FileStatus.LINK]
    if len(links) > MAX_LINKS:
        links[MAX_LINKS:] = [Why.MORE_LINKS(count=len(links) - MAX_LINKS)]
    return [*links, *(reasons if len(reasons) <= MAX_FILES else [*reasons[:2], Why.MORE_FILES(count=len(reasons) - 2)])]


def differences(states: Iterable[FileState]) -> list[Reason]:
    """Return how a host differs from its release, one reason for each file."""
    return [state.reason for state in states if state.status.differs]
