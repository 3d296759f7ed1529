"""Decide when a leaf certificate is due for renewal, by its dates (RFC 5280 §4.1.2.5) and `renew_before` in pki.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.common.durations import in_common_unit, minimum_gain
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.signing_keys import SigningKeys
from pki.x509.certificate_signing import validity_dates


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """Dates and serial number of a leaf's present certificate, whose names, key and issuer are as pki.yaml declares."""

    not_before: datetime
    not_after: datetime
    serial: int


def postponed_reasons(
    now: datetime, authorities: Authorities, signing_keys: SigningKeys, leaf: Leaf, summary: CertificateSummary
) -> list[Reason]:
    """Return why a leaf is due while its authority cannot sign, for reports.

    Returns nothing if the leaf is not due, or if the authority can sign. An authority cannot sign while its key or
    passphrase is missing.
    """
    issuer = authorities.issuing(leaf.authority)
    if issuer is None or signing_keys.can_sign(issuer.name):
        return []
    return due_reasons(now, leaf, summary, issuer)


def renewal_reasons(
    now: datetime, signing_keys: SigningKeys, leaf: Leaf, summary: CertificateSummary, issuer: Generation | None
) -> list[Reason]:
    """Return why the next run must renew a leaf; empty while no renewal is due.

    While the authority cannot sign, the renewal of a leaf is postponed as long as its certificate is valid. The run then
    reports the key of the authority once, instead of each leaf.
    """
    reasons = due_reasons(now, leaf, summary, issuer)
    is_valid = summary.not_before <= now <= summary.not_after
    is_postponed = bool(reasons) and is_valid and issuer is not None and not signing_keys.can_sign(issuer.name)
    return [] if is_postponed else reasons


def due_reasons(now: datetime, leaf: Leaf, summary: CertificateSummary, issuer: Generation | None) -> list[Reason]:
    """Return why a leaf is due by its dates alone: not valid yet, expired, or less than `renew_before` left.

    Whether its authority can sign does not count. Returns nothing if a renewal would not extend the certificate.
    """
    if summary.not_before > now:
        return [Why.NOT_YET_VALID(time=f"{summary.not_before:%Y-%m-%d %H:%M}")]
    if now < leaf.renewal_start(summary.not_after):
        return []
    if issuer is not None and not gains_time(now, leaf, summary, issuer):
        return []
    if summary.not_after < now:
        return [Why.EXPIRED(date=f"{summary.not_after:%Y-%m-%d}")]
    # RFC 5280 §4.1.2.5: the second of notAfter is part of the lifetime
    lifetime = summary.not_after - summary.not_before + timedelta(seconds=1)
    (left, life, starts), unit = in_common_unit(summary.not_after - now, lifetime, leaf.renew_before)
    return [Why.DUE(left=left, life=f"{life} {unit}".rstrip(), starts=starts)]


def gains_time(now: datetime, leaf: Leaf, summary: CertificateSummary, issuer: Generation) -> bool:
    """Return whether a certificate that is issued now would expire later than the present one, by a minimum gain.

    A new certificate expires no later where the issuer expires first, because a certificate never outlives its issuer.
    """
    _, new_expiry = validity_dates(now, leaf.lifetime, issuer.certificate)
    return new_expiry >= summary.not_after + minimum_gain(leaf.lifetime, leaf.renew_before)
