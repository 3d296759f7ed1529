"""The authorities of a project at one moment: their certificates, which of them sign, and their pre-signed CRLs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.common import filesystem
from pki.common.cache import file_state
from pki.common.errors import ErrorCode, PkiError
from pki.common.remedies import RESTORE, run_for
from pki.config.identifiers import ALL_AUTHORITIES, AUTHORITIES, PEER_AUTHORITIES, GenerationName
from pki.config.model import Inventory
from pki.project import adopted_ca, external_requests
from pki.project.cross_certificates import trust_paths
from pki.project.generations import (
    Generation,
    PresignedCrl,
    damage_error,
    is_copy,
    read_certificate,
    read_presigned_crl,
)
from pki.project.layout import Store
from pki.x509 import canonical, keys


@dataclass
class Authorities:
    """The authorities in `ca/`, and the adopted CAs, at the moment `now`. Each file is read and verified once.

    `recorded_certificates` returns the certificates of an authority in the ledger, as PEM. `has_passed` returns whether
    a moment has passed, by a clock that is trusted.
    """

    inventory: Inventory
    store: Store
    now: datetime
    recorded_certificates: Callable[[str], list[bytes]]
    has_passed: Callable[[datetime], bool]
    planned: tuple[GenerationName, ...] = ()  # generations that the sandbox's ceremony in this run will create
    damaged_files: dict[str, str] = field(default_factory=dict)  # damaged files, and what follows from that
    recovered: dict[str, bytes] = field(default_factory=dict)  # PEM from the ledger, of generations with a damaged file
    # what was read, by name: with the state of the files, or with the file of the next generation
    _generations: dict[str, tuple[int, Generation]] = field(default_factory=dict)
    _issuing: dict[str, tuple[Generation, str]] = field(default_factory=dict)
    _presigned_crls: dict[str, tuple[int, list[PresignedCrl]]] = field(default_factory=dict)

    def expect(self, generations: tuple[GenerationName, ...]) -> None:
        """Count `generations` as live from now on: the sandbox's ceremony in this run will create them."""
        self.planned = generations

    # -- certificates --

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
        adopted = self.inventory.authorities.adopted.get(name)
        path = self.store.authority_file(name, "cert.pem")
        if adopted:
            path, _ = adopted_ca.adopted_files(self.store, adopted)
        state = file_state([os.fspath(path)])
        if name in self._generations:
            cached_state, cached_generation = self._generations[name]
            if cached_state == state:
                return cached_generation
        data = filesystem.read(path)
        if data is None:
            return None
        if adopted:
            cert = read_certificate(data, self.store.shown(path), is_ours=False)
        else:
            cert, data = self._authority(name, path, data)
        named = GenerationName.parse(name)
        has_cross_certificates = not named.is_root and adopted is None
        whole_chain = data + self._cross_chain(cert) if has_cross_certificates else data
        fingerprint, digest = cert.fingerprint(hashes.SHA256()).hex(), hashlib.sha256(whole_chain).hexdigest()
        generation = Generation(named, cert, data, fingerprint, whole_chain, digest)
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
                raise damage_error(shown, f"its signature is not that of {signer.name}")
            if not self.has_passed(cross.not_valid_after_utc):
                parts.append(data)
        return b"".join(parts)

    def _authority(self, name: str, path: Path, data: bytes) -> tuple[x509.Certificate, bytes]:
        """Return the certificate of our own authority and its PEM; where the file is damaged, from the ledger.

        Raises PkiError that names the file where neither is intact.
        """
        shown = self.store.shown(path)
        names = [] if GenerationName.parse(name).is_root else self.store.roots()
        roots = list(filter(None, map(self.generation, names)))  # raises for a damaged root, not for this file
        try:
            cert = read_certificate(data, shown)
            self._check_signature(name, cert, roots, shown)
        except PkiError as error:
            recorded = self._recorded(name, data)
            if recorded is None:
                raise
            cert = read_certificate(recorded, shown)
            self._check_signature(name, cert, roots, shown)
            self.recovered[name] = recorded  # a task of this run writes the file again
            self.damaged_files[shown] = f"{error.what}; the next run restores it from the ledger"
            return cert, recorded
        self.recovered.pop(name, None)
        self.damaged_files.pop(shown, None)
        return cert, data

    def _recorded(self, name: str, data: bytes) -> bytes | None:
        """Return the PEM of the certificate in the ledger of which `data` is a damaged copy.

        Returns None where no certificate, or more than one, is similar enough.
        """
        recorded = self.recorded_certificates(GenerationName.parse(name).authority)
        copies = {pem for pem in recorded if is_copy(data, pem)}
        return copies.pop() if len(copies) == 1 else None

    def _check_signature(self, name: str, cert: x509.Certificate, roots: list[Generation], shown: str) -> None:
        """Raise PkiError unless the root that a certificate names signed it. Do nothing if that root is not in `ca/`."""
        generation_name = GenerationName.parse(name)
        issuers = {root.name: root.certificate for root in roots if root.is_named_by(cert)}
        if generation_name.is_root:
            issuers = {generation_name: cert}
        if issuers and not any(canonical.is_issued_by(cert, issuer) for issuer in issuers.values()):
            raise damage_error(shown, f"its signature is not that of {next(iter(issuers))}")

    # -- roots, and what is live --

    def root_of(self, intermediate: x509.Certificate) -> Generation | None:
        """Return the root that an intermediate names as its issuer; None where it is not in `ca/`."""
        roots = (self.generation(name) for name in self.store.roots())
        return next((root for root in roots if root and root.certificate.subject == intermediate.issuer), None)

    def connected_roots(self, root: Generation) -> dict[str, datetime]:
        """Return the SHA-256 of the roots that cross-certificates connect to `root`, with their expiry.

        `root` itself is included.
        """
        roots = [other for name in self.store.generations(root.authority) if (other := self.generation(name))]
        return trust_paths(self.store, roots, root, self.has_passed)

    def live(self, authority: str) -> list[GenerationName]:
        """Return the generations that are neither expired nor revoked, oldest first, then those that are planned.

        If there is none of them, returns the newest generation. Before the first certificate exists, returns generation 1.
        """
        names = self.store.generations(authority)
        generations = [generation for generation in map(self.generation, names) if generation]
        live = [generation.name for generation in generations if self.is_live(generation)]
        live += [name for name in self.planned if name.authority == authority and name not in names]
        return live or names[-1:] or [GenerationName(authority, 1)]

    def not_yet_valid(self, generation: Generation) -> str:
        """Return a phrase where the clock is before the start of a generation; "" otherwise."""
        start = generation.not_before
        if start <= self.now:
            return ""
        return (
            f"the clock says {self.now:%Y-%m-%d %H:%M} UTC, and {generation.name} is valid from {start:%Y-%m-%d %H:%M}"
        )

    def is_live(self, generation: Generation) -> bool:
        """Return whether a generation is neither expired nor revoked by its root."""
        return not self.has_passed(generation.not_after) and not self.is_revoked_by_root(generation)

    def is_revoked_by_root(self, generation: Generation) -> bool:
        """Return whether a pre-signed CRL lists a generation."""
        serial = generation.certificate.serial_number
        return any(
            serial in presigned_crl.serials
            for root in self.store.roots()
            for presigned_crl in self.presigned_crls(root)
        )

    # -- what signs --

    def issuing(self, authority: str) -> Generation | None:
        """Return the generation that signs: the newest one that is valid already and not revoked; None without any.

        The validity of a generation may start in the future, if the clock was ahead once. If that is so for all of them,
        the newest one is returned. The result is cached until the file of the next generation exists, which a parallel
        process may write.
        """
        issuing, next_file = self._issuing.get(authority, (None, ""))
        if issuing is not None and not os.path.lexists(next_file):
            return issuing
        names = self.store.generations(authority)
        # lazily, newest first: the files of older generations are read only if they are needed
        existing = (self.generation(name) for name in reversed(names))
        not_revoked = (generation for generation in existing if generation and not self.is_revoked_by_root(generation))
        newest = next(not_revoked, None)
        if newest is None:
            return issuing
        valid = (generation for generation in chain((newest,), not_revoked) if not self.not_yet_valid(generation))
        issuing = next(valid, newest)
        next_file = os.fspath(self.store.authority_file(names[-1].following, "cert.pem"))
        self._issuing[authority] = issuing, next_file
        return issuing

    def missing_authority(self, name: str) -> PkiError:
        """Return the error for an authority without a certificate; where a root exists, the certificate may be lost."""
        text = f"there is no {name} authority in ca/{name}/"
        ceremony = f"perform a root ceremony: {run_for(self.store.home)} invoke ceremony.request"
        if self.store.generations("root"):
            return PkiError(text, f"{RESTORE}, if it existed before; else {ceremony}")
        hint = f"{ceremony}; or set sandbox: true in pki.yaml to try the program"
        return PkiError(text, hint, ErrorCode.AWAITS_CEREMONY)

    def has_new_request(self, authority: str) -> bool:
        """Return whether the request of an external authority has a key that no authority of `ca/` has."""
        rule = self.inventory.authorities.externals.get(authority)
        if rule is None:
            return False
        try:
            new_key = keys.public_der(external_requests.read(self.store.home, rule).key)
        except PkiError:  # `plan` reports the fault where the request is needed
            return False
        names = [name for owner in self.store.authorities() for name in self.store.generations(owner)]
        certificates = (generation.certificate for generation in map(self.generation, names) if generation)
        return all(keys.public_der(certificate.public_key()) != new_key for certificate in certificates)

    # -- pre-signed CRLs --

    def presigned_crls(self, root: str) -> list[PresignedCrl]:
        """Return the pre-signed CRLs of a root whose signature is valid, lowest number first."""
        paths = self.store.presigned_crls(root)
        state = file_state([os.fspath(path) for path in paths])
        if root in self._presigned_crls:
            cached_state, cached_crls = self._presigned_crls[root]
            if cached_state == state:
                return cached_crls
        issuer, presigned_crls = self.generation(root), list[PresignedCrl]()
        for path in paths if issuer else ():
            presigned_crl = read_presigned_crl(filesystem.read(path) or b"", path, issuer) if issuer else None
            if presigned_crl:
                presigned_crls.append(presigned_crl)
            else:
                self.damaged_files[self.store.shown(path)] = (
                    f"is damaged, or not signed by {root}; it is never published"
                )
        self._presigned_crls[root] = state, presigned_crls
        return presigned_crls

    def has_lost_crls(self, root: str) -> bool:
        """Return whether a pre-signed CRL of a root is damaged."""
        return len(self.presigned_crls(root)) != len(self.store.presigned_crls(root))


def own_authorities(authorities: Authorities) -> tuple[str, ...]:
    """Return the authorities with keys in `ca/` or in the vault; those of clusters only where a ceremony creates them."""
    planned = {name.authority for name in authorities.planned}
    has_peer = any(authorities.store.generations(name) or name in planned for name in PEER_AUTHORITIES)
    return ALL_AUTHORITIES if has_peer else AUTHORITIES
