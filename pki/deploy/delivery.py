"""Bringing a host up to its release: whether it must be, and doing it."""

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
from pki.common.errors import PkiError
from pki.common.reasons import UNCHANGED, Outcome, Reason, Verb, Why
from pki.config.fields import is_in_window
from pki.config.identifiers import ArtifactId
from pki.deploy import installed_crls, preflight, verification
from pki.deploy import receipt as receipts
from pki.deploy.contact import Contact
from pki.deploy.delivery_history import History
from pki.deploy.drift import from_json as drifted
from pki.deploy.folder import FolderTransport
from pki.deploy.installed_crls import InPlace
from pki.deploy.new_root import COMMAND, NO_ROOT, TASK, NewRoot
from pki.deploy.payload import Payload
from pki.deploy.preflight import Findings, Trust
from pki.deploy.receipt import Receipt, instant, moment, taken
from pki.deploy.ssh import UnreachableError
from pki.deploy.transaction import Change, Destination, HostOutcome
from pki.ledger.types import Pin
from pki.project.layout import Store

DAY = timedelta(days=1)
HURRY = 2 * DAY  # what is left to a certificate when its host's window no longer matters


class Engine(Protocol):
    """Something that delivers to many hosts in one go; it has told each what became of it when asked for that one."""

    def untold(self, host: str) -> list[Reason]:
        """What was done on a host in this run and is not said yet."""
        ...

    def deliver(self, delivery: Delivery, now: datetime) -> list[Reason]:
        """What was done, one phrase each. Raises PkiError with the host as it was, which is filed then."""
        ...


@dataclass
class Delivery:
    """One host and its release in the store. `way` is folder, ssh or local.

    `destination` is asked for when it is needed, and so is `trust`, all of it that a host in a folder needs.
    `engine` delivers to many hosts at once, this one among them, where our own dialogue does not. `pinned` is the release
    at which the host stays, if it does.
    """

    host: str
    store: Store
    way: str = "folder"
    window: str = ""
    destination: Callable[[], Destination] | None = None
    engine: Engine | None = None
    trust: Callable[[], Trust] | None = None
    pinned: Callable[[], Pin | None] = lambda: None
    root: Callable[[], NewRoot] = lambda: NO_ROOT

    # -- what is known without a look at the host --

    @property
    def is_remote(self) -> bool:
        return self.way != "folder"

    @cached_property
    def history(self) -> History:
        return History(self.store.history(self.host))

    @property
    def receipt(self) -> Receipt | None:
        return receipts.load(self.store.receipt(self.host))

    @property
    def has_lost_receipt(self) -> bool:
        """Whether something was delivered, and the receipt that says what is damaged."""
        return self.receipt is None and os.path.lexists(self.store.receipt(self.host))

    @property
    def contact(self) -> Contact:
        return Contact.load(self.store.contact(self.host))

    @property
    def transport(self) -> FolderTransport:
        return FolderTransport(self.store.host_root(self.host))

    def wanted(self) -> Payload | None:
        """What should be on the host: its release, or the one at which it is pinned, with the newest CRLs.

        CRLs alone where the files of that one are lost with `build/`, or nobody knows which it is.
        """
        present = Payload.of(self.store.release(self.host))
        pin = self.pinned() if self.is_remote else None
        if pin is None:
            return present
        receipt = self.receipt
        kept = self.history.payload(pin.release or (receipt.release if receipt else "-"))
        if kept is None:
            return present.crls() if present else None
        return kept.with_crls_of(present) if present else kept

    def _is_crls_alone(self, payload: Payload) -> bool:
        """Whether only the CRLs of a pinned host are known: its other files stay as they are there."""
        return self.is_remote and self.pinned() is not None and all(file.crl for file in payload.release.files)

    # -- whether it must be delivered --

    def stale(self, cache: Cache, now: datetime) -> list[Reason]:
        """Why the host must be delivered to: it never was, holds another release, drifted, or was not looked at lately."""
        if self.engine and (done := self.engine.untold(self.host)):
            return done
        name = ArtifactId("deploy", self.host)
        known = cache.recall(name, self._known)
        if known is not None and not self._is_due(known, now):
            return []
        reasons, watched = self._differences()
        if not reasons and not self.is_remote and (receipt := self.receipt):
            reasons = self.transport.drift(receipt)
            watched |= set(self.transport.watched(receipt))
        looked_at = self.contact.looked_at if self.is_remote else ""
        if not reasons and watched:
            files = [*watched, *([str(self.store.contact(self.host))] if self.is_remote else [])]
            cache.remember(name, self._known, files, [looked_at])
        if self.is_remote:
            if reasons and self.waits_for_root:
                return []
            reasons = reasons or self._contact_reasons(now)
            return reasons if reasons and (self.may_change(now) or self.is_urgent(now)) else []
        return reasons

    @property
    def _known(self) -> str:
        """What a finding depends on besides files."""
        pin = self.pinned() if self.is_remote else None
        return f"{self.way} pinned {pin.release}" if pin else self.way

    def _is_due(self, known: list[str], now: datetime) -> bool:
        return self.is_remote and (bool(self._contact_reasons(now)) or not known[0])

    def _contact_reasons(self, now: datetime) -> list[Reason]:
        contact = self.contact
        if contact.failing_since:
            return [Why.FAILING(date=contact.failing_since[:10])]
        if contact.drift:
            return list(contact.drift)
        return [Why.CHECK_DUE(date=contact.looked_at[:10] or "no day yet")] if contact.is_old(now) else []

    def _differences(self) -> tuple[list[Reason], set[str]]:
        """Where release and receipt differ, and the files that tell."""
        path = self.store.receipt(self.host)
        receipt, payload = receipts.load(path), self.wanted()
        if receipt is None:
            return [Why.RECEIPT_DAMAGED() if self.has_lost_receipt else Why.NEVER_DEPLOYED()], set()
        if payload is None:
            return [Why.RELEASE_MISSING()], set()
        wanted = {file.path: taken(file) for file in payload.release.files}
        has = {file["path"]: dict(file) for file in receipt.files}
        wanted = {path: file for path, file in wanted.items() if receipt.held.get(path) != file["sha256"]}
        reasons = [Why.ADDED(what=path) for path in wanted if path not in has]
        reasons += [Why.CHANGED(what=path) for path in wanted if path in has and has[path] != wanted[path]]
        if not self._is_crls_alone(payload):
            reasons += [Why.SURPLUS(file=path) for path in has if path not in wanted]
        return reasons, {str(path), *payload.watched}

    @property
    def drift(self) -> Sequence[Reason]:
        """What is known to be otherwise on the host than it was deployed: looked at in a folder, else by the last look."""
        if self.is_remote:
            return (*self.contact.drift, *self.contact.writable)
        receipt = self.receipt
        return self._folder_drift(receipt) if receipt else ()

    def _folder_drift(self, receipt: Receipt) -> list[Reason]:
        return [one for one in self.transport.drift(receipt) if one.code is not Why.LIST_DAMAGED]

    def repaired(self, at: datetime) -> Sequence[Reason]:
        """What a run that began at some moment found drifted on the host, and repaired."""
        notes = self.history.notes()
        return [one for note in notes if note["at"] == instant(at) for one in drifted(note.get("drift"))]

    def found_drift(self, found: Sequence[Reason], writable: Sequence[Reason] = ()) -> None:
        """Keep what a look found, for the next run and for health; nothing where that is known already."""
        contact = replace(self.contact, drift=tuple(found), writable=tuple(writable))
        if self.is_remote and self.contact != contact:
            with suppress(PkiError):  # where nothing can be written, it is told all the same
                contact.save(self.store.contact(self.host))

    def found_unreached(self, error: PkiError, now: datetime) -> None:
        """Keep that a look could not be held; the next run tries again."""
        if self.is_remote:
            with suppress(PkiError):
                self.contact.failed(now, error).save(self.store.contact(self.host))

    def is_behind(self, cache: Cache) -> bool:
        """Whether the host is owed something, as far as is known here: it waits for its window, a person or the next run."""
        name = ArtifactId("deploy", self.host)
        known = cache.seen(name) is not None or cache.recall(name, self._known) is not None
        return not known and bool(self._differences()[0])

    # -- when it may be --

    @property
    def has_another_root(self) -> bool:
        """Whether the host was deployed under a root that no cross-certificate connects with the present one."""
        root, receipt = self.root(), self.receipt
        if not self.is_remote or not root.fingerprint or self.trust is None:
            return False
        return root.is_strange_to(receipt, lambda: self.delivered if receipt else self.history.newest, self.trust())

    @property
    def waits_for_root(self) -> bool:
        """Whether nothing is delivered to the host before its new root is accepted."""
        return self.has_another_root and not self.root().is_accepted(self.host)

    def insist_on_root(self) -> None:
        """Raise PkiError while the host waits for its new root to be accepted."""
        if self.waits_for_root:
            what = f"was deployed under another root, and {self.root().text} is not accepted for it"
            raise PkiError(what, f"{COMMAND} {self.host}")

    def may_change(self, now: datetime) -> bool:
        """Whether the host's window is open, in the local time of this machine."""
        return not self.window or is_in_window(now.astimezone().time(), self.window)

    def is_urgent(self, now: datetime) -> bool:
        """Whether something on the host runs out before the window would open again, or a revocation must get there."""
        receipt, payload = self.receipt, self.wanted()
        if (receipt is None and not self.has_lost_receipt) or payload is None:
            return False
        if receipt and receipt.ends and moment(receipt.ends) - now < HURRY:
            return True
        delivered = self.history.payload(receipt.release) if receipt else self.history.newest
        if delivered is None:  # nobody here knows what the host has: only a contact can tell what it lacks
            return receipt is None or self.history.is_damaged(receipt.release)
        to = self.destination and self.destination()
        return preflight.revokes_more(payload, delivered, to.canary if to else 0)

    # -- doing it --

    def deliver(self, now: datetime) -> Outcome:
        """Deliver the release and keep the receipt; the outcome of a remote host tells what was done there.

        Raises PkiError with the host as it was; the next run tries again.
        """
        payload = self.wanted()
        if payload is None:
            raise PkiError("its release is not there", "./run doit")
        if not self.is_remote:
            return self._place(payload, now)
        self.insist_on_root()
        before = self.receipt
        if self.engine:
            return self._outcome(self.engine.deliver(self, now), before)
        try:
            change = self.change(payload, before, now)
            return self._outcome(self.file(change, change.bring(self.delivered), now), before)
        except PkiError as error:
            raise self.failed(payload, error, now) from None

    def _outcome(self, done: Sequence[Reason], before: Receipt | None) -> Outcome:
        """Return what became of a remote host; nothing was done on one that was as it should be."""
        pin, after = self.pinned(), self.receipt
        is_back = pin and before and after != before and pin.since >= moment(before.delivered_at)  # pinned since then
        return Outcome(Verb.ROLLED_BACK if is_back else Verb.DEPLOYED, tuple(done)) if done else UNCHANGED

    def _place(self, payload: Payload, now: datetime) -> Outcome:
        """The same for a host in a folder, which tells only of what was there and should not have been."""
        ours = {file.sha256 for file in payload.release.files}
        found = [
            one for one in installed_crls.in_folder(self.store.host_root(self.host), payload) if one.digest not in ours
        ]
        assert self.trust is not None
        foreign = installed_crls.guard(payload, found, self.trust(), now) if found else []
        told = foreign
        if self.has_lost_receipt:
            told = [Why.RECEIPT_DAMAGED(), *foreign]
            told += [Why.BOTH_DAMAGED()] if self.transport.delivered(None) is None else []
        known = self.receipt
        if known and (drift := self._folder_drift(known)):
            self.history.note(now, known.release, "drift", drift=[one.as_json() for one in drift])
        receipt = self.transport.deliver(payload, known, now)
        receipts.save(self.store.receipt(self.host), replace(receipt, roots=preflight.roots(payload, self.trust())))
        return Outcome(Verb.DEPLOYED, tuple(told))

    def crls_in_place(self) -> list[InPlace]:
        """Every CRL file of the release as the host has it: one contact, which changes nothing there."""
        if (wanted := self.wanted()) is None:
            raise PkiError("its release is not there", f"./run doit release:{self.host}")
        if not self.is_remote:
            return list(installed_crls.in_folder(self.store.host_root(self.host), wanted))
        to = self._to()
        found = installed_crls.look(to.way, wanted.crls(), as_root=to.as_root)
        self.history.saw(one.content for one in found)
        return found

    def check(self, change: Change) -> Findings:
        """Look at a release before it leaves, held against what the host has by our own memory."""
        return change.check(self.delivered)

    @property
    def delivered(self) -> Payload | None:
        """What the host has, by our own memory."""
        receipt = self.receipt
        if receipt is None:
            return None
        return self.history.payload(receipt.release) if self.is_remote else self.wanted()

    def file(self, change: Change, outcome: HostOutcome, now: datetime) -> list[Reason]:
        """Keep what became of a change: receipt, history and contact."""
        taken, known = outcome.receipt, self.receipt
        if outcome.drift:
            self.history.note(now, taken.release, "drift", drift=[one.as_json() for one in outcome.drift])
        if known and self._is_crls_alone(change.payload):
            files = {file["path"]: file for file in (*known.files, *taken.files)}
            taken = replace(taken, release=known.release, files=tuple(files[path] for path in sorted(files)))
        if taken != known:
            verifications = {name: str(seen) for name, seen in (taken.verification or {}).items()}
            if known and taken == replace(known, verification=taken.verification):
                self.history.note(now, taken.release, "looked at", verification=verifications)
            else:
                if any(not file.crl for file in change.payload.release.files):
                    self.history.keep(change.payload, pin.release if (pin := self.pinned()) else "")
                self.history.note(now, taken.release, "delivered", files=len(outcome.done), verification=verifications)
            receipts.save(self.store.receipt(self.host), taken)
        self.contact.well(now, outcome.writable).save(self.store.contact(self.host))
        return list(outcome.done)

    def failed(self, payload: Payload, error: PkiError, now: datetime) -> PkiError:
        """Keep that a change failed; returns the error as it is to be told."""
        self.contact.failed(now, error).save(self.store.contact(self.host))
        self.history.note(now, payload.release.digest, "failed", why=error.message)
        if isinstance(error, UnreachableError):
            return PkiError(self._time_left(now, error.last or error.message), error.hint, error.code)
        return error

    def change(self, payload: Payload, receipt: Receipt | None, now: datetime) -> Change:
        held, is_part = self.pinned() is not None, self._is_crls_alone(payload)
        if receipt and is_part:
            paths = {file.path for file in payload.release.files}
            receipt = replace(receipt, files=tuple(file for file in receipt.files if file["path"] in paths))
        return Change(self._to(), payload, receipt, now, held=held, recall=self.history.crl, is_part=is_part)

    def _to(self) -> Destination:
        assert self.destination is not None
        return self.destination()

    def _time_left(self, now: datetime, message: str) -> str:
        """`unreachable for 3 days; its certificate runs out in 12 days`, with what ssh said."""
        days, receipt = self.contact.days_failing(now), self.receipt
        since = f"unreachable for {days} day{'s' if days != 1 else ''}" if days else "unreachable"
        if receipt and receipt.ends:
            left = math.floor((moment(receipt.ends) - now) / DAY)
            since += f"; what it has runs out in {left} days" if left >= 0 else "; what it has ran out"
        return f"{since} ({message})"

    # -- for people --

    def state(self, now: datetime) -> str:
        """What a person should know about a remote host besides its reasons: held, not verified, waiting; else empty."""
        receipt, told = self.receipt, []
        if (pin := self.pinned()) and pin.release:
            told.append(f"held at {pin.release[:12]} since {pin.since:%Y-%m-%d}")
        if contact := self.contact.failing_since:
            told.append(f"failing since {contact[:10]}: {self.contact.message}")
        seen = ((receipt and receipt.verification) or {}).items()
        if not_verified := [service for service, one in seen if not one.is_verified]:
            told.append(f"not verified: {', '.join(not_verified)}")
        if passed := [service for service, one in seen if one.verdict is verification.Verdict.PASSED_ON]:
            told.append(f"the probe is passed on: {', '.join(passed)}")
        if self.waits_for_root:
            told.append(f"waits for {TASK}")
        if not self.may_change(now) and self._differences()[0]:
            told.append(f"waits for its window {self.window}")
        return "; ".join(told)
