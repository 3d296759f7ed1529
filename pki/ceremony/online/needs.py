"""Requirements: what only a root ceremony can create, why, and by when. Every run computes this, so it must be fast.

The dates of a CA, in their order:

1. its signing period ends (SP 800-57: originator-usage period): from now on, a ceremony for its successor is due;
2. `overlap` later, it can issue no certificate of full lifetime any more: the ceremony is performed before this date;
3. the longest lifetime that it issues later, it expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pki.config.identifiers import INTERMEDIATES, ROOTS, ArtifactId, GenerationName
from pki.config.ip_addresses import is_within
from pki.config.leaf_certificates import permitted_addresses
from pki.project.hierarchy import Ca, Hierarchy
from pki.project.layout import Store

MAX_CRL_LEAD_TIME = timedelta(days=183)  # new CRLs are requested so long before the last pre-signed one expires
PRESIGNED_CRL_OVERLAP = timedelta(days=30)  # of two successive pre-signed CRLs
COMPANION_PERIOD = timedelta(days=183)  # an intermediate that is due so soon after a ceremony is created in it too
ISSUING = ("server", "client", "peer")  # the intermediates with their own keys in `ca/`


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that a ceremony must create: a generation (`server-2`), or with `is_crls` its new CRLs (`root-1 CRLs`).

    `by` is the latest time for the ceremony. With `has_no_deadline`, nothing expires and `by` is the present: pki.yaml
    has names or networks that the present generation does not permit, or an external authority has a new key, or there is
    no peer authority yet.
    """

    generation: GenerationName
    why: str
    by: datetime
    has_no_deadline: bool = False
    is_crls: bool = False

    @property
    def what(self) -> str:
        """Return the name for messages: `server-2` or `root-1 CRLs`."""
        return f"{self.generation} CRLs" if self.is_crls else self.generation

    @property
    def artifact(self) -> ArtifactId:
        """Return the artifact in status and JSON, such as `ceremony:root-1-crls`."""
        return ArtifactId("ceremony", f"{self.generation}-crls" if self.is_crls else self.generation)

    @property
    def authority(self) -> str:
        """Return `root`, `server`, `client`, `root-peer`, `peer`, or the name of an external authority."""
        return self.generation.authority


def longest_lifetime_below(hierarchy: Hierarchy, authority: str) -> timedelta:
    """Return the longest lifetime of a certificate that an authority signs; 0 of an external one."""
    config = hierarchy.inventory
    if authority in ROOTS:
        return config.authorities.longest_intermediate
    if authority not in ISSUING:
        return timedelta()  # only its server knows: `overlap` is the whole time before its expiry
    profiles = {"server": config.profiles.server, "client": config.profiles.client, "peer": config.profiles.peer}
    return profiles[authority].lifetime


def full_lifetime_end(hierarchy: Hierarchy, generation: Ca) -> datetime:
    """Return until when a generation can issue certificates of full lifetime."""
    return generation.not_after - longest_lifetime_below(hierarchy, generation.authority)


def signing_period_end(hierarchy: Hierarchy, generation: Ca) -> datetime:
    """Return the end of a generation's signing period, when its successor is requested."""
    overlap = hierarchy.inventory.authorities.overlap(generation.authority)
    return full_lifetime_end(hierarchy, generation) - overlap


def new_generations(requirements: Iterable[Requirement]) -> list[GenerationName]:
    """Return the generations among the requirements, without those for CRLs."""
    return [requirement.generation for requirement in requirements if not requirement.is_crls]


def next_generation(hierarchy: Hierarchy, authority: str) -> GenerationName:
    """Return the name of the generation after the newest one."""
    names = hierarchy.generations(authority)
    return names[-1].following if names else GenerationName(authority, 1)


def find_requirements(hierarchy: Hierarchy) -> list[Requirement]:
    """Return what a ceremony must create now; usually nothing."""
    requirements = [*_own_requirements(hierarchy, "root"), *_external_requirements(hierarchy)]
    if hierarchy.inventory.authorities.peer is not None:
        requirements += _own_requirements(hierarchy, "root-peer")
    else:  # after a peer authority is removed from pki.yaml, its root still needs CRLs
        requirements += _crl_requirements(hierarchy, "root-peer")
    if not requirements:
        return []
    return requirements + _companions(hierarchy, requirements)


def _own_requirements(hierarchy: Hierarchy, root_authority: str) -> list[Requirement]:
    """Return the requirements of `root` or `root-peer`, and of the intermediates below it whose keys are in `ca/`."""
    root = hierarchy.issuing(root_authority)
    requirements = list(_root_requirements(hierarchy, root_authority, root))
    new_roots = [
        requirement for requirement in requirements if requirement.generation.is_root and not requirement.is_crls
    ]
    for authority in INTERMEDIATES[root_authority]:
        if new_roots and root is not None:  # at the first ceremony, the missing intermediates have their own reason
            why, new_root = f"{new_roots[0].what} takes over", new_roots[0]
            next_name = next_generation(hierarchy, authority)
            requirements.append(Requirement(next_name, why, new_root.by, new_root.has_no_deadline))
        else:
            requirements += _intermediate_requirements(hierarchy, authority)
    return requirements


def _companions(hierarchy: Hierarchy, requirements: list[Requirement]) -> list[Requirement]:
    """Return the intermediates that will be required within COMPANION_PERIOD, so that no second ceremony is needed soon."""
    excluded = {requirement.authority for requirement in requirements}
    excluded |= set() if hierarchy.inventory.authorities.peer else {"peer"}
    candidates = (hierarchy.issuing(authority) for authority in ISSUING if authority not in excluded)
    return [
        Requirement(
            next_generation(hierarchy, companion.authority),
            f"{companion.name} would follow within half a year",
            full_lifetime_end(hierarchy, companion),
        )
        for companion in candidates
        if companion is not None and signing_period_end(hierarchy, companion) - COMPANION_PERIOD <= hierarchy.now
    ]


def _root_requirements(hierarchy: Hierarchy, authority: str, root: Ca | None) -> Iterator[Requirement]:
    """Yield a root that is missing or whose signing period ended, and CRLs that expire soon or begin too late.

    A new root of clusters is required, too, when the present one does not permit names of pki.yaml.
    """
    is_of_clusters = authority == "root-peer"
    if root is None:
        why = "there is no root of clusters yet" if is_of_clusters else "there is no root yet"
        yield Requirement(GenerationName(authority, 1), why, hierarchy.now, has_no_deadline=is_of_clusters)
        return
    end = signing_period_end(hierarchy, root)
    if end <= hierarchy.now:
        why = f"{root.name} can certify intermediates of full lifetime until {full_lifetime_end(hierarchy, root):%Y-%m-%d}"
        yield Requirement(next_generation(hierarchy, authority), why, full_lifetime_end(hierarchy, root))
    elif is_of_clusters and (forbidden := _not_permitted(hierarchy, root)):
        why = f"{root.name} does not permit {', '.join(forbidden)}"
        yield Requirement(next_generation(hierarchy, authority), why, hierarchy.now, has_no_deadline=True)
    yield from _crl_requirements(hierarchy, authority)


def _crl_requirements(hierarchy: Hierarchy, authority: str) -> Iterator[Requirement]:
    """Yield the CRLs of roots that expire soon or begin too late."""
    for name in hierarchy.generations(authority):
        last_expiry = series_end(hierarchy, name)
        generation = hierarchy.generation(name)
        if generation is None or last_expiry is None or generation.not_after <= hierarchy.now:
            continue
        first_start = min(presigned_crl.this_update for presigned_crl in hierarchy.presigned_crls(name))
        # No ceremony is needed if CRLs were lost (a backup has them) or if the root is not valid yet (the clock is wrong).
        is_gap = first_start > hierarchy.now >= generation.not_before and not hierarchy.has_lost_crls(name)
        if is_gap:
            yield Requirement(name, f"every CRL of {name} begins in the future", hierarchy.now, is_crls=True)
        elif last_expiry - crl_series_lead_time(hierarchy) <= hierarchy.now and last_expiry < generation.not_after:
            yield Requirement(
                name, f"the last CRL of {name} expires on {last_expiry:%Y-%m-%d}", last_expiry, is_crls=True
            )


def crl_series_lead_time(hierarchy: Hierarchy) -> timedelta:
    """Return how long before the last pre-signed CRL expires new ones are requested.

    That is half a year, or half of a series that is shorter than a year.
    """
    rule = hierarchy.inventory.authorities.root.crl
    return min(MAX_CRL_LEAD_TIME, rule.presigned * (rule.lifetime - PRESIGNED_CRL_OVERLAP) / 2)


def series_end(hierarchy: Hierarchy, root: str) -> datetime | None:
    """Return when the last pre-signed CRL of a root expires, or None without one."""
    return max((crl.next_update for crl in hierarchy.presigned_crls(root)), default=None)


def _intermediate_requirements(hierarchy: Hierarchy, authority: str) -> Iterator[Requirement]:
    """Yield the next intermediate if the present one is missing or revoked, ended its signing period, or permits too little."""
    issuer, next_name = hierarchy.issuing(authority), next_generation(hierarchy, authority)
    if issuer is None:
        names = hierarchy.generations(authority)
        why = f"{names[-1]} is revoked" if names else f"there is no {authority} authority yet"
        is_new = authority == "peer" and not names  # nothing depends on it yet
        yield Requirement(next_name, why, hierarchy.now, has_no_deadline=is_new)
        return
    latest = full_lifetime_end(hierarchy, issuer)
    if signing_period_end(hierarchy, issuer) <= hierarchy.now:
        yield Requirement(
            next_name, f"{issuer.name} can issue certificates of full lifetime until {latest:%Y-%m-%d}", latest
        )
    elif forbidden_names := _not_permitted(hierarchy, issuer):
        yield Requirement(
            next_name,
            f"{issuer.name} does not permit {', '.join(forbidden_names)}",
            hierarchy.now,
            has_no_deadline=True,
        )


def _external_requirements(hierarchy: Hierarchy) -> Iterator[Requirement]:
    """Yield the next generation of each external authority whose server has made a new key and a request for it.

    There is a deadline only if the present generation expires soon: otherwise nothing expires without the ceremony.
    """
    for authority, rule in hierarchy.inventory.authorities.externals.items():
        if not hierarchy.has_new_request(authority):
            continue
        issuer, next_name = hierarchy.issuing(authority), next_generation(hierarchy, authority)
        if issuer is not None and signing_period_end(hierarchy, issuer) <= hierarchy.now:
            yield Requirement(next_name, f"{issuer.name} expires on {issuer.not_after:%Y-%m-%d}", issuer.not_after)
            continue
        names = hierarchy.generations(authority)
        why = f"{names[-1]} is revoked" if names else f"there is no {authority} authority yet"
        if issuer is not None:
            why = f"{rule.external} has a new key"
        yield Requirement(next_name, why, hierarchy.now, has_no_deadline=True)


def _not_permitted(hierarchy: Hierarchy, generation: Ca) -> list[str]:
    """Return domains and networks that pki.yaml permits and the present intermediate, or root of clusters, does not."""
    permitted = generation.permitted
    blocks = [block for block in permitted_addresses(hierarchy.inventory) if not is_within(block, permitted.networks)]
    outside = [domain for domain in hierarchy.inventory.domains if not permitted.permits(domain)]
    return outside + [str(block) for block in blocks]


def is_ceremony_unfinished(store: Store) -> bool:
    """Return whether the last request has no response yet; in the sandbox, this means that a run was interrupted."""
    return any(not (folder / "response.yaml").exists() for folder in store.ceremonies()[-1:])
