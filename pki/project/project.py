"""One project at one moment: its configuration, its files, its authorities and their keys, its ledger and its clock."""

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
from pki.common.child_processes import LIBPQ_PASSWORD, remove_from_environment
from pki.common.errors import LedgerError, PkiError
from pki.common.remedies import RESTORE, run_for
from pki.config import loader
from pki.config.authority_rules import CrlRule
from pki.config.identifiers import ArtifactId, GenerationName
from pki.ledger import last_seen
from pki.project.ca_keys import KeyRing
from pki.project.clock_guard import ClockGuard, Evidence
from pki.project.cross_certificates import trust_paths
from pki.project.generations import Generation, PresignedCrl, damaged, is_copy, read_certificate, read_presigned_crl
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView
from pki.project.missing_roots import MissingRoot, find_missing, has_named_root, refusal, roots_in_receipts
from pki.project.safe_directories import check_owner
from pki.project.secrets import Passphrases
from pki.x509 import canonical
from pki.x509.certificate_signing import Issuer


@dataclass
class Project(LedgerView):
    """Configuration, files and ledger of a project at the moment `now`. Caches everything that a run reads twice."""

    passphrases: Passphrases
    evidence: Callable[[Project], Evidence] | None = None  # of the time; default: the kernel alone
    verified: set[bytes] = field(default_factory=set)  # SHA-256 of PEM bundles and CRLs whose signature was verified
    planned: tuple[GenerationName, ...] = ()  # generations that the sandbox's ceremony in this run will create
    damaged: dict[str, str] = field(default_factory=dict)  # damaged files, and what follows from that
    recovered: dict[str, bytes] = field(default_factory=dict)  # PEM from the ledger, of generations with a damaged file
    requested: frozenset[str] = frozenset()  # tasks named on the command line of doit; empty outside a run
    _generations: dict[str, tuple[int, Generation]] = field(default_factory=dict)
    _newest: dict[str, tuple[Generation, str]] = field(default_factory=dict)
    _presigned_crls: dict[str, tuple[int, list[PresignedCrl]]] = field(default_factory=dict)
    _signing: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path, now: datetime, evidence: Callable[[Project], Evidence] | None = None) -> Project:
        """Open the project in the folder `home`.

        Raises InventoryError with every fault in pki.yaml, and PkiError where another account owns the project.
        """
        check_owner(home)
        path, cache = home / "pki.yaml", Cache(home, now)
        data = loader.read(path)
        digest = hashlib.sha256(data).hexdigest()  # the cache is keyed by the code already
        config = loader.parse_valid(tree) if (tree := cache.recall("pki.yaml", digest)) is not None else None
        if config is None:
            config, tree = loader.load_with_tree(path, data)
            cache.remember("pki.yaml", digest, [], tree)
        store = Store(home)
        if config.ledger.startswith("postgresql"):
            remove_from_environment([LIBPQ_PASSWORD])
        return cls(config, store, now, cache, Passphrases(store, config.secrets), evidence)

    # -- missing roots --

    @cached_property
    def missing_roots(self) -> tuple[MissingRoot, ...]:
        """Return the roots that pki.yaml names, or that `build/` shows, and that `ca/` does not contain.

        Under `sandbox: true` also those under which real hosts were deployed.
        """
        missing = find_missing(self.inventory, self.store)
        if missing:  # a root with a damaged file is not missing if the ledger has a copy
            missing = tuple(root for root in missing if root.fingerprint not in self._recovered_roots())
        if missing or not self.inventory.sandbox:
            return missing
        folder = str(self.store.receipt("x").parent)
        if (cached := self.cache.recall("roots of real hosts", "")) is None:
            cached = [
                [root.name, root.fingerprint, root.evidence] for root in roots_in_receipts(self.store, real_hosts=True)
            ]
            self.cache.remember("roots of real hosts", "", [folder], cached)
        return tuple(MissingRoot(*root) for root in cached)

    @property
    def is_older(self) -> bool:
        """Return whether `ca/` is an older copy: it contains one root that pki.yaml names, and lacks another."""
        return not self.inventory.sandbox and bool(self.missing_roots) and has_named_root(self.inventory, self.store)

    def _recovered_roots(self) -> set[str]:
        """Return the SHA-256 of the roots whose file is damaged and whose certificate the ledger has."""
        fingerprints = set[str]()
        for name in self.store.generations("root"):
            with suppress(PkiError):
                fingerprints |= (
                    {root.fingerprint} if (root := self.generation(name)) and name in self.recovered else set()
                )
        return fingerprints

    def check_roots(self) -> None:
        """Raise PkiError where a root is missing, or a sandbox project contains a root that is not a sandbox root."""
        if self.missing_roots:
            raise refusal(self.missing_roots, self.inventory, self.store)
        for name in self.store.generations("root") if self.inventory.sandbox else ():
            if (root := self.generation(name)) and not root.is_sandbox:
                raise PkiError(
                    f"pki.yaml says sandbox: true, and {name} in ca/ (SHA-256 {root.fingerprint}) is not a sandbox root",
                    "remove sandbox: true from pki.yaml; a sandbox needs its own folder: ./run invoke init DIR",
                )

    def expect_roots(self) -> None:
        """Continue although roots are missing: a response that contains all of them is about to be stored."""
        self.__dict__["missing_roots"] = ()
        self.forget_ledger_state()

    # -- authorities --

    def generations(self, authority: str) -> list[GenerationName]:
        """Return the names of an authority's generations that have a certificate, oldest first."""
        return self.store.generations(authority)

    def existing(self, name: str) -> Generation:
        """Return a generation whose certificate exists."""
        generation = self.generation(name)
        assert generation is not None, name
        return generation

    def generation(self, name: str) -> Generation | None:
        """Return a generation by name; None while it has no certificate.

        Raises PkiError when its file is damaged and the ledger has no copy, or when it is a sandbox CA in a project in
        production.
        """
        path = (
            self.keys.adopted_files(name)[0] if self.is_adopted(name) else self.store.authority_file(name, "cert.pem")
        )
        state = signature([os.fspath(path)])
        cached = self._generations.get(name)
        if cached and cached[0] == state:
            return cached[1]
        data = filesystem.read(path)
        if data is None:
            return None
        if self.is_adopted(name):
            cert = read_certificate(data, self.store.shown(path), is_ours=False)
        else:
            cert, data = self._authority(name, path, data)
        named = GenerationName.parse(name)
        has_no_chain = named.is_root or self.is_adopted(name)
        chain = data if has_no_chain else data + self._cross_chain(cert)
        fingerprint, chain_digest = cert.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(chain).hexdigest()
        generation = Generation(named, cert, data, fingerprint, chain, chain_digest)
        if generation.is_sandbox and not self.inventory.sandbox:
            raise PkiError(
                f"{self.store.shown(path)}: is a sandbox authority, and pki.yaml does not contain sandbox: true",
                f"move ca/ and offline/ away, then perform a root ceremony: {run_for(self.store.home)} invoke ceremony.request",
            )
        self._generations[name] = (state, generation)
        return generation

    def _cross_chain(self, intermediate: x509.Certificate) -> bytes:
        """Return the cross-certificates of an intermediate's root that have not expired, as PEM."""
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
        """Return the certificate of our own authority and its PEM; where the file is damaged, from the ledger.

        Raises PkiError that names the file where neither is intact.
        """
        shown = self.store.shown(path)
        names = () if GenerationName.parse(name).is_root else self.store.generations("root")
        roots = list(filter(None, map(self.generation, names)))  # raises for a damaged root, not for this file
        try:
            cert = read_certificate(data, shown)
            self._check_signature(name, cert, roots, shown)
        except PkiError as error:
            if (recorded := self._recorded(name, data)) is None:
                raise
            cert = read_certificate(recorded, shown)
            self._check_signature(name, cert, roots, shown)
            self.recovered[name] = recorded
            self.damaged[shown] = f"{error.what}; the next run restores it from the ledger"
            return cert, recorded
        self.recovered.pop(name, None)
        self.damaged.pop(shown, None)
        return cert, data

    def _recorded(self, name: str, data: bytes) -> bytes | None:
        """Return the PEM of the certificate in the ledger of which `data` is a damaged copy.

        Returns None where no certificate, or more than one, is similar enough.
        """
        if not (self.store.ca / last_seen.PROJECT_ID).exists():  # opening the ledger might create the file
            return None
        try:
            issued = (
                self.ledger.certificates(artifact=ArtifactId("authority", GenerationName.parse(name).authority))
                if self.has_ledger
                else []
            )
        except LedgerError:
            return None
        copies = {pem for certificate in issued if is_copy(data, pem := certificate.pem.encode())}
        return copies.pop() if len(copies) == 1 else None

    def _check_signature(self, name: str, cert: x509.Certificate, roots: list[Generation], shown: str) -> None:
        """Raise PkiError unless the root that a certificate names signed it; passes where that root is not in `ca/`."""
        signers = [(root.name, root.certificate) for root in roots if root.is_named_by(cert)]
        named = GenerationName.parse(name)
        signers = [(named, cert)] if named.is_root else signers
        if signers and not any(canonical.is_issued_by(cert, signer) for _, signer in signers):
            raise damaged(shown, f"its signature is not that of {signers[0][0]}")

    def root_of(self, intermediate: x509.Certificate) -> Generation | None:
        """Return the root that an intermediate names as its issuer; None where it is not in `ca/`."""
        roots = (self.generation(name) for name in self.store.generations("root"))
        return next((root for root in roots if root and root.certificate.subject == intermediate.issuer), None)

    def connected_roots(self, root: Generation) -> dict[str, datetime]:
        """Return the SHA-256 of the roots that cross-certificates connect to `root`, with their expiry.

        `root` itself is included.
        """
        roots = [other for name in self.store.generations("root") if (other := self.generation(name))]
        return trust_paths(self.store, roots, root, self.has_ended)

    def live(self, authority: str) -> list[GenerationName]:
        """Return the generations that are neither expired nor revoked, oldest first, then those that are planned.

        Without any of them, the newest one; before the first certificate exists, generation 1.
        """
        names = self.store.generations(authority)
        live = [n for n in names if (generation := self.generation(n)) and self.is_live(generation)]
        live += [n for n in self.planned if n.authority == authority and n not in names]
        return live or names[-1:] or [GenerationName(authority, 1)]

    def before(self, generation: Generation) -> str:
        """Return a phrase where the clock is before the start of a generation; "" otherwise."""
        start = generation.certificate.not_valid_before_utc
        if start <= self.now:
            return ""
        return (
            f"the clock says {self.now:%Y-%m-%d %H:%M} UTC, and {generation.name} is valid from {start:%Y-%m-%d %H:%M}"
        )

    def is_live(self, generation: Generation) -> bool:
        """Return whether a generation is neither expired nor revoked by its root."""
        return not self.has_ended(generation.certificate.not_valid_after_utc) and not self.is_revoked_by_root(
            generation
        )

    def is_revoked_by_root(self, generation: Generation) -> bool:
        """Return whether a pre-signed CRL lists a generation."""
        serial = generation.certificate.serial_number
        return any(
            serial in serials for root in self.store.generations("root") for _, _, serials in self.presigned_crls(root)
        )

    def issuing(self, authority: str) -> Generation | None:
        """Return the generation that signs: the newest one that is valid already and not revoked; None without any.

        A generation may start in the future if the clock was ahead once. Where all do, the newest one is returned. The
        result is cached until the file of the next generation exists, which a parallel process may write.
        """
        signing, next_file = self._newest.get(authority, (None, ""))
        if (signing is None or os.path.lexists(next_file)) and (names := self.store.generations(authority)):
            existing = (self.generation(name) for name in reversed(names))
            not_revoked = (
                generation for generation in existing if generation and not self.is_revoked_by_root(generation)
            )
            newest = next(not_revoked, None)
            if newest is not None:
                signing = next(
                    (generation for generation in chain((newest,), not_revoked) if not self.before(generation)), newest
                )
                next_file = os.fspath(self.store.authority_file(names[-1].following, "cert.pem"))
                self._newest[authority] = signing, next_file
        return signing

    def forget_issuing(self) -> None:
        """Forget which generations sign."""
        self._newest.clear()

    def presigned_crls(self, root: str) -> list[PresignedCrl]:
        """Return the pre-signed CRLs of a root whose signature is valid, lowest number first."""
        paths = self.store.presigned_crls(root)
        state = signature([os.fspath(path) for path in paths])
        cached = self._presigned_crls.get(root)
        if cached is None or cached[0] != state:
            issuer = self.generation(root)
            parsed = (
                {path: read_presigned_crl(filesystem.read(path) or b"", path, issuer) for path in paths}
                if issuer
                else {}
            )
            for path in (path for path, presigned_crl in parsed.items() if presigned_crl is None):
                self.damaged[self.store.shown(path)] = f"is damaged, or not signed by {root}; it is never published"
            cached = self._presigned_crls[root] = (
                state,
                [presigned_crl for presigned_crl in parsed.values() if presigned_crl],
            )
        return cached[1]

    def has_lost_crls(self, root: str) -> bool:
        """Return whether a pre-signed CRL of a root is damaged."""
        return len(self.presigned_crls(root)) != len(self.store.presigned_crls(root))

    @cached_property
    def keys(self) -> KeyRing:
        """Return the private keys of the authorities."""
        return KeyRing(self.store, self.passphrases, self.inventory.authorities.adopted)

    def issuer(self, authority: str) -> Issuer:
        """Return the signing generation of an authority with its key.

        Raises PkiError with the command that fixes what is missing.
        """
        self.clock.check()
        signing = self.issuing(authority)
        if signing is None:
            raise self.missing_authority(authority)
        self.check_ledger()
        return self.keys.issuer(signing)

    def crl_issuer(self, generation: Generation) -> Issuer:
        """Return a generation, also an older one, with its key, for signing a CRL.

        Raises PkiError with the command that fixes what is missing.
        """
        self.clock.check()
        self.check_ledger()
        return self.keys.open(generation)

    def can_sign(self, name: str) -> bool:
        """Return whether the key of a generation can be decrypted.

        A passphrase from a source other than the secrets file is not read: then the answer is whether the file looks
        intact.
        """
        if name not in self._signing:
            self._signing[name] = self._opens(name)
        return self._signing[name]

    def _opens(self, name: str) -> bool:
        generation = self.generation(name)
        if generation is None or self.is_adopted(name):
            return True
        with suppress(PkiError):
            if self.keys.fault(name) is None:
                in_file = self.store.authority_file(name, "key.pem").exists()
                return not in_file or self.passphrases.is_elsewhere(name) or bool(self.keys.issuer(generation))
        return False

    @cached_property
    def cached_key_faults(self) -> dict[str, PkiError]:
        """Return the result of `key_faults`, computed once."""
        return self.key_faults()

    def key_faults(self) -> dict[str, PkiError]:
        """Return what is wrong with keys that sign or wait for a ceremony, by generation.

        Only what shows without a passphrase, and what this run found when it decrypted keys.
        """
        signing = [generation.name for authority in ("server", "client") if (generation := self.issuing(authority))]
        names = [*signing, *self.store.prepared()]
        faults: dict[str, PkiError] = {name: fault for name in names if (fault := self.keys.fault(name))}
        return {**faults, **{name: fault for name, fault in self.keys.open_faults.items() if not self.is_adopted(name)}}

    def missing_authority(self, name: str) -> PkiError:
        """Return the error for an authority without a certificate; where a root exists, the certificate may be lost."""
        ceremony = f"perform a root ceremony: {run_for(self.store.home)} invoke ceremony.request"
        if self.store.generations("root"):
            hint = f"{RESTORE}, if it existed before; else {ceremony}"
        else:
            hint = f"{ceremony}; or set sandbox: true in pki.yaml to try the program"
        return PkiError(f"there is no {name} authority in ca/{name}/", hint)

    def is_adopted(self, name: str) -> bool:
        """Return whether `name` is an adopted CA: it was created elsewhere, and signs only CRLs here."""
        return name in self.inventory.authorities.adopted

    def crl_rule(self, generation: str) -> CrlRule:
        """Return lifetime and refresh time of the CRLs of an intermediate or an adopted CA."""
        authorities = self.inventory.authorities
        if rule := authorities.adopted.get(generation):
            return rule.crl
        return (
            authorities.server.crl if GenerationName.parse(generation).authority == "server" else authorities.client.crl
        )

    # -- the clock --

    @cached_property
    def clock(self) -> ClockGuard:
        """Return the guard of the clock, which is asked before anything is signed or recorded."""
        return ClockGuard(self.now, self.last_event, partial(self.evidence, self) if self.evidence else None)

    def has_ended(self, end: datetime) -> bool:
        """Return whether `end` has passed, by a clock that is trusted."""
        return self.clock.has_ended(end)
