"""What only a root ceremony can bring, why, and by when: looked at in every run, so it is quick.

A CA can issue certificates of full length until its end minus the longest life below it. Its *usable life* is shorter by
its `overlap`: the time in which a ceremony is to be held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.leaf_certificates import permitted_addresses
from pki.project.hierarchy import Ca, Hierarchy
from pki.project.project import Project

SERIES_ALARM = timedelta(days=183)
OVERLAP = timedelta(days=30)  # of two pre-signed CRLs
TOGETHER = timedelta(days=183)
INTERMEDIATES = ("server", "client")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a ceremony must bring: a generation (`server-2`), or with `is_crls` its new CRLs (`root-1 CRLs`).

    `by` is the last day on which it does no harm that it is missing. `is_growth` says that pki.yaml outgrew what there
    is, and nothing comes to its end.
    """

    generation: GenerationName
    why: str
    by: datetime
    is_growth: bool = False
    is_crls: bool = False

    @property
    def what(self) -> str:
        return f"{self.generation} CRLs" if self.is_crls else self.generation

    @property
    def artifact(self) -> ArtifactId:
        """What status calls it: `ceremony:root-1-crls`."""
        return ArtifactId("ceremony", f"{self.generation}-crls" if self.is_crls else self.generation)

    @property
    def authority(self) -> str:
        return self.generation.authority


def longest_below(project: Hierarchy, authority: str) -> timedelta:
    """The longest life of a certificate that an authority signs."""
    said = project.inventory
    if authority == "root":
        return max(said.authorities.server.lifetime, said.authorities.client.lifetime)
    return said.profiles.server.lifetime if authority == "server" else said.profiles.client.lifetime


def full_until(project: Hierarchy, found: Ca) -> datetime:
    """Until when a generation can issue certificates of full length."""
    return found.not_after - longest_below(project, found.authority)


def usable_until(project: Hierarchy, found: Ca) -> datetime:
    """The end of a generation's usable life: the day on which its successor is asked for."""
    authorities = project.inventory.authorities
    rule = authorities.root if found.authority == "root" else authorities.intermediate(found.authority)
    return full_until(project, found) - rule.overlap


def new_generations(found: Iterable[Need]) -> list[GenerationName]:
    """The generations among what a ceremony must bring."""
    return [need.generation for need in found if not need.is_crls]


def next_name(project: Hierarchy, authority: str) -> GenerationName:
    """The name of the generation after the newest one that has a certificate."""
    names = project.generations(authority)
    return names[-1].following if names else GenerationName(authority, 1)


def needs(project: Hierarchy) -> list[Need]:
    """What a ceremony must bring now; empty for most of the time."""
    root = project.issuing("root")
    found = list(_root_needs(project, root))
    moves = [need for need in found if need.generation.is_root and not need.is_crls]
    for authority in INTERMEDIATES:
        if moves and root is not None:
            found.append(Need(next_name(project, authority), f"{moves[0].what} takes over", moves[0].by))
        else:
            found += _intermediate_needs(project, authority)
    return found + _companions(project, found) if found else []


def _companions(project: Hierarchy, found: list[Need]) -> list[Need]:
    """What would be needed within half a year: a ceremony that is held anyway spares the next one."""
    asked = {need.authority for need in found}
    there = (project.issuing(authority) for authority in INTERMEDIATES if authority not in asked)
    return [
        Need(next_name(project, one.authority), f"{one.name} would follow within half a year", full_until(project, one))
        for one in there
        if one is not None and usable_until(project, one) - TOGETHER <= project.now
    ]


def _root_needs(project: Hierarchy, root: Ca | None) -> Iterator[Need]:
    if root is None:
        yield Need(GenerationName("root", 1), "there is no root yet", project.now)
        return
    end = usable_until(project, root)
    if end <= project.now:
        why = f"{root.name} can certify intermediates of full length until {full_until(project, root):%Y-%m-%d}"
        yield Need(next_name(project, "root"), why, full_until(project, root))
    for name in project.generations("root"):
        last = series_end(project, name)
        found = project.generation(name)
        if found is None or last is None or found.not_after <= project.now:
            continue
        presigned_crls = project.presigned_crls(name)
        if (
            not project.has_lost_crls(name)
            and min(presigned_crl.this_update for presigned_crl in presigned_crls) > project.now
            and found.not_before <= project.now
        ):
            yield Need(name, f"every CRL of {name} begins in the future", project.now, is_crls=True)
        elif last - series_alarm(project) <= project.now and last < found.not_after:
            yield Need(name, f"the last CRL of {name} ends on {last:%Y-%m-%d}", last, is_crls=True)


def series_alarm(project: Hierarchy) -> timedelta:
    """How long before the last pre-signed CRL's end new ones are asked for: half a year, or half of a series of pre-signed CRLs that is shorter."""
    rule = project.inventory.authorities.root.crl
    return min(SERIES_ALARM, rule.presigned * (rule.lifetime - OVERLAP) / 2)


def series_end(project: Hierarchy, root: str) -> datetime | None:
    """When the last pre-signed CRL of a root ends."""
    return max((crl.next_update for crl in project.presigned_crls(root)), default=None)


def _intermediate_needs(project: Hierarchy, authority: str) -> Iterator[Need]:
    found, following = project.issuing(authority), next_name(project, authority)
    if found is None:
        names = project.generations(authority)
        yield Need(
            following, f"{names[-1]} is revoked" if names else f"there is no {authority} authority yet", project.now
        )
        return
    last = full_until(project, found)
    if usable_until(project, found) <= project.now:
        yield Need(following, f"{found.name} can issue certificates of full length until {last:%Y-%m-%d}", last)
    elif refused := _refused(project, found):
        yield Need(following, f"{found.name} does not permit {', '.join(refused)}", project.now, is_growth=True)


def _refused(project: Hierarchy, found: Ca) -> list[str]:
    """Domains and networks that pki.yaml permits and the present intermediate does not."""
    permitted = found.permitted
    domains = [domain for domain in project.inventory.domains if f".{domain}" not in permitted.domains]
    wanted = permitted_addresses(project.inventory)
    blocks = [block for block in wanted if not any(block.subnet_of(allowed) for allowed in permitted.networks)]
    outside = [domain for domain in domains if not permitted.permits(domain)]
    return outside + [str(block) for block in blocks]


def is_cut_short(project: Project) -> bool:
    """Whether the last ceremony was begun and not ended: in the sandbox, which holds them in one go, a run was killed."""
    return any(not (folder / "response.yaml").exists() for folder in project.store.ceremonies()[-1:])
