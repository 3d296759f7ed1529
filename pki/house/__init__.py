"""One house: what should be, what is on disk, the ledger, and the moment at which they are compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki import inventory, store
from pki.errors import RESTORE, LedgerError, PkiError
from pki.house import decided
from pki.house.clock import ClockGuard, Evidence
from pki.house.cross_certificates import vouching
from pki.house.generations import Generation, Rung, damaged, is_copy, is_signed_by, read_certificate, read_rung
from pki.house.keys import Keys
from pki.house.ledger_cache import LedgerCache
from pki.house.ledger_guard import Guard, fault_of
from pki.house.missing_roots import MissingRoot, find_missing, receipts, refusal
from pki.issue import Issuer
from pki.memo import Memo, signature
from pki.model import CrlRule, Inventory
from pki.passphrases import Passphrases
from pki.records import Head, Issued, Ledger, LedgerFault, Pin
from pki.store import Store


class Endable(Protocol):
    def end(self) -> None: ...


E = TypeVar("E", bound=Endable)

__all__ = ["Generation", "House", "Rung"]


@dataclass
class House:
    """Inventory, store and ledger at one moment. Everything that is read twice in a run is kept here."""

    inventory: Inventory
    store: Store
    passphrases: Passphrases
    now: datetime
    memo: Memo
    evidence: Callable[[House], Evidence] | None = None  # what others say of the time; the kernel alone by default
    verified: set[bytes] = field(default_factory=set)  # SHA-256 of each truth and CRL that this run found well signed
    coming: tuple[str, ...] = ()  # generations that this run itself is about to make: the sandbox does
    damaged: dict[str, str] = field(default_factory=dict)  # files that are not as they were written, and what follows
    recovered: dict[str, bytes] = field(default_factory=dict)  # PEM of generations whose file is damaged, by the ledger
    asked: frozenset[str] = frozenset()  # the tasks that this run was asked for; none when no run is on
    _at_end: list[Endable] = field(default_factory=list)
    _generations: dict[str, tuple[int, Generation]] = field(default_factory=dict)
    _newest: dict[str, Generation] = field(default_factory=dict)
    _rungs: dict[str, tuple[int, list[Rung]]] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path, now: datetime, evidence: Callable[[House], Evidence] | None = None) -> House:
        """Read pki.yaml below `home`. Raises InventoryError with every fault in it."""
        path, memo = home / "pki.yaml", Memo(home, now)
        data = inventory.read(path)
        known = hashlib.sha256(data).hexdigest()  # the whole cache knows the code
        said = inventory.sound(tree) if (tree := memo.recall("pki.yaml", known)) is not None else None
        if said is None:
            said, tree = inventory.load_with_tree(path, data)
            memo.remember("pki.yaml", known, [], tree)
        place = Store(home)
        return cls(said, place, Passphrases(place, said.secrets), now, memo, evidence)

    # -- what is lost --

    @cached_property
    def missing_roots(self) -> tuple[MissingRoot, ...]:
        """The roots that pki.yaml names, or that `build/` shows, and that `ca/` does not contain.

        Under `sandbox: true` also those under which real hosts were deployed.
        """
        found = find_missing(self.inventory, self.store)
        if found:  # one whose file is damaged is not missing where the ledger has a copy
            found = tuple(one for one in found if one.fingerprint not in self._recovered_roots())
        if found or not self.inventory.sandbox:
            return found
        folder = str(self.store.receipt("x").parent)
        if (kept := self.memo.recall("roots of real hosts", "")) is None:
            kept = [[one.name, one.fingerprint, one.evidence] for one in receipts(self.store, real_hosts=True)]
            self.memo.remember("roots of real hosts", "", [folder], kept)
        return tuple(MissingRoot(*one) for one in kept)

    def _recovered_roots(self) -> set[str]:
        found = set[str]()
        for name in self.store.generations("root"):
            with suppress(PkiError):
                found |= {one.fingerprint} if (one := self.generation(name)) and name in self.recovered else set()
        return found

    def insist_on_roots(self) -> None:
        """Raise PkiError where a root is missing, or pki.yaml says `sandbox: true` beside a root that is not one's."""
        if self.missing_roots:
            raise refusal(self.missing_roots, self.inventory, self.store)
        for name in self.store.generations("root") if self.inventory.sandbox else ():
            if (root := self.generation(name)) and not root.is_sandbox:
                raise PkiError(
                    f"pki.yaml says sandbox: true, and {name} in ca/ (SHA-256 {root.fingerprint}) is not of a sandbox",
                    "take sandbox: true out of pki.yaml; a sandbox needs a folder of its own: ./run invoke init DIR",
                )

    @cached_property
    def ledger(self) -> Ledger:
        if not (self.store.ca / store.PROJECT_ID).exists():
            self.insist_on_roots()  # opening it might make one
        # SQLAlchemy takes longer to import than the rest of a run with nothing to do, which has no use for it.
        opened: Ledger = import_module("pki.ledger").Ledger(
            self.inventory.ledger, self.store.ca, self.insist_on_ledger, self.clock.insist
        )
        return opened

    # -- authorities --

    def existing(self, name: str) -> Generation:
        """A generation that is known to be there."""
        found = self.generation(name)
        assert found is not None, name
        return found

    def generation(self, name: str) -> Generation | None:
        """A generation by name, None while it has no certificate."""
        path = (
            self.keys.adopted_files(name)[0] if self.is_adopted(name) else self.store.authority_file(name, "cert.pem")
        )
        state = signature([os.fspath(path)])
        kept = self._generations.get(name)
        if kept and kept[0] == state:
            return kept[1]
        data = store.read(path)
        if data is None:
            return None
        if self.is_adopted(name):
            cert = read_certificate(data, self.store.shown(path), is_ours=False)
        else:
            cert, data = self._authority(name, path, data)
        whole = name.startswith("root-") or self.is_adopted(name)
        sent = data if whole else data + self._cross_chain(cert)
        fingerprint, chain_digest = cert.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(sent).hexdigest()
        found = Generation(name, cert, data, fingerprint, sent, chain_digest)
        if found.is_sandbox and not self.inventory.sandbox:
            raise PkiError(
                f"{self.store.shown(path)}: is a sandbox authority, and pki.yaml does not say sandbox: true",
                "move ca/ and offline/ away, then hold a root ceremony: ./run invoke ceremony.request",
            )
        self._generations[name] = (state, found)
        return found

    def _cross_chain(self, intermediate: x509.Certificate) -> bytes:
        """The cross-certificates of an intermediate's root that have not ended."""
        root = self.root_of(intermediate)
        parts = []
        for path in self.store.cross_certificates(root.name) if root else ():
            data, shown = store.read(path) or b"", self.store.shown(path)
            cross, signer = read_certificate(data, shown), self.generation(path.stem.removeprefix("cross-"))
            if signer and not is_signed_by(cross, signer.certificate):
                raise damaged(shown, f"its signature is not that of {signer.name}")
            parts += [data] if cross.not_valid_after_utc >= self.now else []
        return b"".join(parts)

    def _authority(self, name: str, path: Path, data: bytes) -> tuple[x509.Certificate, bytes]:
        """The certificate of an authority of our own, and its PEM; where the file is damaged, as the ledger has them.

        Raises PkiError that names the file where neither is sound.
        """
        shown = self.store.shown(path)
        try:
            cert = read_certificate(data, shown)
            self._insist_on_signature(name, cert, path)
        except PkiError as error:
            if (recorded := self._recorded(name, data)) is None:
                raise
            cert = read_certificate(recorded, shown)
            self._insist_on_signature(name, cert, path)
            self.recovered[name] = recorded
            self.damaged[shown] = (
                f"{error.message.removeprefix(f'{shown}: ')}; the next run puts the ledger's copy there"
            )
            return cert, recorded
        self.recovered.pop(name, None)
        self.damaged.pop(shown, None)
        return cert, data

    def _recorded(self, name: str, data: bytes) -> bytes | None:
        """The PEM of the one certificate in the ledger of which `data` is a damaged copy, None where nobody can tell."""
        if not (self.store.ca / store.PROJECT_ID).exists():  # opening the ledger might make one
            return None
        try:
            issued = (
                self.ledger.certificates(artifact=f"authority:{name.rpartition('-')[0]}") if self.has_ledger else []
            )
        except LedgerError:
            return None
        found = {pem for one in issued if is_copy(data, pem := one.pem.encode())}
        return found.pop() if len(found) == 1 else None

    def _insist_on_signature(self, name: str, cert: x509.Certificate, path: Path) -> None:
        """Raise PkiError unless the root that an authority's certificate names signed it, as far as that root is here."""
        if name.startswith("root-"):
            signers = [(name, cert)]
        else:
            roots = filter(None, map(self.generation, self.store.generations("root")))
            signers = [(one.name, one.certificate) for one in roots if one.is_named_by(cert)]
        if signers and not any(is_signed_by(cert, signer) for _, signer in signers):
            raise damaged(self.store.shown(path), f"its signature is not that of {signers[0][0]}")

    def root_of(self, intermediate: x509.Certificate) -> Generation | None:
        """The root whose name an intermediate bears as its issuer."""
        found = (self.generation(name) for name in self.store.generations("root"))
        return next((root for root in found if root and root.certificate.subject == intermediate.issuer), None)

    def vouching(self, root: Generation) -> frozenset[str]:
        """SHA-256 of the roots from which cross-certificates lead to a root, itself included."""
        roots = [one for name in self.store.generations("root") if (one := self.generation(name))]
        return vouching(self.store, roots, root, self.now)

    def live(self, authority: str) -> list[str]:
        """Names of the generations that neither ended nor were revoked, oldest first, then those that are coming.

        The newest one's when there is none of them, the first one's while there is none at all.
        """
        names = self.store.generations(authority)
        live = [n for n in names if (found := self.generation(n)) and self.is_live(found)]
        live += [n for n in self.coming if n.rpartition("-")[0] == authority and n not in names]
        return live or names[-1:] or [f"{authority}-1"]

    def before(self, found: Generation) -> str:
        """That the clock stands before a generation begins, as a phrase; empty when it does not."""
        start = found.certificate.not_valid_before_utc
        if start <= self.now:
            return ""
        return f"the clock stands at {self.now:%Y-%m-%d %H:%M} UTC, and {found.name} begins on {start:%Y-%m-%d %H:%M}"

    def is_live(self, found: Generation) -> bool:
        return found.certificate.not_valid_after_utc >= self.now and not self.is_revoked_by_root(found)

    def is_revoked_by_root(self, found: Generation) -> bool:
        """Whether a root's ladder lists a generation."""
        serial = found.certificate.serial_number
        return any(serial in serials for root in self.store.generations("root") for _, _, serials in self.rungs(root))

    def issuing(self, authority: str) -> Generation | None:
        """Return the generation that signs: the newest one that is not revoked and has begun. Once there is one, it is kept.

        A clock that was ahead once may have left one that begins in the future. The newest one where none has begun.
        """
        found = self._newest.get(authority)
        if found is None and (names := self.store.generations(authority)):
            there = (self.generation(name) for name in reversed(names))
            sound = (one for one in there if one and not self.is_revoked_by_root(one))
            newest = next(sound, None)
            if newest is not None:
                found = next((one for one in chain((newest,), sound) if not self.before(one)), newest)
                self._newest[authority] = found
        return found

    def look_again(self) -> None:
        """Forget which generations sign: a ceremony was held meanwhile."""
        self._newest.clear()

    def rungs(self, root: str) -> list[Rung]:
        """The pre-signed CRLs of a root that bear its signature, lowest number first."""
        paths = self.store.rungs(root)
        state = signature([os.fspath(path) for path in paths])
        kept = self._rungs.get(root)
        if kept is None or kept[0] != state:
            issuer = self.generation(root)
            read = {path: read_rung(store.read(path) or b"", path, issuer) for path in paths} if issuer else {}
            for path in (path for path, rung in read.items() if rung is None):
                self.damaged[self.store.shown(path)] = f"is damaged, or not signed by {root}, and is never published"
            kept = self._rungs[root] = (state, [rung for rung in read.values() if rung])
        return kept[1]

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.store, self.passphrases, self.inventory.authorities.adopted)

    def issuer(self, authority: str) -> Issuer:
        """The issuing generation with its key opened. Raises PkiError with the command that mends what is missing."""
        self.clock.insist()
        found = self.issuing(authority)
        if found is None:
            raise self.missing_authority(authority)
        self.insist_on_ledger()
        return self.keys.issuer(found)

    def crl_issuer(self, found: Generation) -> Issuer:
        """A generation with its key opened now, which may be an older one: it signs CRLs. Raises PkiError."""
        self.clock.insist()
        self.insist_on_ledger()
        return self.keys.open(found)

    def missing_authority(self, name: str) -> PkiError:
        """That there is no certificate of an authority; where there is a root, it may be lost."""
        ceremony = "hold a root ceremony: ./run invoke ceremony.request"
        if self.store.generations("root"):
            hint = f"{RESTORE}, where it was there before; else {ceremony}"
        else:
            hint = f"{ceremony}; or set sandbox: true in pki.yaml to try things out"
        return PkiError(f"there is no {name} authority in ca/{name}/", hint)

    def is_adopted(self, name: str) -> bool:
        """Whether an authority was made elsewhere: it signs CRLs, and nothing else."""
        return name in self.inventory.authorities.adopted

    def crl_rule(self, generation: str) -> CrlRule:
        """Lifetime and refresh of the CRLs of an intermediate, or of an adopted authority."""
        authorities = self.inventory.authorities
        if rule := authorities.adopted.get(generation):
            return rule.crl
        return authorities.server.crl if generation.startswith("server-") else authorities.client.crl

    # -- the clock --

    @cached_property
    def clock(self) -> ClockGuard:
        """Whether the clock can be believed: asked before anything is signed or recorded."""
        return ClockGuard(self.now, self.last_event, partial(self.evidence, self) if self.evidence else None)

    def last_event(self) -> datetime | None:
        """When the newest event was recorded; None while there is no ledger, or nothing in it."""
        if not self.has_ledger:
            return None
        kept = self.recall_from_ledger("last event", "")
        if kept is None:
            kept = [int(one.at.timestamp()) for one in self.ledger.events(last=1)]
            self.remember_from_ledger("last event", "", kept)
        return datetime.fromtimestamp(kept[0], UTC) if kept else None

    # -- the ledger, when it has something new to say --

    def is_revoked(self, serial: int, *, seen_before: bool) -> bool:
        """Whether a certificate was revoked.

        One that was `seen_before` as it is now costs no look into a ledger that is settled: the last run that ended
        well acted on all that this holds.
        """
        return not (seen_before and self.ledger_is_settled) and serial in self._revoked_serials

    @cached_property
    def _revoked_serials(self) -> frozenset[int]:
        kept = self.recall_from_ledger("revoked", "")
        if isinstance(kept, str):
            return frozenset(int(serial, 16) for serial in kept.split())
        return self.ledger.revoked_serials(self.now) if self.has_ledger else frozenset()

    def look_again_at_revocations(self) -> None:
        """Forget what was revoked: this run itself revoked something."""
        for known in ("ledger_is_settled", "_revoked_serials"):
            self.__dict__.pop(known, None)

    @cached_property
    def withheld(self) -> dict[str, datetime]:
        """Artifacts that were revoked and are not to be replaced before a person says so, each with the time since when."""
        self.recall_from_ledger("plan", "")  # everything that is planned follows from the ledger as it is now, or later
        kept = self.recall_from_ledger("withheld", "")
        if kept is None:
            kept = decided.withheld(self.ledger.decisions()) if self.has_ledger else {}
        return {artifact: datetime.fromtimestamp(at, UTC) for artifact, at in kept.items()}

    @cached_property
    def accepted_roots(self) -> dict[str, list[str]]:
        """SHA-256 of the roots that were accepted for hosts that had another one, by host."""
        kept = self.recall_from_ledger("accepted roots", "")
        if kept is None:
            kept = decided.accepted_roots(self.ledger.decisions()) if self.has_ledger else {}
            self.remember_from_ledger("accepted roots", "", kept)
        found: dict[str, list[str]] = kept
        return found

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger to ask: one that can be read, and is this project's."""
        if self._is_sqlite and not (self.store.ca / "ledger.db").exists():
            return False
        return self._unreadable is None

    @property
    def _is_sqlite(self) -> bool:
        return self.inventory.ledger == "sqlite"

    @cached_property
    def _unreadable(self) -> LedgerFault | None:
        """Why the ledger cannot even be asked: it is empty, another project's, damaged or out of reach."""
        if self._is_sqlite and self.recall_from_ledger("readable", ""):
            return None
        try:
            self.ledger.head()
        except PkiError as error:
            return fault_of(error)
        return None

    @property
    def guard(self) -> Guard:
        """What holds the ledger against all that was seen of it."""
        there = list[Generation]()
        for name in store.AUTHORITIES:
            with suppress(PkiError):  # said where the authority is read
                there += [found] if (found := self.issuing(name)) else []
        seen = self.store.seen_heads()
        match self.memo.recall("seen head", ""):
            case [int(seq), str(digest), int(revocations)]:
                seen.append(Head(seq, digest, "build/.seen.json", revocations))
        return Guard(self.store, self._is_sqlite, lambda: self.ledger, seen, there, self.generation)

    @cached_property
    def ledger_fault(self) -> LedgerFault | None:
        """Why nothing may be signed or recorded, None where nothing speaks against it."""
        guard = self.guard
        if not guard.is_missing and self._unreadable:
            return self._unreadable
        if self.recall_from_ledger("guard", guard.known):
            return None
        return guard.fault()

    def can_sign(self, name: str) -> bool:
        """Whether the key of a generation opens; of one whose passphrase is elsewhere, as far as can be seen without it."""
        found = self.generation(name)
        if found is None or self.is_adopted(name):
            return True
        with suppress(PkiError):
            if self.keys.fault(name) is None:
                in_file = self.store.authority_file(name, "key.pem").exists()
                return not in_file or self.passphrases.is_elsewhere(name) or bool(self.keys.issuer(found))
        return False

    def key_faults(self) -> dict[str, PkiError]:
        """What is wrong with the keys that sign or wait for a ceremony, by generation, as far as it can be seen without a passphrase."""
        there = [one.name for authority in ("server", "client") if (one := self.issuing(authority))]
        names = [*there, *self.store.prepared()]
        seen = {name: fault for name in names if (fault := self.keys.fault(name))}
        return {**seen, **{name: fault for name, fault in self.keys.closed.items() if not self.is_adopted(name)}}

    def insist_on_ledger(self) -> None:
        """Raise LedgerError where nothing may be signed or recorded, even if nothing has asked for it."""
        if self.ledger_fault:
            raise LedgerError.of(self.ledger_fault)

    def look_again_at_ledger(self) -> None:
        """Forget what the guard found: something was recovered, or a loss accepted."""
        for known in ("ledger_fault", "_unreadable", "pins"):
            self.__dict__.pop(known, None)
        self.look_again_at_revocations()

    # -- hosts that are pinned --

    @cached_property
    def pins(self) -> dict[str, Pin] | None:
        """Hosts that stay at an earlier release; None where nobody knows, because the ledger is lost and the cache too.

        Where the ledger is not what was seen, the cache is believed: a host is never unpinned by a fault.
        """
        if self.ledger_fault:
            kept = self.memo.recall("seen pins", "")
        elif (kept := self.recall_from_ledger("pins", "")) is None:
            kept = decided.pins(self.ledger.decisions()) if self.has_ledger else {}
        if kept is None:
            return None
        return {host: Pin(release, datetime.fromtimestamp(at, UTC)) for host, (release, at) in kept.items()}

    def pin(self, host: str) -> Pin | None:
        """The release at which a host is pinned, if it is; one without a digest where nobody knows."""
        return Pin("", self.now) if self.pins is None else self.pins.get(host)

    def unexpired(self) -> list[Issued]:
        """What the ledger holds of certificates that have not expired."""
        return self.ledger.certificates(since=self.now) if self.has_ledger else []

    @cached_property
    def ledger_is_settled(self) -> bool:
        return self.is_ledger_as_it_was()

    def is_ledger_as_it_was(self) -> bool:
        """Whether the ledger is settled at this very moment: another process of the run may have added to it."""
        return self.recall_from_ledger("settled", "") is not None

    def close(self, *, settled: bool) -> None:
        """Close the ledger. When everything ended well (`settled`), remember that it asks for nothing more.

        What it holds of revocations and decisions is remembered too: every process that delivers would have to open it
        for them.
        """
        if settled and self.recall_from_ledger("settled", "") is None:
            self._cache.remember("settled", "", True, since="plan")
        if self.recall_from_ledger("revoked", "") is None and "ledger" in self.__dict__:
            # one text, which is read in no time where nobody asks for what is in it
            found = " ".join(f"{serial:x}" for serial in sorted(self.ledger.revoked_serials(self.now)))
            self.remember_from_ledger("revoked", "", found)
        if self.recall_from_ledger("withheld", "") is None and "ledger" in self.__dict__:
            self.remember_from_ledger("withheld", "", decided.withheld(self.ledger.decisions()))
        if self.has_ledger:
            self._remember_what_was_seen()
        if "ledger" in self.__dict__:
            self.ledger.close()
        for one in self._at_end:
            one.end()

    def ended_with(self, one: E) -> E:
        """Something that `close` is to end."""
        self._at_end.append(one)
        return one

    def _remember_what_was_seen(self) -> None:
        """Remember the ledger's head, so that an older ledger is noticed, and what must outlast its loss."""
        self.remember_from_ledger("readable", "", True)
        pins, head = self.recall_from_ledger("pins", ""), self.recall_from_ledger("head", "")
        if pins is None:
            self.remember_from_ledger("pins", "", pins := decided.pins(self.ledger.decisions()))
        if head is None:
            self.remember_from_ledger("head", "", head := [*self.ledger.head()[:2], self.ledger.counts()[1]])
        for name, finding in (("seen pins", pins), ("seen head", head)):
            if self.memo.recall(name, "") != finding:
                self.memo.remember(name, "", [], finding)
        noted = self.store.seen_head(store.LEDGER_HEAD)
        if noted is None or list(noted[:2]) != head[:2]:
            self.ledger.note()
        guard = self.guard
        if not self.recall_from_ledger("guard", guard.known):
            self.remember_from_ledger("guard", guard.known, guard.fault() is None)

    @cached_property
    def _cache(self) -> LedgerCache:
        return LedgerCache(self.store, self.memo, self._is_sqlite, lambda: self.ledger, lambda: self.has_ledger)

    def recall_from_ledger(self, name: str, known: str) -> Any:
        """What was remembered of the ledger, if it is as it was then."""
        return self._cache.recall(name, known)

    def remember_from_ledger(self, name: str, known: str, finding: Any) -> None:
        """Remember what was read of the ledger after `recall_from_ledger` knew nothing of it."""
        self._cache.remember(name, known, finding)
