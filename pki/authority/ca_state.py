"""Why an authority cannot be used, or not yet."""

from __future__ import annotations

from pki.common.errors import SET_CLOCK, PkiError
from pki.common.reasons import Reason, Why
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509 import canonical


def stale_reasons(project: Project, name: str) -> list[Reason]:
    """Why an authority cannot be used, its key aside: what needs no signature goes on without it.

    Only the sandbox can make one.
    """
    found = project.issuing(name)
    if found is None:
        return [Why.NOT_CREATED()]
    if found.certificate.not_valid_after_utc < project.now:
        return [Why.AUTHORITY_EXPIRED(generation=found.name, date=f"{found.certificate.not_valid_after_utc:%Y-%m-%d}")]
    root = project.root_of(found.certificate)
    if name != "root" and (root is None or not canonical.is_issued_by(found.certificate, root.certificate)):
        return [Why.AUTHORITY_UNSIGNED(generation=found.name, root=root.name if root else "a root in ca/root/")]
    return []


def some_authority_ages(project: Project) -> bool:
    """Whether any renewal could be clamped at all: an issuing authority has less left than its leaves live."""
    rules = project.inventory.profiles
    return any(
        issuer.certificate.not_valid_after_utc - project.now <= rule.lifetime
        for name, rule in (("server", rules.server), ("client", rules.client))
        if (issuer := project.issuing(name)) is not None
    )


def insist_on_begun(project: Project, found: Generation) -> None:
    """Raise PkiError where the clock stands before the generation that signs begins: nothing that it signs would be valid."""
    signs = found if project.is_adopted(found.name) else project.issuing(found.authority)
    if found == signs and (early := project.before(found)):
        project.clock.insist()  # where nobody confirms the clock, the refusal says what the others say of it
        raise PkiError(early, SET_CLOCK)
