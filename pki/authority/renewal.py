"""When a leaf certificate is due for renewal: its dates (RFC 5280 §4.1.2.5) and how long before, by pki.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.common.durations import in_common_unit, minimum_gain
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509.certificate_signing import validity_dates


@dataclass(frozen=True, slots=True)
class Current:
    """Dates and serial number of the present certificate of a leaf whose other content is as pki.yaml declares it."""

    not_before: datetime
    not_after: datetime
    serial: int


def unsigned_reasons(project: Project, leaf: Leaf, current: Current) -> list[Reason]:
    """Return why a leaf is due for renewal that its authority cannot sign; empty otherwise."""
    issuer = project.authorities.issuing(leaf.authority)
    if issuer is None or project.signing_keys.can_sign(issuer.name):
        return []
    return due_reasons(project, leaf, current, issuer)


def dated_reasons(project: Project, leaf: Leaf, current: Current, issuer: Generation | None) -> list[Reason]:
    """Return why a leaf must be issued again for its dates.

    Where the authority cannot sign, a certificate that is still valid is kept until it expires.
    """
    reasons = due_reasons(project, leaf, current, issuer)
    is_good = current.not_before <= project.now <= current.not_after
    return reasons if not (reasons and is_good and issuer) or project.signing_keys.can_sign(issuer.name) else []


def due_reasons(project: Project, leaf: Leaf, current: Current, issuer: Generation | None) -> list[Reason]:
    """Return why a leaf is due for its dates, whether or not its authority can sign."""
    if current.not_before > project.now:
        return [Why.NOT_YET_VALID(time=f"{current.not_before:%Y-%m-%d %H:%M}")]
    if project.now < current.not_after - leaf.renew_before:
        return []
    if issuer is not None and not gains_time(project, leaf, current, issuer):
        return []
    if current.not_after < project.now:
        return [Why.EXPIRED(date=f"{current.not_after:%Y-%m-%d}")]
    spans = (
        current.not_after - project.now,
        current.not_after - current.not_before + timedelta(seconds=1),
        leaf.renew_before,
    )
    (left, life, starts), unit = in_common_unit(*spans)
    return [Why.DUE(left=left, life=f"{life} {unit}".rstrip(), starts=starts)]


def gains_time(project: Project, leaf: Leaf, current: Current, issuer: Generation) -> bool:
    """Return whether a certificate that is issued now ends later than the present one by enough."""
    end = validity_dates(project.now, leaf.lifetime, issuer.certificate)[1]
    return end >= current.not_after + minimum_gain(leaf.lifetime, leaf.renew_before)
