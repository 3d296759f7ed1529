"""What signs, for the status page: every generation of every authority, and the CRLs that are published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from cryptography import x509

from pki.ceremony.online import needs
from pki.common.errors import PkiError
from pki.config.identifiers import AUTHORITIES, GenerationName
from pki.monitor.check_result import Level, levels
from pki.monitor.checks import check_authorities
from pki.monitor.checks.check_context import CheckContext
from pki.project.generations import Generation
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Authority:
    """A generation; `root` is the one that signed it, itself for a root, empty where it is not from here."""

    name: str
    common_name: str
    root: str
    start: date
    end: date
    state: str
    leaves: int


@dataclass(frozen=True, slots=True)
class Crl:
    """A CRL as it is published; `later` are the pre-signed CRL of a root that follow: first and last day of each."""

    name: str
    number: int
    start: date
    end: date
    entries: int
    later: tuple[tuple[date, date], ...]
    level: Level


def authorities(project: Project, leaves: Counter[str]) -> Iterator[Authority]:
    for authority in AUTHORITIES:
        for name in project.store.generations(authority):
            if found := project.generation(name):
                root = found if authority == "root" else project.root_of(found.certificate)
                yield _authority(project, found, root.name if root else "", leaves[name])
    for name in map(GenerationName, project.inventory.authorities.adopted):
        with suppress(PkiError):  # its folder is not as it should be, as its CRL tells
            if found := project.generation(name):
                yield _authority(project, found, "", leaves[name])


def _authority(project: Project, found: Generation, root: str, leaves: int) -> Authority:
    certificate = found.certificate
    return Authority(
        name=found.name,
        common_name=found.common_name,
        root=root,
        start=certificate.not_valid_before_utc.date(),
        end=certificate.not_valid_after_utc.date(),
        state=_standing(project, found),
        leaves=leaves,
    )


def _standing(project: Project, found: Generation) -> str:
    end = found.certificate.not_valid_after_utc
    if end <= project.now:
        return f"ended on {end:%Y-%m-%d}"
    if project.is_adopted(found.name):
        return "adopted: signs CRLs and nothing else"
    if project.is_revoked_by_root(found):
        return "revoked by its root"
    newest = project.issuing(found.authority)
    if newest and newest.name != found.name:
        return f"trusted until its end; {newest.name} issues now"
    usable = needs.signs_until(project, found)
    return f"issues now; usable until {usable:%Y-%m-%d}" if usable > project.now else "issues now; its successor is due"


def crls(context: CheckContext) -> Iterator[Crl]:
    project, level = context.project, levels(context.checks)
    for artifact in context.plan.artifacts:
        if artifact.id.kind != "crl":
            continue
        name = artifact.id.name
        published = check_authorities.published(project, name)
        if published is None or published.next_update_utc is None:
            continue
        presigned_crls = project.presigned_crls(name) if GenerationName.parse(name).is_root else []
        after = [one.crl for one in presigned_crls if one.crl.last_update_utc > published.last_update_utc]
        yield Crl(
            name=name,
            number=published.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
            start=published.last_update_utc.date(),
            end=published.next_update_utc.date(),
            entries=len(published),
            later=tuple(_days(crl) for crl in after),
            level=level.get(artifact.name, Level.OK),
        )


def _days(crl: Any) -> tuple[date, date]:
    return crl.last_update_utc.date(), crl.next_update_utc.date()
