"""Plan the pre-signed CRLs of a request: new series that replace all present root CRLs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online.needs import PRESIGNED_CRL_OVERLAP, series_end
from pki.ceremony.request_response import RequestedCrl, RequestedRoot, RequestedSeries, RevokedCa
from pki.common.durations import BACKDATED
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName
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
        revoke: tuple[tuple[str, str], ...],
        destroy: tuple[str, ...],
    ) -> Iterator[RequestedSeries]:
        """Yield a new series of pre-signed CRLs for every root that has a key.

        `roots` are the new roots. `revoke` has the intermediates to be revoked, each
        with its reason. If a root is replaced or its key destroyed in this ceremony (`roots`, `destroy`), its series lasts
        until the root expires, because the root signs no further CRLs.
        """
        authorities = self.project.authorities
        destroyed_roots = ceremony_archive.destroyed_roots(self.project.store)
        for name in self.project.store.roots():
            generation = authorities.existing(name)
            if name in destroyed_roots or generation.not_after <= self.project.now:
                continue
            is_replaced = any(root.authority == name.authority for root in roots)
            is_last_series = is_replaced or generation != authorities.issuing(name.authority) or name in destroy
            until = generation.not_after if is_last_series else None
            crls = plan_presigned_crls(authorities, name, until=until, previous_number=self._last_number(name))
            yield RequestedSeries(root=name, revoked=tuple(self._revoked(revoke, name)), presigned_crls=tuple(crls))
        for root in roots:
            crls = plan_presigned_crls(
                authorities,
                root.name,
                until=None,
                previous_number=self._last_number(root.name),
                root_expiry=root.not_after,
            )
            yield RequestedSeries(root=root.name, revoked=(), presigned_crls=tuple(crls))

    def _last_number(self, root: str) -> int:
        last_crl = self.project.ledger.last_crl(root)
        return last_crl.number if last_crl else 0

    def _revoked(self, revoke: tuple[tuple[str, str], ...], root: str) -> Iterator[RevokedCa]:
        """Yield the entries of a root's CRLs: revocations in the ledger, and the requested ones."""
        series_start = self.project.now - BACKDATED
        for entry in self.project.ledger.revoked_entries(root, expiring_after=series_start):
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
    hierarchy: Hierarchy,
    root: str,
    *,
    until: datetime | None,
    previous_number: int,
    root_expiry: datetime | None = None,
) -> Iterator[RequestedCrl]:
    """Yield pre-signed CRLs from now until `until`, or for the configured period; they replace all earlier CRLs.

    A new CRL begins one second after each earlier CRL that has not begun, because many servers use the CRL with the newest
    start. Others are added as needed: each CRL begins PRESIGNED_CRL_OVERLAP before the previous one expires, or earlier. The last CRL
    expires no earlier than any that it replaces. No CRL begins after the root has expired; `root_expiry` is needed for a
    root without a certificate. Each number is higher than `previous_number` and the numbers before it (RFC 5280 §5.2.3).
    """
    if generation := hierarchy.generation(root):
        root_expiry = generation.not_after
    rule = hierarchy.inventory.authorities.root.crl
    step = rule.lifetime - PRESIGNED_CRL_OVERLAP
    earlier_starts = sorted({presigned_crl.this_update for presigned_crl in hierarchy.presigned_crls(root)})
    past_starts = [start for start in earlier_starts if start <= hierarchy.now]
    future_starts = [start for start in earlier_starts if start > hierarchy.now]
    starts = [max([hierarchy.now - BACKDATED, *(start + SECOND for start in past_starts)])]
    for start in future_starts:
        _fill(starts, start + SECOND, rule.lifetime, step, root_expiry)
        starts.append(start + SECOND)
    covered_until = until or hierarchy.now + rule.presigned * step
    _fill(starts, max(covered_until, series_end(hierarchy, root) or covered_until), rule.lifetime, step, root_expiry)
    number = previous_number
    for start in starts:
        number = max(int(start.timestamp()), number + 1)  # rises also if a lost ledger forgot the last number
        yield RequestedCrl(number=number, this_update=start, next_update=start + rule.lifetime)


def _fill(
    starts: list[datetime], goal: datetime, lifetime: timedelta, step: timedelta, root_expiry: datetime | None
) -> None:
    """Add start times until the last CRL expires at `goal` or later; none from `root_expiry` on."""
    while starts[-1] + lifetime < goal and (root_expiry is None or starts[-1] + step < root_expiry):
        starts.append(starts[-1] + step)
