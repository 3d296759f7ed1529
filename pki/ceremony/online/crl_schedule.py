"""The pre-signed CRLs that a request asks for: all that a root will need, in place of all that there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online.needs import OVERLAP, series_end
from pki.ceremony.request_response import AskedRoot, RequestedCrl, RequestedSeries, Revocation
from pki.common.durations import BACKDATED
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName
from pki.project.generations import Generation
from pki.project.hierarchy import Hierarchy
from pki.project.project import Project
from pki.x509.certificate_signing import SECOND


def crl_series(
    project: Project,
    roots: tuple[AskedRoot, ...],
    present: Generation | None,
    revoke: tuple[tuple[str, str], ...],
    destroy: tuple[str, ...],
) -> Iterator[RequestedSeries]:
    """A new series of pre-signed CRLs for every root that signs on the day; for one that hands over or is destroyed, up to its end."""
    gone = ceremony_archive.destroyed_roots(project)
    for name in project.store.generations("root"):
        found = project.existing(name)
        if name in gone or found.certificate.not_valid_after_utc <= project.now:
            continue
        for_good = bool(roots) or found != present or name in destroy
        until = found.certificate.not_valid_after_utc if for_good else None
        yield RequestedSeries(
            root=name,
            revoked=tuple(_revoked(project, revoke, name)),
            presigned_crls=tuple(presigned_crls(project, name, until, _last_number(project, name))),
        )
    for root in roots:
        last = _last_number(project, root.name)
        yield RequestedSeries(
            root=root.name,
            revoked=(),
            presigned_crls=tuple(presigned_crls(project, root.name, None, last, root.not_after)),
        )


def _last_number(project: Project, root: str) -> int:
    last = project.ledger.last_crl(root)
    return last[0] if last else 0


def _revoked(project: Project, revoke: tuple[tuple[str, str], ...], root: str) -> Iterator[Revocation]:
    """What a root's CRLs must list: what the ledger knows, and what is wished."""
    for entry in project.ledger.revoked_entries(root, project.now - BACKDATED):  # when the first pre-signed CRL begins
        issued = next(iter(project.ledger.certificates(serial=entry.serial)), None)
        if issued is None:
            raise PkiError(
                f"the CRL of {root} must list the serial {entry.serial:x}, which the ledger does not know",
                "it was signed after the backup that this project was restored from: restore a newer one",
            )
        revoked = GenerationName(issued.artifact.name, int(ceremony_archive.NUMBER.findall(issued.subject)[-1]))
        yield Revocation(generation=revoked, serial=entry.serial, reason=entry.reason, at=entry.revoked_at)
    for name, reason in revoke:
        found = project.existing(name)
        issuer = project.root_of(found.certificate)
        if issuer and issuer.name == root:
            serial = found.certificate.serial_number
            yield Revocation(generation=name, serial=serial, reason=reason, at=project.now)


def presigned_crls(
    project: Hierarchy, root: str, until: datetime | None, number: int, end: datetime | None = None
) -> Iterator[RequestedCrl]:
    """Pre-signed CRLs from now on that replace all earlier ones: one a second after each that has not begun, and more as needed.

    Numbers are above `number`, the last one; each pre-signed CRL begins a month before the one before it ends, or earlier. The last
    one ends no earlier than any that it replaces. None begins after the root has ended: at `end`, where there is no
    certificate of it yet.
    """
    if known := project.generation(root):
        end = known.not_after
    rule = project.inventory.authorities.root.crl
    step = rule.lifetime - OVERLAP
    earlier = {presigned_crl.this_update for presigned_crl in project.presigned_crls(root)}
    begun = [start for start in earlier if start <= project.now]
    starts = [max([project.now - BACKDATED, *(at + SECOND for at in begun)])]
    for at in sorted(earlier):
        if at > project.now:
            _fill(starts, at + SECOND, rule.lifetime, step, end)
            starts.append(at + SECOND)
    goal = until or project.now + rule.presigned * step
    _fill(starts, max(goal, series_end(project, root) or goal), rule.lifetime, step, end)
    for at in starts:
        number = max(int(at.timestamp()), number + 1)
        yield RequestedCrl(number=number, this_update=at, next_update=at + rule.lifetime)


def _fill(starts: list[datetime], goal: datetime, lifetime: timedelta, step: timedelta, end: datetime | None) -> None:
    """Begin as many more pre-signed CRLs as it takes for the last one to end at `goal` or later, and none from `end` on."""
    while starts[-1] + lifetime < goal and (end is None or starts[-1] + step < end):
        starts.append(starts[-1] + step)
