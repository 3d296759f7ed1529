"""One project: what should be, what is on disk, the ledger, and the moment at which they are compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.common import filesystem
from pki.common.cache import Cache, signature
from pki.common.child_processes import LIBPQ_PASSWORD, withhold
from pki.common.errors import LedgerError, PkiError
from pki.common.remedies import RESTORE, run_for
from pki.config import loader
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.model import CrlRule
from pki.ledger import last_seen
from pki.project.ca_keys import Keys
from pki.project.clock_guard import ClockGuard, Evidence
from pki.project.cross_certificates import vouching
from pki.project.generations import Generation, PresignedCrl, damaged, is_copy, read_certificate, read_presigned_crl
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView
from pki.project.missing_roots import MissingRoot, find_missing, has_named_root, receipts, refusal
from pki.project.safe_directories import insist_on_owner
from pki.project.secrets import Passphrases
from pki.x509 import canonical
from pki.x509.certificate_signing import Issuer


@dataclass
class Project(LedgerView):
    """Inventory, store and ledger at one moment. Everything that is read twice in a run is kept here."""

    passphrases: Passphrases
    evidence: Callable[[Project], Evidence] | None = None  # what others say of the time; the kernel alone by default
    verified: set[bytes] = field(
        default_factory=set
    )  # SHA-256 of each PEM bundle and CRL that this run found well signed
    coming: tuple[GenerationName, ...] = ()  # generations that this run itself is about to make: the sandbox does
    damaged: dict[str, str] = field(default_factory=dict)  # files that are not as they were written, and what follows
    recovered: dict[str, bytes] = field(default_factory=dict)  # PEM of generations whose file is damaged, by the ledger
    asked: frozenset[str] = frozenset()  # the tasks that this run was asked for; none when no run is on
    _generations: dict[str, tuple[int, Generation]] = field(default_factory=dict)
    _newest: dict[str, tuple[Generation, str]] = field(default_factory=dict)
    _presigned_crls: dict[str, tuple[int, list[PresignedCrl]]] = field(default_factory=dict)
    _signing: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path, now: datetime, evidence: Callable[[Project], Evidence] | None = None) -> Project:
        """Read pki.yaml below `home`. Raises InventoryError with every fault in it, and PkiError where it is not ours."""
        insist_on_owner(home)
        path, cache = home / "pki.yaml", Cache(home, now)
        data = loader.read(path)
        known = hashlib.sha256(data).hexdigest()  # the whole cache knows the code
        said = loader.parse_valid(tree) if (tree := cache.recall("pki.yaml", known)) is not None else None
        if said is None:
            said, tree = loader.load_with_tree(path, data)
            cache.remember("pki.yaml", known, [], tree)
        place = Store(home)
        if said.ledger.startswith("postgresql"):
            withhold([LIBPQ_PASSWORD])
        return cls(said, place, now, cache, Passphrases(place, said.secrets), evidence)

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
        if (kept := self.cache.recall("roots of real hosts", "")) is None:
            kept = [[one.name, one.fingerprint, one.evidence] for one in receipts(self.store, real_hosts=True)]
            self.cache.remember("roots of real hosts", "", [folder], kept)
        return tuple(MissingRoot(*one) for one in kept)

    @property
    def is_older(self) -> bool:
        """Whether `ca/` is from before its newest root: it contains one that pki.yaml names, and lacks another."""
        return not self.inventory.sandbox and bool(self.missing_roots) and has_named_root(self.inventory, self.store)

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

    def expect_roots(self) -> None:
        """Go on although roots are missing: a response that brings all of them is about to be filed."""
        self.__dict__["missing_roots"] = ()
        self.look_again_at_ledger()

    # -- authorities --

    def generations(self, authority: str) -> list[GenerationName]:
        """Return the names of an authority's generations that have a certificate, oldest first."""
        return self.store.generations(authority)

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
        data = filesystem.read(path)
        if data is None:
            return None
        if self.is_adopted(name):
            cert = read_certificate(data, self.store.shown(path), is_ours=False)
        else:
            cert, data = self._authority(name, path, data)
        named = GenerationName.parse(name)
        whole = named.is_root or self.is_adopted(name)
        sent = data if whole else data + self._cross_chain(cert)
        fingerprint, chain_digest = cert.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(sent).hexdigest()
        found = Generation(named, cert, data, fingerprint, sent, chain_digest)
        if found.is_sandbox and not self.inventory.sandbox:
            raise PkiError(
                f"{self.store.shown(path)}: is a sandbox authority, and pki.yaml does not say sandbox: true",
                f"move ca/ and offline/ away, then hold a root ceremony: {run_for(self.store.home)} invoke ceremony.request",
            )
        self._generations[name] = (state, found)
        return found

    def _cross_chain(self, intermediate: x509.Certificate) -> bytes:
        """The cross-certificates of an intermediate's root that have not ended."""
        root = self.root_of(intermediate)
        parts = []
        for path in self.store.cross_certificates(root.name) if root else ():
            data, shown = filesystem.read(path) or b"", self.store.shown(path)
            cross, signer = read_certificate(data, shown), self.generation(path.stem.removeprefix("cross-"))
            if signer and not canonical.is_issued_by(cross, signer.certificate):
                raise damaged(shown, f"its signature is not that of {signer.name}")
            parts += [] if self.has_ended(cross.not_valid_after_utc) else [data]
        return b"".join(parts)

    def _authority(self, name: str, path: Path, data: bytes) -> tuple[x509.Certificate, bytes]:
        """The certificate of an authority of our own, and its PEM; where the file is damaged, as the ledger has them.

        Raises PkiError that names the file where neither is sound.
        """
        shown = self.store.shown(path)
        names = () if GenerationName.parse(name).is_root else self.store.generations("root")
        roots = list(filter(None, map(self.generation, names)))  # whatever is wrong with one of them is not this file's
        try:
            cert = read_certificate(data, shown)
            self._insist_on_signature(name, cert, roots, shown)
        except PkiError as error:
            if (recorded := self._recorded(name, data)) is None:
                raise
            cert = read_certificate(recorded, shown)
            self._insist_on_signature(name, cert, roots, shown)
            self.recovered[name] = recorded
            self.damaged[shown] = f"{error.what}; the next run puts the ledger's copy there"
            return cert, recorded
        self.recovered.pop(name, None)
        self.damaged.pop(shown, None)
        return cert, data

    def _recorded(self, name: str, data: bytes) -> bytes | None:
        """The PEM of the one certificate in the ledger of which `data` is a damaged copy, None where nobody can tell."""
        if not (self.store.ca / last_seen.PROJECT_ID).exists():  # opening the ledger might make one
            return None
        try:
            issued = (
                self.ledger.certificates(artifact=ArtifactId("authority", GenerationName.parse(name).authority))
                if self.has_ledger
                else []
            )
        except LedgerError:
            return None
        found = {pem for one in issued if is_copy(data, pem := one.pem.encode())}
        return found.pop() if len(found) == 1 else None

    def _insist_on_signature(self, name: str, cert: x509.Certificate, roots: list[Generation], shown: str) -> None:
        """Raise PkiError unless the root that an authority's certificate names signed it, as far as that root is here."""
        signers = [(one.name, one.certificate) for one in roots if one.is_named_by(cert)]
        named = GenerationName.parse(name)
        signers = [(named, cert)] if named.is_root else signers
        if signers and not any(canonical.is_issued_by(cert, signer) for _, signer in signers):
            raise damaged(shown, f"its signature is not that of {signers[0][0]}")

    def root_of(self, intermediate: x509.Certificate) -> Generation | None:
        """The root whose name an intermediate bears as its issuer."""
        found = (self.generation(name) for name in self.store.generations("root"))
        return next((root for root in found if root and root.certificate.subject == intermediate.issuer), None)

    def vouching(self, root: Generation) -> dict[str, datetime]:
        """SHA-256 of the roots from which cross-certificates lead to a root, itself included, and until when."""
        roots = [one for name in self.store.generations("root") if (one := self.generation(name))]
        return vouching(self.store, roots, root, self.has_ended)

    def live(self, authority: str) -> list[GenerationName]:
        """Names of the generations that neither ended nor were revoked, oldest first, then those that are coming.

        The newest one's when there is none of them, the first one's while there is none at all.
        """
        names = self.store.generations(authority)
        live = [n for n in names if (found := self.generation(n)) and self.is_live(found)]
        live += [n for n in self.coming if n.authority == authority and n not in names]
        return live or names[-1:] or [GenerationName(authority, 1)]

    def before(self, found: Generation) -> str:
        """That the clock stands before a generation begins, as a phrase; empty when it does not."""
        start = found.certificate.not_valid_before_utc
        if start <= self.now:
            return ""
        return f"the clock stands at {self.now:%Y-%m-%d %H:%M} UTC, and {found.name} begins on {start:%Y-%m-%d %H:%M}"

    def is_live(self, found: Generation) -> bool:
        return not self.has_ended(found.certificate.not_valid_after_utc) and not self.is_revoked_by_root(found)

    def is_revoked_by_root(self, found: Generation) -> bool:
        """Whether a root's series of pre-signed CRLs lists a generation."""
        serial = found.certificate.serial_number
        return any(
            serial in serials for root in self.store.generations("root") for _, _, serials in self.presigned_crls(root)
        )

    def issuing(self, authority: str) -> Generation | None:
        """Return the generation that signs: the newest one that is not revoked and has begun.

        A clock that was ahead once may have left one that begins in the future. The newest one where none has begun.
        It is kept until another generation comes, which a ceremony in another process of a parallel run may bring.
        """
        found, following = self._newest.get(authority, (None, ""))
        if (found is None or os.path.lexists(following)) and (names := self.store.generations(authority)):
            there = (self.generation(name) for name in reversed(names))
            sound = (one for one in there if one and not self.is_revoked_by_root(one))
            newest = next(sound, None)
            if newest is not None:
                found = next((one for one in chain((newest,), sound) if not self.before(one)), newest)
                following = os.fspath(self.store.authority_file(names[-1].following, "cert.pem"))
                self._newest[authority] = found, following
        return found

    def look_again(self) -> None:
        """Forget which generations sign."""
        self._newest.clear()

    def presigned_crls(self, root: str) -> list[PresignedCrl]:
        """The pre-signed CRLs of a root that bear its signature, lowest number first."""
        paths = self.store.presigned_crls(root)
        state = signature([os.fspath(path) for path in paths])
        kept = self._presigned_crls.get(root)
        if kept is None or kept[0] != state:
            issuer = self.generation(root)
            read = (
                {path: read_presigned_crl(filesystem.read(path) or b"", path, issuer) for path in paths}
                if issuer
                else {}
            )
            for path in (path for path, presigned_crl in read.items() if presigned_crl is None):
                self.damaged[self.store.shown(path)] = f"is damaged, or not signed by {root}, and is never published"
            kept = self._presigned_crls[root] = (
                state,
                [presigned_crl for presigned_crl in read.values() if presigned_crl],
            )
        return kept[1]

    def has_lost_crls(self, root: str) -> bool:
        """Return whether a pre-signed CRL of a root is damaged."""
        return len(self.presigned_crls(root)) != len(self.store.presigned_crls(root))

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.store, self.passphrases, self.inventory.authorities.adopted)

    def issuer(self, authority: str) -> Issuer:
        """The issuing generation with its key opened. Raises PkiError with the command that fixes what is missing."""
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
        seen: dict[str, PkiError] = {name: fault for name in names if (fault := self.keys.fault(name))}
        return {**seen, **{name: fault for name, fault in self.keys.closed.items() if not self.is_adopted(name)}}

    def missing_authority(self, name: str) -> PkiError:
        """That there is no certificate of an authority; where there is a root, it may be lost."""
        ceremony = f"hold a root ceremony: {run_for(self.store.home)} invoke ceremony.request"
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
        return (
            authorities.server.crl if GenerationName.parse(generation).authority == "server" else authorities.client.crl
        )

    # -- the clock --

    @cached_property
    def clock(self) -> ClockGuard:
        """Whether the clock can be believed: asked before anything is signed or recorded."""
        return ClockGuard(self.now, self.last_event, partial(self.evidence, self) if self.evidence else None)

    def has_ended(self, end: datetime) -> bool:
        """Return whether something that ends at this moment has ended, by a clock that can be believed."""
        return self.clock.has_ended(end)
