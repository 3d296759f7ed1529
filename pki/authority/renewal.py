"""When a leaf certificate is due for renewal (RFC 5280 §4.1.2.5 gives its dates, pki.yaml how long before)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.common.durations import compared, least_gain
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509.certificate_signing import validity_dates


@dataclass(frozen=True, slots=True)
class Current:
    """What a leaf's PEM bundle says: its dates and serial number, once everything else in it is as wanted."""

    not_before: datetime
    not_after: datetime
    serial: int


def unsigned(project: Project, wanted: Leaf, held: Current) -> list[Reason]:
    """Why a leaf is due for renewal whose authority cannot sign; empty where that is not so."""
    issuer = project.issuing(wanted.authority)
    if issuer is None or project.can_sign(issuer.name):
        return []
    return due_reasons(project, wanted, held, issuer)


def dated_reasons(project: Project, wanted: Leaf, held: Current, issuer: Generation | None) -> list[Reason]:
    """Why a leaf must be issued again for its dates; one that is good still, and cannot be renewed, is kept until it ends."""
    reasons = due_reasons(project, wanted, held, issuer)
    is_good = held.not_before <= project.now <= held.not_after
    return reasons if not (reasons and is_good and issuer) or project.can_sign(issuer.name) else []


def due_reasons(project: Project, wanted: Leaf, held: Current, issuer: Generation | None) -> list[Reason]:
    if held.not_before > project.now:
        return [Why.NOT_YET_VALID(time=f"{held.not_before:%Y-%m-%d %H:%M}")]
    if project.now < held.not_after - wanted.renew_before:
        return []
    if issuer is not None and not gains_time(project, wanted, held, issuer):
        return []
    if held.not_after < project.now:
        return [Why.EXPIRED(date=f"{held.not_after:%Y-%m-%d}")]
    spans = (held.not_after - project.now, held.not_after - held.not_before + timedelta(seconds=1), wanted.renew_before)
    (left, life, starts), unit = compared(*spans)
    return [Why.DUE(left=left, life=f"{life} {unit}".rstrip(), starts=starts)]


def gains_time(project: Project, wanted: Leaf, held: Current, issuer: Generation) -> bool:
    """Return whether a certificate that is issued now ends later than the present one by enough."""
    end = validity_dates(project.now, wanted.lifetime, issuer.certificate)[1]
    return end >= held.not_after + least_gain(wanted.lifetime, wanted.renew_before)
