"""The authorities after planned ceremonies, computed from the configuration and dates alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from types import MappingProxyType

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online.crl_schedule import plan_presigned_crls
from pki.ceremony.request_response import RequestedCrl
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import ALL_AUTHORITIES, GenerationName, root_authority
from pki.config.leaf_certificates import permitted_addresses
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.generations import Generation, PresignedCrl, read_certificate
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509.certificate_signing import validity_dates_within
from pki.x509.name_constraints import PermittedNames

NOTHING = PermittedNames((), ())


@dataclass(frozen=True, slots=True)
class PlannedCa:
    """One generation: its dates, and the name of the root that signs it. `serial` is 0 for a planned generation."""

    name: GenerationName
    not_before: datetime
    not_after: datetime
    root: str = ""
    permitted: PermittedNames = NOTHING
    serial: int = 0

    @property
    def authority(self) -> str:
        """Return `root`, `server`, `client`, `root-peer`, `peer`, or the name of an external authority."""
        return self.name.authority


@dataclass(frozen=True, slots=True)
class PlannedCrl:
    """One pre-signed CRL: its number, its dates, and the serial numbers that it lists."""

    number: int
    this_update: datetime
    next_update: datetime
    serials: frozenset[int]


@dataclass(frozen=True, slots=True)
class PlannedHierarchy:
    """All authorities at a moment; after a ceremony there is another hierarchy.

    `cross_ends` are, for each root, the expiries of the cross-certificates that older roots issued for it.
    """

    inventory: Inventory
    now: datetime
    cas: tuple[PlannedCa, ...]
    crls: Mapping[str, tuple[PlannedCrl, ...]]
    cross_ends: Mapping[str, tuple[datetime, ...]] = field(default_factory=lambda: MappingProxyType({}))
    destroyed: frozenset[str] = frozenset()
    lost_crls: frozenset[str] = frozenset()
    new_requests: frozenset[str] = frozenset()  # external authorities whose server has made a new request

    @classmethod
    def of(cls, project: Project) -> PlannedHierarchy:
        """Return the hierarchy of a project as it is now. Raises PkiError for a CA certificate that cannot be read."""
        roots = project.store.roots()
        externals = project.inventory.authorities.externals
        owners = (*ALL_AUTHORITIES, *externals)
        names = [name for authority in owners for name in project.authorities.generations(authority)]
        return cls(
            project.inventory,
            project.now,
            tuple(_existing(project.authorities, project.authorities.existing(name)) for name in names),
            {root: tuple(map(_crl, project.authorities.presigned_crls(root))) for root in roots},
            {root: tuple(_cross_ends(project.store, root)) for root in roots},
            frozenset(ceremony_archive.destroyed_roots(project.store)),
            frozenset(root for root in roots if project.authorities.has_lost_crls(root)),
            frozenset(filter(project.authorities.has_new_request, externals)),
        )

    # -- queries --

    def at(self, moment: datetime) -> PlannedHierarchy:
        """Return the same hierarchy at another moment."""
        return replace(self, now=moment)

    def generations(self, authority: str) -> list[GenerationName]:
        return [ca.name for ca in self.cas if ca.authority == authority]

    def generation(self, name: str) -> PlannedCa | None:
        return next((ca for ca in self.cas if ca.name == name), None)

    def existing(self, name: str) -> PlannedCa:
        """Return a generation that exists."""
        ca = self.generation(name)
        assert ca is not None, name
        return ca

    def issuing(self, authority: str) -> PlannedCa | None:
        """Return the newest generation that is not revoked and valid already; the newest if none is valid already."""
        cas = [ca for ca in reversed(self.cas) if ca.authority == authority and not self.is_revoked(ca)]
        return next(chain((ca for ca in cas if ca.not_before <= self.now), cas), None)

    def presigned_crls(self, root: str) -> tuple[PlannedCrl, ...]:
        return self.crls.get(root, ())

    def has_lost_crls(self, root: str) -> bool:
        return root in self.lost_crls

    def has_new_request(self, authority: str) -> bool:
        """Return whether there is a new request, or will be: a server is expected to make one when its CA expires soon."""
        present = self.issuing(authority)
        is_expected = (
            present is not None and present.not_after - self.inventory.authorities.overlap(authority) <= self.now
        )
        return is_expected or authority in self.new_requests

    def is_revoked(self, ca: PlannedCa) -> bool:
        """Return whether a pre-signed CRL lists a generation."""
        return bool(ca.serial) and any(ca.serial in crl.serials for crls in self.crls.values() for crl in crls)

    # -- a ceremony --

    def after_ceremony(
        self, names: Iterable[GenerationName], prepared: datetime, performed: datetime
    ) -> PlannedHierarchy:
        """Return the hierarchy after a ceremony that creates these generations and new CRLs.

        `prepared` is the time of the request, which determines all dates; `performed` is the time of the ceremony. Raises
        PkiError if an intermediate is requested and there is no root.
        """
        before = self.at(prepared)
        ordered = sorted(names, key=lambda name: not name.is_root)
        new_roots = [name for name in ordered if name.is_root]
        replaced = {name.authority for name in new_roots}
        requested: dict[str, list[RequestedCrl]] = {
            name: _series(before, name, is_replaced=name.authority in replaced) for name in _signing_roots(before)
        }
        after = before
        for name in ordered:
            after = _with_ca(after, name, before.issuing(name.authority))
        for new_root in new_roots:
            requested[new_root] = list(plan_presigned_crls(after, new_root, until=None, previous_number=0))
        signed = {name: tuple(_signed(before, name, crls)) for name, crls in requested.items()}
        unused = after.new_requests - {name.authority for name in ordered}
        return replace(after, now=performed, crls={**after.crls, **signed}, new_requests=unused)


def _signing_roots(hierarchy: PlannedHierarchy) -> list[GenerationName]:
    """Return the roots that sign new CRLs: those that have not expired, are not revoked, and whose key exists."""
    live = (
        ca for ca in hierarchy.cas if ca.name.is_root and ca.not_after >= hierarchy.now and not hierarchy.is_revoked(ca)
    )
    return [ca.name for ca in live if ca.name not in hierarchy.destroyed]


def _series(hierarchy: PlannedHierarchy, root: str, *, is_replaced: bool) -> list[RequestedCrl]:
    """Return the CRLs that a request asks of a root: up to its expiry, if it no longer issues or will be replaced."""
    ca = hierarchy.existing(root)
    until = ca.not_after if is_replaced or ca != hierarchy.issuing(ca.authority) else None
    last = max((crl.number for crl in hierarchy.presigned_crls(root)), default=0)
    return list(plan_presigned_crls(hierarchy, root, until=until, previous_number=last))


def _signed(hierarchy: PlannedHierarchy, root: str, requested: Iterable[RequestedCrl]) -> Iterable[PlannedCrl]:
    listed_serials = frozenset[int]().union(*(crl.serials for crl in hierarchy.presigned_crls(root)))
    return (PlannedCrl(crl.number, crl.this_update, crl.next_update, listed_serials) for crl in requested)


def _with_ca(hierarchy: PlannedHierarchy, name: GenerationName, previous: PlannedCa | None) -> PlannedHierarchy:
    """Return the hierarchy with a new generation; `previous` is the one that issued before it."""
    authorities, cross_ends = hierarchy.inventory.authorities, hierarchy.cross_ends
    own_domains = tuple(f".{domain}" for domain in hierarchy.inventory.domains)
    own_names = PermittedNames(own_domains, tuple(permitted_addresses(hierarchy.inventory)))
    if name.is_root:
        begin, end = validity_dates_within(hierarchy.now, authorities.root.lifetime, None)
        added = PlannedCa(name, begin, end, name, own_names if name.authority == "root-peer" else NOTHING)
        old_end = previous.not_after if previous else hierarchy.now
        cross_ends = {**cross_ends, name: (min(old_end, end),) if old_end > hierarchy.now else ()}
    else:
        root = hierarchy.issuing(root_authority(name.authority))
        if root is None:
            raise PkiError("there is no root to sign with", "./run invoke status")
        lifetime, external = authorities.lifetime(name.authority), authorities.externals.get(name.authority)
        begin, end = validity_dates_within(hierarchy.now, lifetime, (root.not_before, root.not_after))
        permitted = PermittedNames(tuple(f".{domain}" for domain in external.domains), ()) if external else own_names
        added = PlannedCa(name, begin, end, root.name, permitted)
    return replace(hierarchy, cas=(*hierarchy.cas, added), cross_ends=cross_ends)


def _existing(authorities: Authorities, generation: Generation) -> PlannedCa:
    is_root = generation.name.is_root
    root = None if is_root else authorities.root_of(generation.certificate)
    return PlannedCa(
        generation.name,
        generation.not_before,
        generation.not_after,
        generation.name if is_root else (root.name if root else ""),
        NOTHING if generation.authority == "root" else generation.permitted,
        generation.certificate.serial_number,
    )


def _crl(crl: PresignedCrl) -> PlannedCrl:
    return PlannedCrl(crl.number, crl.this_update, crl.next_update, crl.serials)


def _cross_ends(store: Store, root: str) -> Iterable[datetime]:
    for path in store.cross_certificates(root):
        yield read_certificate(filesystem.read(path) or b"", store.shown(path)).not_valid_after_utc
