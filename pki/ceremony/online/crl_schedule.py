"""Plan the pre-signed CRLs of a request: new series that replace all present root CRLs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online.needs import CRL_OVERLAP, series_end
from pki.ceremony.request_response import RequestedCrl, RequestedRoot, RequestedSeries, RevokedCa
from pki.common.durations import BACKDATED
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName
from pki.project.generations import Generation
from pki.project.hierarchy import Hierarchy
from pki.project.project import Project
from pki.x509.certificate_signing import SECOND


@dataclass(frozen=True, slots=True)
class CrlSchedule:
    """The pre-signed CRLs that a request of a project asks for."""

    project: Project

    def plan(
        self,
        roots: tuple[RequestedRoot, ...],
        present: Generation | None,
        revoke: tuple[tuple[str, str], ...],
        destroy: tuple[str, ...],
    ) -> Iterator[RequestedSeries]:
        """Yield a new series of pre-signed CRLs for every root that has a key.

        `roots` are the new ones, `present` is the one that signs now; `revoke` has the intermediates to be revoked, each
        with its reason. For a root that is replaced or destroyed in this ceremony (`roots`, `destroy`), the series lasts
        until it expires.
        """
        authorities = self.project.authorities
        destroyed = ceremony_archive.destroyed_roots(self.project.store)
        for name in self.project.store.generations("root"):
            generation = authorities.existing(name)
            if name in destroyed or generation.not_after <= self.project.now:
                continue
            is_last_series = bool(roots) or generation != present or name in destroy
            until = generation.not_after if is_last_series else None
            crls = plan_presigned_crls(authorities, name, until, self._last_number(name))
            yield RequestedSeries(root=name, revoked=tuple(self._revoked(revoke, name)), presigned_crls=tuple(crls))
        for root in roots:
            crls = plan_presigned_crls(authorities, root.name, None, self._last_number(root.name), root.not_after)
            yield RequestedSeries(root=root.name, revoked=(), presigned_crls=tuple(crls))

    def _last_number(self, root: str) -> int:
        last = self.project.ledger.last_crl(root)
        return last.number if last else 0

    def _revoked(self, revoke: tuple[tuple[str, str], ...], root: str) -> Iterator[RevokedCa]:
        """Yield the entries of a root's CRLs: revocations in the ledger, and the requested ones."""
        begin = self.project.now - BACKDATED  # of the first pre-signed CRL
        for entry in self.project.ledger.revoked_entries(root, expiring_after=begin):
            issued = next(iter(self.project.ledger.certificates(serial=entry.serial)), None)
            if issued is None:
                raise PkiError(
                    f"the CRL of {root} must list the serial number {entry.serial:x}, which is not in the ledger",
                    "it was signed after the backup that this project was restored from: restore a newer one",
                )
            revoked = GenerationName(issued.artifact.name, int(ceremony_archive.NUMBER.findall(issued.subject)[-1]))
            yield RevokedCa(generation=revoked, serial=entry.serial, reason=entry.reason, at=entry.revoked_at)
        for name, reason in revoke:
            generation = self.project.authorities.existing(name)
            issuer = self.project.authorities.root_of(generation.certificate)
            if issuer and issuer.name == root:
                serial = generation.certificate.serial_number
                yield RevokedCa(generation=name, serial=serial, reason=reason, at=self.project.now)


def plan_presigned_crls(
    hierarchy: Hierarchy, root: str, until: datetime | None, number: int, end: datetime | None = None
) -> Iterator[RequestedCrl]:
    """Yield pre-signed CRLs from now until `until`, or for the configured period; they replace all earlier ones.

    There is one a second after each earlier CRL that has not begun, so that it is the newer one, and more as needed.
    Numbers are above the last `number` (RFC 5280 §5.2.3). Each CRL begins at the latest CRL_OVERLAP before the one before
    it expires, and the last one expires no earlier than any that it replaces. None begins after the root has expired; `end` is the expiry of a
    root without a certificate yet.
    """
    if generation := hierarchy.generation(root):
        end = generation.not_after
    rule = hierarchy.inventory.authorities.root.crl
    step = rule.lifetime - CRL_OVERLAP
    earlier = {presigned_crl.this_update for presigned_crl in hierarchy.presigned_crls(root)}
    begun = [start for start in earlier if start <= hierarchy.now]
    starts = [max([hierarchy.now - BACKDATED, *(at + SECOND for at in begun)])]
    for at in sorted(earlier):
        if at > hierarchy.now:
            _fill(starts, at + SECOND, rule.lifetime, step, end)
            starts.append(at + SECOND)
    goal = until or hierarchy.now + rule.presigned * step
    _fill(starts, max(goal, series_end(hierarchy, root) or goal), rule.lifetime, step, end)
    for at in starts:
        number = max(int(at.timestamp()), number + 1)
        yield RequestedCrl(number=number, this_update=at, next_update=at + rule.lifetime)


def _fill(starts: list[datetime], goal: datetime, lifetime: timedelta, step: timedelta, end: datetime | None) -> None:
    """Add start times until the last CRL expires at `goal` or later; none from `end` on."""
    while starts[-1] + lifetime < goal and (end is None or starts[-1] + step < end):
        starts.append(starts[-1] + step)
