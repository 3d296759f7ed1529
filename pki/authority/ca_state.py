"""Reasons why an authority cannot be used, or not yet."""

from __future__ import annotations

from datetime import datetime

from pki.common.errors import SET_CLOCK, PkiError
from pki.common.reasons import Reason, Why
from pki.config.identifiers import ROOTS, root_authority
from pki.config.model import Inventory
from pki.project.authorities import Authorities
from pki.project.clock_guard import ClockGuard
from pki.project.generations import Generation
from pki.x509 import canonical


def stale_reasons(now: datetime, authorities: Authorities, name: str) -> list[Reason]:
    """Return why the certificate of an authority cannot be used. Does not check its key.

    Bundles and pages need only the certificate. In production, only a ceremony removes these reasons.
    """
    issuing = authorities.issuing(name)
    if issuing is None:
        return [Why.NOT_CREATED()]
    if issuing.not_after < now:
        return [Why.AUTHORITY_EXPIRED(generation=issuing.name, date=f"{issuing.not_after:%Y-%m-%d}")]
    root = authorities.root_of(issuing.certificate)
    if name not in ROOTS and (root is None or not canonical.is_issued_by(issuing.certificate, root.certificate)):
        return [
            Why.AUTHORITY_UNSIGNED(
                generation=issuing.name, root=root.name if root else f"a root in ca/{root_authority(name)}/"
            )
        ]
    return []


def can_shorten_renewals(inventory: Inventory, now: datetime, authorities: Authorities) -> bool:
    """Return whether an issuing authority has less time left than the lifetime of its leaves.

    Only then can the lifetime of a renewed certificate be shorter than its profile says.
    """
    profiles = inventory.profiles
    for authority, rule in (("server", profiles.server), ("client", profiles.client), ("peer", profiles.peer)):
        issuer = authorities.issuing(authority)
        if issuer is not None and issuer.not_after - now <= rule.lifetime:
            return True
    return False


def check_valid_yet(inventory: Inventory, authorities: Authorities, clock: ClockGuard, generation: Generation) -> None:
    """Raise PkiError while the clock is before the start of validity of `generation`, if that is the one that signs.

    Nothing that the generation signs now would be valid.
    """
    is_adopted = inventory.authorities.is_adopted(generation.name)
    issuing = generation if is_adopted else authorities.issuing(generation.authority)
    not_yet_valid = authorities.not_yet_valid(generation)
    if generation == issuing and not_yet_valid:
        clock.check()  # its message lists the evidence about the clock; the next message has only the dates
        raise PkiError(not_yet_valid, SET_CLOCK)
