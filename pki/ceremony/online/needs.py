"""What only a root ceremony can bring, why, and by when: looked at in every run, so it is quick.

A CA can issue certificates of full length until its end minus the longest life below it. Its *usable life* is shorter by
its `handover`: the time in which a ceremony is to be held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.leaf_certificates import permitted_addresses
from pki.project.generations import Generation
from pki.project.project import House
from pki.x509.name_constraints import Permitted

LADDER_ALARM = timedelta(days=183)
OVERLAP = timedelta(days=30)  # of two rungs
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


def longest_below(house: House, authority: str) -> timedelta:
    """The longest life of a certificate that an authority signs."""
    said = house.inventory
    if authority == "root":
        return max(said.authorities.server.lifetime, said.authorities.client.lifetime)
    return said.profiles.server.lifetime if authority == "server" else said.profiles.client.lifetime


def full_until(house: House, found: Generation) -> datetime:
    """Until when a generation can issue certificates of full length."""
    return found.certificate.not_valid_after_utc - longest_below(house, found.authority)


def usable_until(house: House, found: Generation) -> datetime:
    """The end of a generation's usable life: the day on which its successor is asked for."""
    authorities = house.inventory.authorities
    rule = authorities.root if found.authority == "root" else authorities.intermediate(found.authority)
    return full_until(house, found) - rule.handover


def new_generations(found: Iterable[Need]) -> list[GenerationName]:
    """The generations among what a ceremony must bring."""
    return [need.generation for need in found if not need.is_crls]


def next_name(house: House, authority: str) -> GenerationName:
    """The name of the generation after the newest one that has a certificate."""
    names = house.store.generations(authority)
    return names[-1].following if names else GenerationName(authority, 1)


def needs(house: House) -> list[Need]:
    """What a ceremony must bring now; empty for most of the time."""
    root = house.issuing("root")
    found = list(_root_needs(house, root))
    moves = [need for need in found if need.generation.is_root and not need.is_crls]
    for authority in INTERMEDIATES:
        if moves and root is not None:
            found.append(Need(next_name(house, authority), f"{moves[0].what} takes over", moves[0].by))
        else:
            found += _intermediate_needs(house, authority)
    return found + _companions(house, found) if found else []


def _companions(house: House, found: list[Need]) -> list[Need]:
    """What would be needed within half a year: a ceremony that is held anyway spares the next one."""
    asked = {need.authority for need in found}
    there = (house.issuing(authority) for authority in INTERMEDIATES if authority not in asked)
    return [
        Need(next_name(house, one.authority), f"{one.name} would follow within half a year", full_until(house, one))
        for one in there
        if one is not None and usable_until(house, one) - TOGETHER <= house.now
    ]


def _root_needs(house: House, root: Generation | None) -> Iterator[Need]:
    if root is None:
        yield Need(GenerationName("root", 1), "there is no root yet", house.now)
        return
    end = usable_until(house, root)
    if end <= house.now:
        why = f"{root.name} can certify intermediates of full length until {full_until(house, root):%Y-%m-%d}"
        yield Need(next_name(house, "root"), why, full_until(house, root))
    for name in house.store.generations("root"):
        last = ladder_end(house, name)
        found = house.generation(name)
        if found is None or last is None or found.certificate.not_valid_after_utc <= house.now:
            continue
        rungs = house.rungs(name)
        is_whole = len(rungs) == len(house.store.rungs(name))  # one that is damaged is restored: no ceremony is needed
        if is_whole and min(rung.crl.last_update_utc for rung in rungs) > house.now and not house.before(found):
            yield Need(name, f"every CRL of {name} begins in the future", house.now, is_crls=True)
        elif last - ladder_alarm(house) <= house.now and last < found.certificate.not_valid_after_utc:
            yield Need(name, f"the last CRL of {name} ends on {last:%Y-%m-%d}", last, is_crls=True)


def ladder_alarm(house: House) -> timedelta:
    """How long before the last rung's end new ones are asked for: half a year, or half of a ladder that is shorter."""
    rule = house.inventory.authorities.root.crl
    return min(LADDER_ALARM, rule.rungs * (rule.lifetime - OVERLAP) / 2)


def ladder_end(house: House, root: str) -> datetime | None:
    """When the last rung of a root's ladder ends."""
    return max((end for rung in house.rungs(root) if (end := rung.crl.next_update_utc)), default=None)


def _intermediate_needs(house: House, authority: str) -> Iterator[Need]:
    found, following = house.issuing(authority), next_name(house, authority)
    if found is None:
        names = house.store.generations(authority)
        yield Need(
            following, f"{names[-1]} is revoked" if names else f"there is no {authority} authority yet", house.now
        )
        return
    last = full_until(house, found)
    if usable_until(house, found) <= house.now:
        yield Need(following, f"{found.name} can issue certificates of full length until {last:%Y-%m-%d}", last)
    elif refused := _refused(house, found):
        yield Need(following, f"{found.name} does not permit {', '.join(refused)}", house.now, is_growth=True)


def _refused(house: House, found: Generation) -> list[str]:
    """Domains and networks that pki.yaml permits and the present intermediate does not."""
    permitted = Permitted.by(found.certificate)
    domains = [domain for domain in house.inventory.domains if f".{domain}" not in permitted.domains]
    wanted = permitted_addresses(house.inventory)
    blocks = [block for block in wanted if not any(block.subnet_of(allowed) for allowed in permitted.networks)]
    outside = [domain for domain in domains if not permitted.admits(domain)]
    return outside + [str(block) for block in blocks]


def is_cut_short(house: House) -> bool:
    """Whether the last ceremony was begun and not ended: in the sandbox, which holds them in one go, a run was killed."""
    return any(not (folder / "response.yaml").exists() for folder in house.store.ceremonies()[-1:])
