"""Decide whether a host must be brought up to its release, and do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.common.reasons import UNCHANGED, Outcome, Reason, Verb, Why
from pki.common.timestamps import instant, moment
from pki.config.delivery_window import is_in_window
from pki.config.identifiers import ArtifactId
from pki.deploy import installed_crls, preflight, verification
from pki.deploy import receipt as receipts
from pki.deploy.hooks import DeployHook
from pki.deploy.host_payloads import HostPayloads
from pki.deploy.host_records import HostRecords
from pki.deploy.installed_crls import InstalledCrl
from pki.deploy.new_root import ACCEPT_ROOT, NO_ROOT, NewRoot
from pki.deploy.payload import Payload
from pki.deploy.preflight import Trust
from pki.deploy.receipt import Receipt, file_record
from pki.deploy.root_acceptance import RootAcceptance
from pki.deploy.ssh import NEXT_RUN
from pki.deploy.transaction import Destination, HostChange, HostOutcome
from pki.deploy.verification import Verification

DAY = timedelta(days=1)
NEVER_CHECKED = ""  # in place of the time of the last contact
# This long before a certificate or CRL expires, its host is changed outside of its window too: the daily run has one more
# attempt if the first one fails.
URGENT_BEFORE = 2 * DAY


class Engine(Protocol):
    """An engine that delivers to many hosts in one run (Ansible) and keeps the outcome of each until it is reported."""

    def unreported(self, host: str) -> list[Reason]:
        """Return what was done on a host in this run and is not reported yet."""
        ...

    def deliver(self, delivery: Delivery, now: datetime) -> list[Reason]:
        """Return what was done. Raises PkiError: the host is then unchanged, and the failure is recorded."""
        ...


@dataclass
class Delivery:
    """Decides whether a host must be brought up to its release, and delivers it.

    - `window` is its maintenance window.
    - `destination` and `trust` are called only when they are needed. A host with `deliver: folder` needs `trust` alone.
    - `engine` contacts the host (Ansible). Without one, this program does it (`HostChange`).
    - `root` returns the root that issues now.
    - `hook` runs the command of a host with `deliver: {command: …}`; it is None for every other host.
    """

    payloads: HostPayloads
    window: str = ""
    destination: Callable[[], Destination] | None = None
    engine: Engine | None = None
    trust: Callable[[], Trust] | None = None
    root: Callable[[], NewRoot] = lambda: NO_ROOT
    hook: DeployHook | None = None

    @property
    def records(self) -> HostRecords:
        """What is recorded here about the host."""
        return self.payloads.records

    @property
    def host(self) -> str:
        """The name of the host."""
        return self.records.host

    @property
    def root_acceptance(self) -> RootAcceptance:
        """Whether the host waits for its new root to be accepted."""
        return RootAcceptance(self.payloads, self.trust, self.root)

    # -- whether the host must be brought up to date --

    def stale(self, cache: Cache, now: datetime) -> list[Reason]:
        """Return why the host must be brought up to date: another release, drift, or a check that is due.

        Our own records are compared first (`_differences_from_receipt`), because that needs no contact. Where nothing
        differs, this result is cached.
        """
        unreported_reasons = self.engine.unreported(self.host) if self.engine else []
        if unreported_reasons:
            return unreported_reasons  # the task of this host must report what the engine did
        if self.hook and self.hook.was_interrupted:
            return [Why.COMMAND_INTERRUPTED()]
        cached_times = cache.recall(ArtifactId("deploy", self.host), self._cache_key)
        if cached_times is not None:
            [checked_at] = cached_times
            if not self._is_contact_due(checked_at, now):
                return []
        return self._host_reasons(cache, now) if self.records.is_contacted else self._folder_reasons(cache)

    def _folder_reasons(self, cache: Cache) -> list[Reason]:
        """Return why the folder of a host must be brought up to date; its files are compared with the receipt."""
        reasons, paths = self._differences_from_receipt()
        receipt = self.records.receipt
        if not reasons and receipt and self.hook:
            reasons = self._hook_reasons(receipt)
            paths.add(str(self.records.store.contact(self.host)))
        if not reasons and receipt:
            reasons = self.records.folder_transport.drift(receipt)
            paths |= set(self.records.folder_transport.watched_paths(receipt))
        if not reasons and paths:
            cache.remember(ArtifactId("deploy", self.host), self._cache_key, [*paths], [NEVER_CHECKED])
        return reasons

    def _hook_reasons(self, receipt: Receipt) -> list[Reason]:
        """Return why the command of a host must run although its release is in the folder."""
        if receipt.transport != self.records.transport:
            return [Why.CHANGED(what=f"hosts.{self.host}.deliver")]  # the files came here by another transport
        failing_since = self.records.contact.failing_since
        return [Why.FAILING(date=failing_since[:10])] if failing_since else []

    def _host_reasons(self, cache: Cache, now: datetime) -> list[Reason]:
        """Return why a host must be contacted now; nothing while it waits for its new root or its window."""
        reasons, paths = self._differences_from_receipt()
        if not reasons and paths:
            files = [*paths, str(self.records.store.contact(self.host))]
            cache.remember(ArtifactId("deploy", self.host), self._cache_key, files, [self.records.contact.checked_at])
        if reasons and self.root_acceptance.waits_for_root:
            return []
        reasons = reasons or self._contact_reasons(now)
        waits_for_window = bool(reasons) and not self.may_change(now) and not self.is_urgent(now)
        return [] if waits_for_window else reasons

    @property
    def _cache_key(self) -> str:
        """What a cached answer depends on beside files: the transport and the pin."""
        pin = self.payloads.pin
        return f"{self.records.transport} pinned {pin.release}" if pin else self.records.transport

    def _is_contact_due(self, checked_at: str, now: datetime) -> bool:
        """Return whether a host must be contacted, although nothing differs; `checked_at` is its last contact."""
        if not self.records.is_contacted:
            return False
        return checked_at == NEVER_CHECKED or bool(self._contact_reasons(now))

    def _contact_reasons(self, now: datetime) -> list[Reason]:
        """Return why a host must be contacted because its last contact failed, found drift, or is too long ago."""
        contact = self.records.contact
        if contact.failing_since:
            return [Why.FAILING(date=contact.failing_since[:10])]
        if contact.drift:
            return list(contact.drift)
        return [Why.CHECK_DUE(date=contact.checked_at[:10] or "no day yet")] if contact.is_old(now) else []

    def _differences_from_receipt(self) -> tuple[list[Reason], set[str]]:
        """Return where the desired release differs from the receipt, and the files that the answer depends on.

        Without a receipt or a release there are no such files: the answer is then not cached.
        """
        receipt_path = self.records.store.receipt(self.host)
        receipt, payload = receipts.load(receipt_path), self.payloads.desired()
        if receipt is None:
            return [Why.RECEIPT_DAMAGED() if self.records.has_lost_receipt else Why.NEVER_DEPLOYED()], set()
        if payload is None:
            return [Why.RELEASE_MISSING()], set()
        # a file that the host held back at the last delivery is not sent again until its content changes
        desired_files = {
            file.path: file_record(file)
            for file in payload.release.files
            if receipt.held_back.get(file.path) != file.sha256
        }
        deployed_files = {file["path"]: dict(file) for file in receipt.files}
        reasons = [Why.ADDED(what=path) for path in desired_files if path not in deployed_files]
        reasons += [
            Why.CHANGED(what=path)
            for path, file in desired_files.items()
            if path in deployed_files and deployed_files[path] != file
        ]
        # of a pinned host whose release is lost, only the CRLs are known: its other files stay as they are
        if not self.payloads.is_pinned_without_files(payload):
            reasons += [Why.SURPLUS(file=path) for path in deployed_files if path not in desired_files]
        return reasons, {str(receipt_path), *payload.manifest_paths}

    def is_behind(self, cache: Cache) -> bool:
        """Return whether the host lacks something, by our own records: it waits for its window or the next run.

        Only an answer without differences is cached (`stale`), so a cached answer means no.
        """
        name = ArtifactId("deploy", self.host)
        is_cached = cache.checked_in_this_run(name) is not None or cache.recall(name, self._cache_key) is not None
        return not is_cached and bool(self._differences_from_receipt()[0])

    # -- when the host may be changed --

    def may_change(self, now: datetime) -> bool:
        """Return whether the window of the host is open, in the local time of this machine."""
        return not self.window or is_in_window(now.astimezone().time(), self.window)

    def is_urgent(self, now: datetime) -> bool:
        """Return whether the host cannot wait for its window: something on it expires soon, or it lacks a revocation."""
        receipt, payload = self.records.receipt, self.payloads.desired()
        was_delivered = receipt is not None or self.records.has_lost_receipt
        if not was_delivered or payload is None:
            return False  # there is nothing on the host that could expire, or nothing to deliver
        if receipt and receipt.first_expiry and moment(receipt.first_expiry) - now < URGENT_BEFORE:
            return True
        return self._may_lack_revocation(payload, receipt)

    def _may_lack_revocation(self, payload: Payload, receipt: Receipt | None) -> bool:
        """Return whether the CRLs on the host may lack a serial number that a CRL of `payload` lists.

        The kept copy of the delivered release shows what the host has; without a receipt, the newest kept copy. Where
        receipt or copy is damaged, the answer is yes, because only a contact can show which CRLs the host has. Where no
        copy of the delivered release is kept, nothing shows that a revocation is missing: the answer is no.
        """
        history = self.records.history
        delivered_payload = history.payload(receipt.release) if receipt else history.newest
        if delivered_payload is None:
            return receipt is None or history.is_damaged(receipt.release)
        # the revocation of a new canary is not urgent: its serial number does not count; 0 is that of no certificate
        canary = self.destination().canary if self.destination else 0
        return preflight.revokes_more(payload, delivered_payload, canary)

    # -- delivery --

    def deliver(self, now: datetime) -> Outcome:
        """Deliver the release, record the receipt, and return the outcome.

        Raises PkiError: the host is then unchanged, and the next run tries again.
        """
        payload = self.payloads.desired()
        if payload is None:
            raise PkiError("its release is missing", "./run doit")
        if self.hook:
            return self._deliver_by_hook(self.hook, payload, now)
        if not self.records.is_contacted:
            return self._deliver_to_folder(payload, now)
        self.root_acceptance.require_accepted_root()
        previous_receipt = self.records.receipt
        if self.engine:
            return self._outcome(self.engine.deliver(self, now), previous_receipt)
        try:
            change = self.change(payload, previous_receipt, now)
            return self._outcome(
                self.record_outcome(change, change.deliver(self.payloads.delivered), now), previous_receipt
            )
        except PkiError as error:
            raise self.records.record_failure(payload, error, now) from None

    def _outcome(self, reasons: Sequence[Reason], previous_receipt: Receipt | None) -> Outcome:
        """Return the outcome for a host that was contacted; UNCHANGED when nothing was done there."""
        if not reasons:
            return UNCHANGED
        pin, new_receipt = self.payloads.pin, self.records.receipt
        # the operator pinned the host after the previous delivery, and this delivery brought it to that release
        is_rollback = (
            pin
            and previous_receipt
            and new_receipt != previous_receipt
            and pin.since >= moment(previous_receipt.delivered_at)
        )
        return Outcome(Verb.ROLLED_BACK if is_rollback else Verb.DEPLOYED, tuple(reasons))

    def _deliver_by_hook(self, hook: DeployHook, payload: Payload, now: datetime) -> Outcome:
        """Write the files into the folder of the host, run its command, and verify the services.

        The receipt is written after a success only, so that the next run tries again.
        """
        records, change = self.records, self.change(payload, self.records.receipt, now)
        endpoints, prober = change.destination.endpoints, change.destination.prober
        try:
            contents = change.check_release(None)
            before = verification.check_before(endpoints, prober)
            receipt, reasons = self._write_folder(payload, now)
            hook.run()
            verifications = verification.verify_services(endpoints, change.expectations(contents), before, prober)
            _require_verified(verifications)
        except PkiError as error:
            raise records.record_failure(payload, error, now) from None
        expiry = instant(contents.first_expiry) if contents.first_expiry else ""
        records.save_receipt(
            replace(receipt, transport="command", not_done=(), verification=verifications, first_expiry=expiry)
        )
        log = {name: str(verdict) for name, verdict in verifications.items()}
        records.history.add_log_entry(now, receipt.release, "delivered", files=len(receipt.files), verification=log)
        records.save_contact(records.contact.succeeded(now, ()))
        return Outcome(Verb.DEPLOYED, tuple(reasons))

    def _deliver_to_folder(self, payload: Payload, now: datetime) -> Outcome:
        """Deliver into a folder. The outcome reports only foreign CRLs and lost records."""
        receipt, reasons = self._write_folder(payload, now)
        self.records.save_receipt(receipt)
        return Outcome(Verb.DEPLOYED, tuple(reasons))

    def _write_folder(self, payload: Payload, now: datetime) -> tuple[Receipt, list[Reason]]:
        """Write the files of a release into the folder; return the receipt, not stored yet, and what was noticed."""
        records = self.records
        digests = {file.sha256 for file in payload.release.files}
        crls = installed_crls.read_from_folder(records.store.host_root(self.host), payload)
        other_crls = [crl for crl in crls if crl.digest not in digests]
        assert self.trust is not None, "delivery_targets gives it to every folder host"
        foreign_crl_reasons = (
            installed_crls.check_no_regression(payload, other_crls, self.trust(), now) if other_crls else []
        )
        reasons = foreign_crl_reasons
        if records.has_lost_receipt:
            reasons = [Why.RECEIPT_DAMAGED(), *foreign_crl_reasons]
            reasons += [Why.BOTH_DAMAGED()] if records.folder_transport.delivered_paths(None) is None else []
        receipt = records.receipt
        is_older_than_folder = bool(records.contact.failing_since)  # a command failed after the files were written
        drift = records.folder_drift(receipt) if receipt and not is_older_than_folder else []
        if receipt and drift:
            records.history.add_log_entry(now, receipt.release, "drift", drift=[reason.as_json() for reason in drift])
        new_receipt = records.folder_transport.deliver(payload, receipt, now)
        new_receipt = replace(new_receipt, roots=preflight.root_subjects(payload, self.trust()))
        return new_receipt, reasons

    def crls_in_place(self) -> list[InstalledCrl]:
        """Return every CRL file of the release as the host has it, by one contact that changes nothing."""
        records = self.records
        payload = self.payloads.desired()
        if payload is None:
            raise PkiError("its release is missing", f"./run doit release:{self.host}")
        if not records.is_contacted:
            return list(installed_crls.read_from_folder(records.store.host_root(self.host), payload))
        destination = self._resolve_destination()
        crls = installed_crls.fetch(destination.transport, payload.crls(), as_root=destination.as_root)
        records.history.record_installed_crls(crl.content for crl in crls)
        return crls

    def record_outcome(self, change: HostChange, outcome: HostOutcome, now: datetime) -> list[Reason]:
        """Record the outcome of a change: receipt, history and contact. Returns what was done."""
        records, receipt, previous = self.records, outcome.receipt, self.records.receipt
        if outcome.drift:
            records.history.add_log_entry(
                now, receipt.release, "drift", drift=[reason.as_json() for reason in outcome.drift]
            )
        # its other files stay on the host, so the receipt keeps listing them
        if previous and self.payloads.is_pinned_without_files(change.payload):
            files = {file["path"]: file for file in (*previous.files, *receipt.files)}
            receipt = replace(receipt, release=previous.release, files=tuple(files[path] for path in sorted(files)))
        if receipt != previous:
            verifications = {name: str(verdict) for name, verdict in (receipt.verification or {}).items()}
            is_only_verified = previous is not None and receipt == replace(previous, verification=receipt.verification)
            if is_only_verified:
                records.history.add_log_entry(now, receipt.release, "checked", verification=verifications)
            else:
                if any(not file.crl for file in change.payload.release.files):  # no rollback goes to CRLs alone
                    pin = self.payloads.pin
                    records.history.keep_release(change.payload, pinned=pin.release if pin else "")
                records.history.add_log_entry(
                    now, receipt.release, "delivered", files=len(outcome.done), verification=verifications
                )
            records.save_receipt(receipt)
        records.save_contact(records.contact.succeeded(now, outcome.writable))
        return list(outcome.done)

    def change(self, payload: Payload, receipt: Receipt | None, now: datetime) -> HostChange:
        """Return the change that brings the host to `payload`."""
        is_pinned, is_part = self.payloads.pin is not None, self.payloads.is_pinned_without_files(payload)
        if receipt and is_part:
            paths = {file.path for file in payload.release.files}
            receipt = replace(receipt, files=tuple(file for file in receipt.files if file["path"] in paths))
        destination, recall = self._resolve_destination(), self.records.history.crl
        return HostChange(destination, payload, receipt, now, pinned=is_pinned, recall=recall, is_part=is_part)

    def _resolve_destination(self) -> Destination:
        assert self.destination is not None
        return self.destination()

    def state(self, now: datetime) -> str:
        """Return what the operator needs to know about a host: pinned, failing, not verified, waiting; or ""."""
        receipt, contact, pin, parts = self.records.receipt, self.records.contact, self.payloads.pin, list[str]()
        if pin and pin.release:
            parts.append(f"pinned to {pin.release[:12]} since {pin.since:%Y-%m-%d}")
        if contact.failing_since:
            parts.append(f"failing since {contact.failing_since[:10]}: {contact.message}")
        verifications = (receipt.verification or {}) if receipt else {}
        services_not_verified = [service for service, result in verifications.items() if not result.is_verified]
        if services_not_verified:
            parts.append(f"not verified: {', '.join(services_not_verified)}")
        services_passing_on = [
            service for service, result in verifications.items() if result.verdict is verification.Verdict.PASSED_ON
        ]
        if services_passing_on:
            parts.append(f"the probe is passed on: {', '.join(services_passing_on)}")
        if self.root_acceptance.waits_for_root:
            parts.append(f"waits for {ACCEPT_ROOT}")
        if not self.may_change(now) and self._differences_from_receipt()[0]:
            parts.append(f"waits for its window {self.window}")
        return "; ".join(parts)


def _require_verified(verifications: Mapping[str, Verification]) -> None:
    """Raise PkiError if a service does not serve what the command of its host brought."""
    if failure := verification.failure_text(verifications):
        raise PkiError(f"after its command: {failure}", NEXT_RUN)
