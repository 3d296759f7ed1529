"""Authorities and CRLs on the status page: every generation, and every published CRL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from pki.ceremony.online import needs
from pki.common.errors import PkiError
from pki.config.identifiers import GenerationName
from pki.config.model import Inventory
from pki.monitor.check_result import Level, worst_by_subject
from pki.monitor.checks import check_authorities
from pki.monitor.checks.check_context import CheckedProject
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509.revocation import crl_number


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """A generation. `root` is the name of the root that issued it: its own name for a root, "" for an adopted CA."""

    name: str
    common_name: str
    root: str
    start: date
    end: date
    state: str
    leaves: int


@dataclass(frozen=True, slots=True)
class CrlRow:
    """A published CRL. `later` are the pre-signed CRLs of a root that follow it: first and last day of each."""

    name: str
    number: int
    start: date
    end: date
    entries: int
    later: tuple[tuple[date, date], ...]
    level: Level


def authorities(project: Project, leaves: Counter[str]) -> Iterator[AuthorityRow]:
    """Yield every generation, with the number of leaf certificates that it issued."""
    for authority in project.store.authorities():
        for name in project.store.generations(authority):
            if generation := project.authorities.generation(name):
                root = generation if generation.name.is_root else project.authorities.root_of(generation.certificate)
                row = _authority(
                    project.inventory,
                    project.now,
                    project.authorities,
                    generation,
                    root.name if root else "",
                    leaves[name],
                )
                fault = project.signing_keys.cached_faults.get(name)
                yield replace(row, state=f"cannot sign: {fault.message}") if fault else row
    for name in map(GenerationName, project.inventory.authorities.adopted):
        with suppress(PkiError):  # its folder is invalid, which the check of its CRL reports
            if generation := project.authorities.generation(name):
                yield _authority(project.inventory, project.now, project.authorities, generation, "", leaves[name])


def _authority(
    inventory: Inventory, now: datetime, authorities: Authorities, generation: Generation, root: str, leaves: int
) -> AuthorityRow:
    certificate = generation.certificate
    return AuthorityRow(
        name=generation.name,
        common_name=generation.common_name,
        root=root,
        start=certificate.not_valid_before_utc.date(),
        end=certificate.not_valid_after_utc.date(),
        state=_state(inventory, now, authorities, generation),
        leaves=leaves,
    )


def _state(inventory: Inventory, now: datetime, authorities: Authorities, generation: Generation) -> str:
    """Return the state of a generation as a phrase."""
    end = generation.not_after
    if end <= now:
        return f"expired on {end:%Y-%m-%d}"
    if inventory.authorities.is_adopted(generation.name):
        return "adopted: signs CRLs and nothing else"
    if authorities.is_revoked_by_root(generation):
        return "revoked by its root"
    if generation.name.is_external:
        return "external: another server has its key"
    newest = authorities.issuing(generation.authority)
    if newest and newest.name != generation.name:
        return f"trusted until it expires; {newest.name} signs now"
    signing_period_end = needs.signing_period_end(authorities, generation)
    return (
        f"signs; a successor is requested on {signing_period_end:%Y-%m-%d}"
        if signing_period_end > now
        else "signs; its successor is due"
    )


def crls(checked: CheckedProject) -> Iterator[CrlRow]:
    """Yield every published CRL."""
    project, level = checked.project, worst_by_subject(checked.findings)
    for artifact in checked.plan.artifacts:
        if artifact.id.kind != "crl":
            continue
        name = artifact.id.name
        published_crl = check_authorities.read_published_crl(project.store, name)
        if published_crl is None or published_crl.next_update_utc is None:
            continue
        presigned_crls = project.authorities.presigned_crls(name) if GenerationName.parse(name).is_root else []
        later_crls = [
            presigned.crl
            for presigned in presigned_crls
            if presigned.crl.last_update_utc > published_crl.last_update_utc
        ]
        yield CrlRow(
            name=name,
            number=crl_number(published_crl),
            start=published_crl.last_update_utc.date(),
            end=published_crl.next_update_utc.date(),
            entries=len(published_crl),
            later=tuple(_days(crl) for crl in later_crls),
            level=level.get(artifact.id, Level.OK),
        )


def _days(crl: Any) -> tuple[date, date]:
    return crl.last_update_utc.date(), crl.next_update_utc.date()
