"""Reasons why an authority cannot be used, or not yet."""

from __future__ import annotations

from datetime import datetime

from pki.common.errors import SET_CLOCK, PkiError
from pki.common.reasons import Reason, Why
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.clock_guard import ClockGuard
from pki.project.generations import Generation
from pki.x509 import canonical


def stale_reasons(now: datetime, authorities: Authorities, name: str) -> list[Reason]:
    """Return why the certificate of an authority cannot be used; its key is not checked.

    Bundles and pages need only the certificate. In a project in production nothing but a ceremony fixes these reasons.
    """
    issuing = authorities.issuing(name)
    if issuing is None:
        return [Why.NOT_CREATED()]
    if issuing.not_after < now:
        return [Why.AUTHORITY_EXPIRED(generation=issuing.name, date=f"{issuing.not_after:%Y-%m-%d}")]
    root = authorities.root_of(issuing.certificate)
    if name != "root" and (root is None or not canonical.is_issued_by(issuing.certificate, root.certificate)):
        return [Why.AUTHORITY_UNSIGNED(generation=issuing.name, root=root.name if root else "a root in ca/root/")]
    return []


def can_shorten_renewals(inventory: Inventory, now: datetime, authorities: Authorities) -> bool:
    """Return whether an issuing authority has less time left than the lifetime of its leaves.

    Only then can a renewed certificate be shorter than its profile says.
    """
    rules = inventory.profiles
    return any(
        issuer.not_after - now <= rule.lifetime
        for name, rule in (("server", rules.server), ("client", rules.client))
        if (issuer := authorities.issuing(name)) is not None
    )


def check_begun(inventory: Inventory, authorities: Authorities, clock: ClockGuard, generation: Generation) -> None:
    """Raise PkiError while the clock is before the start of the generation that signs.

    Nothing it signs would be valid.
    """
    signs = (
        generation if inventory.authorities.is_adopted(generation.name) else authorities.issuing(generation.authority)
    )
    if generation == signs and (early := authorities.not_yet_valid(generation)):
        clock.check()  # its message lists the evidence on the clock; the next one only the dates
        raise PkiError(early, SET_CLOCK)
