"""One house: what should be, what is on disk, the ledger, and the moment at which they are compared."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki import inventory, leaves, model, rules, scalars, store
from pki.errors import RESTORE, LedgerError, PkiError
from pki.house.cross_certificates import vouching
from pki.house.generations import Generation, Rung, read_rung
from pki.house.keys import Keys
from pki.house.missing_roots import MissingRoot, find_missing, receipts, refusal
from pki.issue import Issuer
from pki.memo import Memo, signature
from pki.model import CrlRule, Inventory
from pki.passphrases import Passphrases
from pki.records import BEGIN_ANEW, GONE, Issued, Ledger
from pki.store import Store

__all__ = ["Generation", "House", "Rung"]


@dataclass
class House:
    """Inventory, store and ledger at one moment. Everything that is read twice in a run is kept here."""

    inventory: Inventory
    store: Store
    passphrases: Passphrases
    now: datetime
    memo: Memo
    verified: set[bytes] = field(default_factory=set)  # SHA-256 of each truth and CRL that this run found well signed
    coming: tuple[str, ...] = ()  # generations that this run itself is about to make: the sandbox does
    asked: frozenset[str] = frozenset()  # the tasks that this run was asked for; none when no run is on
    _generations: dict[str, tuple[int, Generation]] = field(default_factory=dict)
    _newest: dict[str, Generation] = field(default_factory=dict)
    _rungs: dict[str, tuple[int, list[Rung]]] = field(default_factory=dict)
    _signing: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path, now: datetime) -> House:
        """Read pki.yaml below `home`. Raises InventoryError with every fault in it."""
        path, memo = home / "pki.yaml", Memo(home)
        known = str(signature([str(module.__file__) for module in (inventory, leaves, model, rules, scalars)]))
        said = inventory.sound(tree) if (tree := memo.recall("pki.yaml", known)) is not None else None
        if said is None:
            said, tree = inventory.load_with_tree(path)
            memo.remember("pki.yaml", known, [str(path)], tree)
        place = Store(home)
        return cls(said, place, Passphrases(place, said.secrets), now, memo)

    # -- what is lost --

    @cached_property
    def missing_roots(self) -> tuple[MissingRoot, ...]:
        """The roots that pki.yaml names, or that `build/` shows, and that `ca/` does not contain.

        Under `sandbox: true` also those under which real hosts were deployed.
        """
        found = find_missing(self.inventory, self.store)
        if found or not self.inventory.sandbox:
            return found
        folder = str(self.store.receipt("x").parent)
        if (kept := self.memo.recall("roots of real hosts", "")) is None:
            kept = [[one.name, one.fingerprint, one.evidence] for one in receipts(self.store, real_hosts=True)]
            self.memo.remember("roots of real hosts", "", [folder], kept)
        return tuple(MissingRoot(*one) for one in kept)

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
        if not self.has_ledger:
            self.insist_on_roots()  # opening it would make one
        # SQLAlchemy takes longer to import than the rest of a run with nothing to do, which has no use for it.
        opened: Ledger = import_module("pki.ledger").Ledger(self.inventory.ledger, self.store.ca)
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
        try:
            cert = x509.load_pem_x509_certificate(data)
        except ValueError:
            raise PkiError(
                f"{self.store.shown(path)}: is not a certificate",
                RESTORE,
            ) from None
        whole = name.startswith("root-") or self.is_adopted(name)
        chain = data if whole else data + self._cross_chain(cert)
        fingerprint, chain_digest = cert.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(chain).hexdigest()
        found = Generation(name, cert, data, fingerprint, chain, chain_digest)
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
        parts = [store.read(path) or b"" for path in (self.store.cross_certificates(root.name) if root else ())]
        return b"".join(p for p in parts if x509.load_pem_x509_certificate(p).not_valid_after_utc >= self.now)

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
        """The newest generation that is not revoked: the one that signs. Once there is one, it is kept."""
        found = self._newest.get(authority)
        if found is None and (names := self.store.generations(authority)):
            there = (self.generation(name) for name in reversed(names))
            found = next((one for one in there if one and not self.is_revoked_by_root(one)), None)
            if found is not None:
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
            found = [rung for path in paths if issuer and (rung := read_rung(store.read(path) or b"", path, issuer))]
            kept = self._rungs[root] = (state, found)
        return kept[1]

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.store, self.passphrases, self.inventory.authorities.adopted)

    def issuer(self, authority: str) -> Issuer:
        """The issuing generation with its key opened. Raises PkiError with the command that mends what is missing."""
        found = self.issuing(authority)
        if found is None:
            raise self.missing_authority(authority)
        return self.keys.issuer(found)

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
        kept = self.recall_from_ledger("withheld", "")
        if kept is None:
            kept = self._look_for_withheld() if self.has_ledger else {}
        return {artifact: datetime.fromtimestamp(at, UTC) for artifact, at in kept.items()}

    @cached_property
    def accepted_roots(self) -> dict[str, list[str]]:
        """SHA-256 of the roots that were accepted for hosts that had another one, by host."""
        kept = self.recall_from_ledger("accepted roots", "")
        if kept is None:
            kept = {}
            for one in self.ledger.decisions() if self.has_ledger else ():
                if one.decision == "root-accepted":
                    kept.setdefault(one.artifact.removeprefix("deploy:"), []).append(one.detail)
            self.remember_from_ledger("accepted roots", "", kept)
        found: dict[str, list[str]] = kept
        return found

    def _look_for_withheld(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in self.ledger.decisions():
            if one.decision == "withheld":
                found.setdefault(one.artifact, int(one.at.timestamp()))
            elif one.decision == "released":
                found.pop(one.artifact, None)
        return found

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger to ask; asking would make one, or fail where it is gone."""
        return self.inventory.ledger != "sqlite" or (self.store.ca / "ledger.db").exists()

    @property
    def has_lost_ledger(self) -> bool:
        """Whether there are authorities, and no ledger that knows them."""
        return not self.has_ledger and self.store.is_founded

    def can_sign(self, name: str) -> bool:
        """Whether the key of a generation opens; of one whose passphrase is elsewhere, as far as can be seen without it."""
        if name not in self._signing:
            self._signing[name] = self._opens(name)
        return self._signing[name]

    def _opens(self, name: str) -> bool:
        found = self.generation(name)
        if found is None or self.is_adopted(name):
            return True
        with suppress(PkiError):
            if self.keys.fault(name) is None:
                in_file = self.store.authority_file(name, "key.pem").exists()
                return not in_file or self.passphrases.is_elsewhere(name) or bool(self.keys.issuer(found))
        return False

    @cached_property
    def seen_key_faults(self) -> dict[str, PkiError]:
        """What `key_faults` says, looked at once."""
        return self.key_faults()

    def key_faults(self) -> dict[str, PkiError]:
        """What is wrong with the keys that sign or wait for a ceremony, by generation, as far as it can be seen without a passphrase."""
        there = [one.name for authority in ("server", "client") if (one := self.issuing(authority))]
        names = [*there, *self.store.prepared()]
        seen = {name: fault for name in names if (fault := self.keys.fault(name))}
        return {**seen, **{name: fault for name, fault in self.keys.closed.items() if not self.is_adopted(name)}}

    def insist_on_ledger(self) -> None:
        """Raise LedgerError where it is gone, even if nothing has asked for it."""
        if self.has_lost_ledger:
            raise LedgerError(GONE, BEGIN_ANEW)

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
            self.remember_from_ledger("settled", "", True)
        if self.recall_from_ledger("revoked", "") is None and "ledger" in self.__dict__:
            # one text, which is read in no time where nobody asks for what is in it
            found = " ".join(f"{serial:x}" for serial in sorted(self.ledger.revoked_serials(self.now)))
            self.remember_from_ledger("revoked", "", found)
        if self.recall_from_ledger("withheld", "") is None and "ledger" in self.__dict__:
            self.remember_from_ledger("withheld", "", self._look_for_withheld())
        if "ledger" in self.__dict__:
            self.ledger.close()

    def recall_from_ledger(self, name: str, known: str) -> Any:
        """What was remembered of the ledger, if it is as it was then."""
        found = self.memo.recall(f"ledger {name}", known) if self.inventory.ledger == "sqlite" else None
        return found[1] if found and found[0] == self._ledger_files() else None

    def remember_from_ledger(self, name: str, known: str, finding: Any) -> None:
        if self.inventory.ledger == "sqlite" and self.has_ledger:
            self.ledger.close()  # SQLite moves its log into the database: the state to remember is the one after
            files = self._ledger_files()
            self.memo.remember(f"ledger {name}", known, files, [files, finding])

    def _ledger_files(self) -> list[str]:
        log = self.store.ca / "ledger.db-wal"
        in_use = [str(log)] if log.exists() and log.stat().st_size else []
        return [str(self.store.ca / "ledger.db"), *in_use]
