"""Decide whether a host must be brought up to its release, and do it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Protocol

from pki.common.cache import Cache
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.reasons import UNCHANGED, Outcome, Reason, Verb, Why
from pki.config.identifiers import ArtifactId
from pki.config.time_fields import is_in_window
from pki.deploy import installed_crls, preflight, verification
from pki.deploy import receipt as receipts
from pki.deploy.contact import Contact
from pki.deploy.delivery_history import History, PinnedRelease
from pki.deploy.drift import reasons_from_json as drifted
from pki.deploy.folder import FolderTransport
from pki.deploy.installed_crls import InstalledCrl
from pki.deploy.new_root import COMMAND, NO_ROOT, TASK, NewRoot
from pki.deploy.payload import Payload
from pki.deploy.preflight import ReleaseContents, Trust
from pki.deploy.receipt import Receipt, file_record, instant, moment
from pki.deploy.ssh import UnreachableError
from pki.deploy.transaction import Change, Destination, HostOutcome
from pki.project.layout import Store

DAY = timedelta(days=1)
URGENT_BEFORE = 2 * DAY  # before the expiry of a certificate: its host is then changed outside of its window, too


class Engine(Protocol):
    """An engine that delivers to many hosts in one run (Ansible) and keeps the outcome of each until it is reported."""

    def unreported(self, host: str) -> list[Reason]:
        """Return what was done on a host in this run and is not reported yet."""
        ...

    def deliver(self, delivery: Delivery, now: datetime) -> list[Reason]:
        """Return what was done. Raises PkiError with the host as it was; the failure is recorded by then."""
        ...


@dataclass
class Delivery:
    """One host and its release in the store.

    `transport` is folder, ssh or local; `window` is its maintenance window. `destination` and `trust` are called only
    when they are needed (a host in a folder needs `trust` alone). `engine` delivers instead of our own dialogue.
    `pinned` returns the release at which the host stays, None if it follows its releases. `root` returns the root that
    issues now.
    """

    host: str
    store: Store
    transport: str = "folder"
    window: str = ""
    destination: Callable[[], Destination] | None = None
    engine: Engine | None = None
    trust: Callable[[], Trust] | None = None
    pinned: Callable[[], PinnedRelease | None] = lambda: None
    root: Callable[[], NewRoot] = lambda: NO_ROOT

    # -- state, without a contact to the host --

    @property
    def is_remote(self) -> bool:
        """Return whether the host is reached by a dialogue with pki-apply, not by writing into a folder."""
        return self.transport != "folder"

    @cached_property
    def history(self) -> History:
        """The earlier deliveries to the host."""
        return History(self.store.history(self.host))

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the last delivery, None if there is none or it is damaged."""
        return receipts.load(self.store.receipt(self.host))

    @property
    def has_lost_receipt(self) -> bool:
        """Return whether something was delivered, but its receipt is damaged."""
        return self.receipt is None and os.path.lexists(self.store.receipt(self.host))

    @property
    def contact(self) -> Contact:
        """The record of the last contact."""
        return Contact.load(self.store.contact(self.host))

    @property
    def folder_transport(self) -> FolderTransport:
        """The folder that takes the place of the host."""
        return FolderTransport(self.store.host_root(self.host))

    def desired_payload(self) -> Payload | None:
        """Return what must be on the host: its release, or the pinned one, with the newest CRLs.

        Returns only the CRLs when the files of the pinned release are lost or unknown, None when there is no release.
        """
        current = Payload.of(self.store.release(self.host))
        pin = self.pinned() if self.is_remote else None
        if pin is None:
            return current
        receipt = self.receipt
        pinned_payload = self.history.payload(pin.release or (receipt.release if receipt else "-"))
        if pinned_payload is None:
            return current.crls() if current else None
        return pinned_payload.with_crls_of(current) if current else pinned_payload

    def _has_only_crls(self, payload: Payload) -> bool:
        """Return whether only the CRLs of a pinned host are known: its other files stay as they are."""
        return self.is_remote and self.pinned() is not None and all(file.crl for file in payload.release.files)

    # -- whether the host must be brought up to date --

    def stale(self, cache: Cache, now: datetime) -> list[Reason]:
        """Return why the host must be brought up to date: another release, drift, or a check that is due."""
        if self.engine and (done := self.engine.unreported(self.host)):
            return done
        name = ArtifactId("deploy", self.host)
        cached = cache.recall(name, self._cache_key)
        if cached is not None and not self._is_due(cached, now):
            return []
        reasons, paths = self._differences()
        if not reasons and not self.is_remote and (receipt := self.receipt):
            reasons = self.folder_transport.drift(receipt)
            paths |= set(self.folder_transport.watched_paths(receipt))
        checked_at = self.contact.checked_at if self.is_remote else ""
        if not reasons and paths:
            files = [*paths, *([str(self.store.contact(self.host))] if self.is_remote else [])]
            cache.remember(name, self._cache_key, files, [checked_at])
        if self.is_remote:
            if reasons and self.waits_for_root:
                return []
            reasons = reasons or self._contact_reasons(now)
            return reasons if reasons and (self.may_change(now) or self.is_urgent(now)) else []
        return reasons

    @property
    def _cache_key(self) -> str:
        """The part of the cache key that does not come from files."""
        pin = self.pinned() if self.is_remote else None
        return f"{self.transport} pinned {pin.release}" if pin else self.transport

    def _is_due(self, cached: list[str], now: datetime) -> bool:
        return self.is_remote and (bool(self._contact_reasons(now)) or not cached[0])

    def _contact_reasons(self, now: datetime) -> list[Reason]:
        contact = self.contact
        if contact.failing_since:
            return [Why.FAILING(date=contact.failing_since[:10])]
        if contact.drift:
            return list(contact.drift)
        return [Why.CHECK_DUE(date=contact.checked_at[:10] or "no day yet")] if contact.is_old(now) else []

    def _differences(self) -> tuple[list[Reason], set[str]]:
        """Return where release and receipt differ, and the files that this depends on."""
        path = self.store.receipt(self.host)
        receipt, payload = receipts.load(path), self.desired_payload()
        if receipt is None:
            return [Why.RECEIPT_DAMAGED() if self.has_lost_receipt else Why.NEVER_DEPLOYED()], set()
        if payload is None:
            return [Why.RELEASE_MISSING()], set()
        desired = {file.path: file_record(file) for file in payload.release.files}
        deployed = {file["path"]: dict(file) for file in receipt.files}
        desired = {path: file for path, file in desired.items() if receipt.held.get(path) != file["sha256"]}
        reasons = [Why.ADDED(what=path) for path in desired if path not in deployed]
        reasons += [Why.CHANGED(what=path) for path in desired if path in deployed and deployed[path] != desired[path]]
        if not self._has_only_crls(payload):
            reasons += [Why.SURPLUS(file=path) for path in deployed if path not in desired]
        return reasons, {str(path), *payload.manifest_paths}

    @property
    def drift(self) -> Sequence[Reason]:
        """The known drift of the host: of a folder by checking it now, of a remote host by the last check."""
        if self.is_remote:
            return (*self.contact.drift, *self.contact.writable)
        receipt = self.receipt
        return self._folder_drift(receipt) if receipt else ()

    def _folder_drift(self, receipt: Receipt) -> list[Reason]:
        return [one for one in self.folder_transport.drift(receipt) if one.code is not Why.LIST_DAMAGED]

    def repaired_drift(self, at: datetime) -> Sequence[Reason]:
        """Return the drift that the run which began at `at` found on the host and repaired."""
        entries = self.history.log_entries()
        return [one for entry in entries if entry["at"] == instant(at) for one in drifted(entry.get("drift"))]

    def record_drift(self, drift: Sequence[Reason], writable: Sequence[Reason] = ()) -> None:
        """Record the drift that a check found, for the next run and for health."""
        contact = replace(self.contact, drift=tuple(drift), writable=tuple(writable))
        if self.is_remote and self.contact != contact:
            with suppress(PkiError):  # on a read-only project the command still reports it
                contact.save(self.store.contact(self.host))

    def record_unreached(self, error: PkiError, now: datetime) -> None:
        """Record that a check could not reach the host, so that the next run tries again."""
        if self.is_remote:
            with suppress(PkiError):
                self.contact.failed(now, error).save(self.store.contact(self.host))

    def is_behind(self, cache: Cache) -> bool:
        """Return whether the host lacks something, by our own records: it waits for its window or the next run."""
        name = ArtifactId("deploy", self.host)
        is_cached = cache.recalled(name) is not None or cache.recall(name, self._cache_key) is not None
        return not is_cached and bool(self._differences()[0])

    # -- when the host may be changed --

    @property
    def has_another_root(self) -> bool:
        """Return whether the host was deployed under a root that no cross-certificate connects with the present root."""
        root, receipt = self.root(), self.receipt
        if not self.is_remote or not root.fingerprint or self.trust is None:
            return False
        return root.is_unconnected_to(
            receipt, lambda: self.delivered_payload if receipt else self.history.newest, self.trust()
        )

    @property
    def waits_for_root(self) -> bool:
        """Return whether nothing is delivered to the host before its new root is accepted."""
        return self.has_another_root and not self.root().is_accepted(self.host)

    def require_accepted_root(self) -> None:
        """Raise PkiError while the host waits for its new root to be accepted."""
        if self.waits_for_root:
            what = f"was deployed under another root, and {self.root().text} is not accepted for it"
            raise PkiError(what, f"{COMMAND} {self.host}")

    def may_change(self, now: datetime) -> bool:
        """Return whether the window of the host is open, in the local time of this machine."""
        return not self.window or is_in_window(now.astimezone().time(), self.window)

    def is_urgent(self, now: datetime) -> bool:
        """Return whether the host cannot wait for its window: something expires soon, or a revocation is new."""
        receipt, payload = self.receipt, self.desired_payload()
        if (receipt is None and not self.has_lost_receipt) or payload is None:
            return False
        if receipt and receipt.ends and moment(receipt.ends) - now < URGENT_BEFORE:
            return True
        delivered = self.history.payload(receipt.release) if receipt else self.history.newest
        if delivered is None:  # only a contact can show which CRLs the host has
            return receipt is None or self.history.is_damaged(receipt.release)
        destination = self.destination and self.destination()
        return preflight.revokes_more(payload, delivered, destination.canary if destination else 0)

    # -- delivery --

    def deliver(self, now: datetime) -> Outcome:
        """Deliver the release, record the receipt, and return the outcome.

        Raises PkiError with the host as it was; the next run tries again.
        """
        payload = self.desired_payload()
        if payload is None:
            raise PkiError("its release is missing", "./run doit")
        if not self.is_remote:
            return self._deliver_to_folder(payload, now)
        self.require_accepted_root()
        before = self.receipt
        if self.engine:
            return self._outcome(self.engine.deliver(self, now), before)
        try:
            change = self.change(payload, before, now)
            return self._outcome(self.record_outcome(change, change.deliver(self.delivered_payload), now), before)
        except PkiError as error:
            raise self.record_failure(payload, error, now) from None

    def _outcome(self, done: Sequence[Reason], before: Receipt | None) -> Outcome:
        """Return the outcome for a remote host; UNCHANGED when nothing was done there."""
        pin, after = self.pinned(), self.receipt
        is_back = pin and before and after != before and pin.since >= moment(before.delivered_at)  # pinned since then
        return Outcome(Verb.ROLLED_BACK if is_back else Verb.DEPLOYED, tuple(done)) if done else UNCHANGED

    def _deliver_to_folder(self, payload: Payload, now: datetime) -> Outcome:
        """Deliver into a folder. The outcome reports only foreign CRLs and lost records."""
        digests = {file.sha256 for file in payload.release.files}
        crls = installed_crls.read_from_folder(self.store.host_root(self.host), payload)
        installed = [crl for crl in crls if crl.digest not in digests]
        assert self.trust is not None
        foreign = installed_crls.check_no_regression(payload, installed, self.trust(), now) if installed else []
        reasons = foreign
        if self.has_lost_receipt:
            reasons = [Why.RECEIPT_DAMAGED(), *foreign]
            reasons += [Why.BOTH_DAMAGED()] if self.folder_transport.delivered(None) is None else []
        receipt = self.receipt
        if receipt and (drift := self._folder_drift(receipt)):
            self.history.add_log_entry(now, receipt.release, "drift", drift=[reason.as_json() for reason in drift])
        new_receipt = self.folder_transport.deliver(payload, receipt, now)
        new_receipt = replace(new_receipt, roots=preflight.root_subjects(payload, self.trust()))
        receipts.save(self.store.receipt(self.host), new_receipt)
        return Outcome(Verb.DEPLOYED, tuple(reasons))

    def crls_in_place(self) -> list[InstalledCrl]:
        """Return every CRL file of the release as the host has it, by one contact that changes nothing."""
        if (payload := self.desired_payload()) is None:
            raise PkiError("its release is missing", f"./run doit release:{self.host}")
        if not self.is_remote:
            return list(installed_crls.read_from_folder(self.store.host_root(self.host), payload))
        destination = self._resolve_destination()
        crls = installed_crls.fetch(destination.transport, payload.crls(), as_root=destination.as_root)
        self.history.record_installed_crls(one.content for one in crls)
        return crls

    def check(self, change: Change) -> ReleaseContents:
        """Check a release before it leaves, also against what the host has by our own records."""
        return change.check_release(self.delivered_payload)

    @property
    def delivered_payload(self) -> Payload | None:
        """Return the release that the host has by our own records, None if unknown."""
        receipt = self.receipt
        if receipt is None:
            return None
        return self.history.payload(receipt.release) if self.is_remote else self.desired_payload()

    def record_outcome(self, change: Change, outcome: HostOutcome, now: datetime) -> list[Reason]:
        """Record the outcome of a change: receipt, history and contact. Returns what was done."""
        receipt, previous = outcome.receipt, self.receipt
        if outcome.drift:
            self.history.add_log_entry(now, receipt.release, "drift", drift=[one.as_json() for one in outcome.drift])
        if previous and self._has_only_crls(change.payload):
            files = {file["path"]: file for file in (*previous.files, *receipt.files)}
            receipt = replace(receipt, release=previous.release, files=tuple(files[path] for path in sorted(files)))
        if receipt != previous:
            verifications = {name: str(seen) for name, seen in (receipt.verification or {}).items()}
            if previous and receipt == replace(previous, verification=receipt.verification):
                self.history.add_log_entry(now, receipt.release, "checked", verification=verifications)
            else:
                if any(not file.crl for file in change.payload.release.files):
                    self.history.keep_release(change.payload, pin.release if (pin := self.pinned()) else "")
                self.history.add_log_entry(
                    now, receipt.release, "delivered", files=len(outcome.done), verification=verifications
                )
            receipts.save(self.store.receipt(self.host), receipt)
        self.contact.succeeded(now, outcome.writable).save(self.store.contact(self.host))
        return list(outcome.done)

    def record_failure(self, payload: Payload, error: PkiError, now: datetime) -> PkiError:
        """Record that a change failed; returns the error to report."""
        self.contact.failed(now, error).save(self.store.contact(self.host))
        self.history.add_log_entry(now, payload.release.digest, "failed", why=error.message)
        if isinstance(error, UnreachableError):
            return PkiError(self._unreachable_text(now, error.last or error.message), error.hint, error.code)
        return error

    def change(self, payload: Payload, receipt: Receipt | None, now: datetime) -> Change:
        """Return the change that brings the host to `payload`."""
        is_pinned, is_part = self.pinned() is not None, self._has_only_crls(payload)
        if receipt and is_part:
            paths = {file.path for file in payload.release.files}
            receipt = replace(receipt, files=tuple(file for file in receipt.files if file["path"] in paths))
        destination, recall = self._resolve_destination(), self.history.crl
        return Change(destination, payload, receipt, now, pinned=is_pinned, recall=recall, is_part=is_part)

    def _resolve_destination(self) -> Destination:
        assert self.destination is not None
        return self.destination()

    def _unreachable_text(self, now: datetime, message: str) -> str:
        """Return `unreachable for 3 days; its certificate expires in 12 days`, with the message of ssh."""
        days, receipt = self.contact.days_failing(now), self.receipt
        text = f"unreachable for {counted(days, 'day')}" if days else "unreachable"
        if receipt and receipt.ends:
            left = math.floor((moment(receipt.ends) - now) / DAY)
            text += (
                f"; its certificate expires in {counted(left, 'day')}" if left >= 0 else "; its certificate has expired"
            )
        return f"{text} ({message})"

    def state(self, now: datetime) -> str:
        """Return what the operator needs to know about a remote host: pinned, failing, not verified, waiting; or ""."""
        receipt, parts = self.receipt, []
        if (pin := self.pinned()) and pin.release:
            parts.append(f"pinned to {pin.release[:12]} since {pin.since:%Y-%m-%d}")
        if failing_since := self.contact.failing_since:
            parts.append(f"failing since {failing_since[:10]}: {self.contact.message}")
        verifications = ((receipt and receipt.verification) or {}).items()
        if not_verified := [service for service, one in verifications if not one.is_verified]:
            parts.append(f"not verified: {', '.join(not_verified)}")
        if passed_on := [service for service, one in verifications if one.verdict is verification.Verdict.PASSED_ON]:
            parts.append(f"the probe is passed on: {', '.join(passed_on)}")
        if self.waits_for_root:
            parts.append(f"waits for {TASK}")
        if not self.may_change(now) and self._differences()[0]:
            parts.append(f"waits for its window {self.window}")
        return "; ".join(parts)
