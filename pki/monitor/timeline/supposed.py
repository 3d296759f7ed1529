"""The project as ceremonies to come will leave it: nothing of it is on disk, and its keys are thrown away.

What asks a real project when a ceremony is needed, and which CRLs a series of pre-signed CRLs gets, asks this one and is answered alike:
its certificates and CRLs bear the dates and names of those to come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from cryptography.hazmat.primitives import hashes

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online.crl_schedule import presigned_crls
from pki.ceremony.policy import common_name
from pki.ceremony.request_response import RequestedCrl
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.config.leaf_certificates import permitted_addresses
from pki.project.generations import Generation, PresignedCrl, read_certificate
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.revocation import Entry


class Shelf(Store):
    """The disk, and the generations that lie nowhere yet."""

    def __init__(self, real: Store) -> None:
        super().__init__(real.home)
        self.coming: dict[str, list[GenerationName]] = {one: real.generations(one) for one in AUTHORITIES}

    def generations(self, authority: str) -> list[GenerationName]:
        return self.coming[authority]


@dataclass
class Supposed(Project):
    """A project whose clock may be set, and in which ceremonies are held without anybody."""

    destroyed: frozenset[str] = frozenset()
    crosses: dict[str, list[datetime]] = field(default_factory=dict)  # root → ends of what older roots gave to it
    _made: dict[str, Generation] = field(default_factory=dict)
    _crl_series: dict[str, list[PresignedCrl]] = field(default_factory=dict)
    _signers: dict[str, Issuer] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project) -> Self:
        shelf = Shelf(project.store)
        destroyed = frozenset(ceremony_archive.destroyed_roots(project))
        found = cls(project.inventory, shelf, project.now, project.cache, project.passphrases, destroyed=destroyed)
        for root in shelf.generations("root"):
            paths = shelf.cross_certificates(root)
            parts = [read_certificate(filesystem.read(path) or b"", shelf.shown(path)) for path in paths]
            found.crosses[root] = [cross.not_valid_after_utc for cross in parts]
        return found

    def generation(self, name: str) -> Generation | None:
        return self._made.get(name) or super().generation(name)

    def presigned_crls(self, root: str) -> list[PresignedCrl]:
        return self._crl_series[root] if root in self._crl_series else super().presigned_crls(root)

    def at(self, moment: datetime) -> Self:
        self.now = moment
        return self

    def has_ended(self, end: datetime) -> bool:
        return end < self.now

    def live(self, authority: str) -> list[GenerationName]:
        """Generations that exist at this moment and have not ended."""
        found = [self.existing(name) for name in self.store.generations(authority)]
        return [one.name for one in found if self.is_live(one)]

    # -- a ceremony --

    def hold(self, names: Iterable[GenerationName], prepared: datetime, held: datetime) -> None:
        """Bring these generations and new CRLs, dated as a request of `prepared` says, and be at `held` then."""
        self.now = prepared
        wanted = sorted(names, key=lambda name: AUTHORITIES.index(name.authority))
        before = self.issuing("root")
        new_root = next((name for name in wanted if name.is_root), None)
        crl_series = {name: self._series(name, before, new_root) for name in self._signing_roots()}
        for name in wanted:
            self._make(name, before)
        if new_root:
            crl_series[new_root] = list(presigned_crls(self, new_root, None, self._last_number(new_root)))
        for name, asked in crl_series.items():
            self._crl_series[name] = self._signed(name, asked)
        self.look_again()
        self.now = held

    def _signing_roots(self) -> list[GenerationName]:
        return [name for name in self.live("root") if name not in self.destroyed]

    def _series(self, root: str, present: Generation | None, new_root: str | None) -> list[RequestedCrl]:
        """As `ceremony/online/crl_schedule.py` asks for it: up to its end for a root that hands over or has handed over."""
        found = self.existing(root)
        for_good = bool(new_root) or found != present
        return list(
            presigned_crls(
                self, root, found.certificate.not_valid_after_utc if for_good else None, self._last_number(root)
            )
        )

    def _last_number(self, root: str) -> int:
        return max((presigned_crl.number for presigned_crl in self.presigned_crls(root)), default=0)

    def _signed(self, root: str, asked: list[RequestedCrl]) -> list[PresignedCrl]:
        listed = frozenset[int]().union(*(presigned_crl.serials for presigned_crl in self.presigned_crls(root)))
        entries = [Entry(serial, self.now, "unspecified") for serial in listed]
        signer = self._signer(root)
        made = [(a.number, crl_signing.crl(signer, a.number, a.this_update, a.next_update, entries)) for a in asked]
        return [PresignedCrl(number, crl, listed) for number, crl in made]

    def _make(self, name: GenerationName, before: Generation | None) -> None:
        said, authority = self.inventory, name.authority
        key = keys.new_key("ec-p256")
        subject = certificate_signing.subject(
            said.organisation, common_name(said.organisation, name, sandbox=said.sandbox)
        )
        if authority == "root":
            dates = certificate_signing.validity(self.now, said.authorities.root.lifetime, None)
            cert = certificate_signing.certificate(subject, key.public_key(), dates, profiles.root(), key)
            old = before.certificate.not_valid_after_utc if before else self.now
            self.crosses[name] = [min(old, dates[1])] if old > self.now else []
        else:
            root = self.issuing("root")
            if root is None:
                raise PkiError("there is no root to sign with", "./run invoke status")
            dates = certificate_signing.validity(
                self.now, said.authorities.intermediate(authority).lifetime, root.certificate
            )
            rule = profiles.intermediate(authority, said.domains, permitted_addresses(said))
            cert = certificate_signing.certificate(subject, key.public_key(), dates, rule, self._signer(root.name))
        self._signers[name] = Issuer(cert, key)
        fingerprint = cert.fingerprint(hashes.SHA256())
        pem = pem_encoding.pem_of([cert])
        digest = hashlib.sha256(fingerprint).hexdigest()
        self._made[name] = Generation(name, cert, pem, fingerprint.hex(), pem, digest)
        self.store.generations(authority).append(name)
        self.look_again()

    def _signer(self, root: str) -> Issuer:
        """A root's stand-in: its name and its dates, with a key that is here."""
        if root not in self._signers:
            cert, key = self.existing(root).certificate, keys.new_key("ec-p256")
            dates = cert.not_valid_before_utc, cert.not_valid_after_utc
            stand_in = certificate_signing.certificate(cert.subject, key.public_key(), dates, profiles.root(), key)
            self._signers[root] = Issuer(stand_in, key)
        return self._signers[root]
