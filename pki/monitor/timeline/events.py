"""The timeline: what doit will do in the next years, what people must do, and the problems to expect.

The timeline is computed from the project, the plan and pki.yaml; nothing is written. It assumes that every ceremony is
performed two weeks after its request, or on the next day that is no holiday, and says that this is an assumption.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, takewhile

from pki.authority.certificates import LeafCertificates
from pki.ceremony.online.needs import ISSUING
from pki.common import filesystem
from pki.common.durations import in_common_unit, rounded
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory, Leaf
from pki.monitor.timeline.ca_rollovers import CaRollovers, crl_rhythm
from pki.monitor.timeline.event_kinds import EventKind
from pki.monitor.timeline.planned_ceremonies import Ceremony
from pki.monitor.timeline.planned_hierarchy import PlannedCa
from pki.monitor.timeline.renewals import Renewals, renewals
from pki.monitor.timeline.runs import Runs
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.project.project import Project

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """An event that happens once. `is_problem` marks a problem, such as a gap without a valid certificate."""

    at: datetime
    what: EventKind
    subject: str
    text: str
    is_problem: bool = False


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A repeated event: its interval, the next time, how many times it happens, and until when the next result is valid.

    `kind` groups rhythms: server certificates, client certificates, CRLs.
    """

    subject: str
    kind: str
    every: timedelta
    next: datetime
    times: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events and rhythms from `start` to `end`, the renewals by leaf name, and the planned ceremonies."""

    start: datetime
    end: datetime
    rhythms: tuple[Rhythm, ...]
    events: tuple[TimelineEvent, ...]
    renewals: dict[str, Renewals]
    ceremonies: tuple[Ceremony, ...]

    @property
    def problems(self) -> tuple[TimelineEvent, ...]:
        """Return the problems."""
        return tuple(event for event in self.events if event.is_problem)

    def busiest(self) -> tuple[datetime, int, int] | None:
        """Return the day with most next renewals, their number, and the number of all; None for fewer than 10 leaves."""
        next_ones = [planned.issued[0][0] for planned in self.renewals.values() if planned.issued]
        if len(next_ones) < 10:
            return None
        day, most = Counter(at.replace(hour=0, minute=0, second=0) for at in next_ones).most_common(1)[0]
        return day, most, len(next_ones)


def timeline(project: Project, plan: Plan, years: int, *, with_ceremonies: bool = True) -> Timeline:
    """Return the timeline of the next `years`; without `with_ceremonies`, the next requested ceremony is never performed."""
    runs, until = Runs.of(project.inventory, project.now), project.now + years * YEAR
    rollovers = CaRollovers.of(project, runs, until, with_ceremonies=with_ceremonies)
    leaves = _renewals(LeafCertificates(project), project.revocations, plan, rollovers)
    rhythms = [*_leaf_rhythms(plan, leaves), *_crl_rhythms(project.inventory, project.store, rollovers)]
    events = [
        *_ceremony_events(rollovers, with_ceremonies=with_ceremonies),
        *_takeover_events(plan, rollovers),
        *_presigned_events(project.store, rollovers),
        *_end_events(rollovers),
        *_problem_events(plan, leaves),
        *_outlived_authority_events(project.revocations, rollovers),
    ]
    ordered_events = tuple(
        sorted((event for event in events if event.at <= until), key=lambda event: (event.at, event.what))
    )
    return Timeline(project.now, until, tuple(rhythms), ordered_events, leaves, tuple(rollovers.ceremonies))


# -- leaves -----------------------------------------------------------------------------------------------------------


def _renewals(
    leaf_certificates: LeafCertificates, revocations: Revocations, plan: Plan, rollovers: CaRollovers
) -> dict[str, Renewals]:
    """Return the renewals of every leaf; leaves with equal rules and dates share one computation."""
    renewals_by_kind: dict[tuple[object, ...], Renewals] = {}
    leaves: dict[str, Renewals] = {}
    for leaf in plan.leaves.values():
        if leaf.artifact in revocations.replacement_stopped:
            continue  # `plan` reports that its replacement is stopped
        certificate = leaf_certificates.usable_certificate(leaf)
        dates = (certificate.not_before, certificate.not_after) if certificate else None
        kind = (leaf.authority, leaf.lifetime, leaf.renew_before, dates)
        if kind not in renewals_by_kind:
            renewals_by_kind[kind] = renewals(
                leaf, certificate, rollovers.issuing_periods[leaf.authority], rollovers.runs, rollovers.until
            )
        leaves[leaf.name] = renewals_by_kind[kind]
    return leaves


def _leaf_rhythms(plan: Plan, leaves: dict[str, Renewals]) -> Iterator[Rhythm]:
    for name, planned in leaves.items():
        moments = [at for at, _ in planned.issued]
        if moments:
            kind, every = f"{plan.leaves[name].authority} certificates", _usual(moments)
            yield Rhythm(ArtifactId("cert", name), kind, every, moments[0], len(moments), planned.issued[0][1])


def _usual(moments: list[datetime]) -> timedelta:
    """Return the most frequent interval between moments, in whole days, hours or minutes."""
    steps = Counter(rounded(after - at) for at, after in pairwise(moments))
    return steps.most_common(1)[0][0] if steps else timedelta(0)


# -- CRLs -------------------------------------------------------------------------------------------------------------


def _crl_rhythms(inventory: Inventory, store: Store, rollovers: CaRollovers) -> Iterator[Rhythm]:
    for generation in rollovers.generations():
        is_live = generation.not_after > rollovers.runs.now and not rollovers.hierarchy.is_revoked(generation)
        if generation.authority in ISSUING and is_live:
            crls = _crls(inventory, store, rollovers, generation)
            if crls:
                every = _usual([at for at, _ in crls])
                yield Rhythm(ArtifactId("crl", generation.name), "CRLs", every, crls[0][0], len(crls), crls[0][1])


def _crls(
    inventory: Inventory, store: Store, rollovers: CaRollovers, generation: PlannedCa
) -> list[tuple[datetime, datetime]]:
    created = next(
        (ceremony.performed for ceremony in rollovers.ceremonies if generation.name in ceremony.generations),
        rollovers.runs.first,
    )
    end = min(generation.not_after, rollovers.until)
    moments = crl_rhythm(inventory, store, generation.name, rollovers.runs, created)
    return list(takewhile(lambda issued: issued[0] < end, moments))


def _presigned_events(store: Store, rollovers: CaRollovers) -> Iterator[TimelineEvent]:
    ceremony_dates = {ceremony.performed for ceremony in rollovers.ceremonies}
    for presigned_crl in rollovers.presigned_crls:
        published_der = filesystem.read(store.crl(presigned_crl.root))
        if presigned_crl.at in ceremony_dates or (
            presigned_crl.at == rollovers.runs.first and published_der is not None
        ):
            continue  # published with the other results of a ceremony, or published already
        yield TimelineEvent(
            presigned_crl.at,
            EventKind.PRESIGNED_CRL,
            ArtifactId("crl", presigned_crl.root),
            f"the next pre-signed CRL is published, valid until {presigned_crl.end:%Y-%m-%d}",
        )
    for gap in rollovers.crl_gaps:
        end = f"until {gap.until:%Y-%m-%d}" if gap.until else "and nothing planned ends this"
        text = f"no valid CRL, {end}: every client is refused"
        yield TimelineEvent(gap.since, EventKind.GAP, ArtifactId("crl", gap.root), text, is_problem=True)


# -- ceremonies and ends ----------------------------------------------------------------------------------------------


def _ceremony_events(rollovers: CaRollovers, *, with_ceremonies: bool) -> Iterator[TimelineEvent]:
    for ceremony in rollovers.ceremonies:
        names = ", ".join(ceremony.products)
        if not ceremony.by_doit:
            text = f"doit prepares the request for {names}; the ceremony is due by {ceremony.by:%Y-%m-%d}"
            text += f"; {ceremony.new_keys}" if ceremony.new_keys else ""
            yield TimelineEvent(max(ceremony.requested, rollovers.runs.now), EventKind.REQUEST, "ceremony", text)
        if with_ceremonies:
            created = f"{names} {'are' if len(ceremony.products) > 1 or ceremony.needs[0].is_crls else 'is'} created"
            who = "doit performs it (sandbox)" if ceremony.by_doit else "this day is assumed"
            yield TimelineEvent(ceremony.performed, EventKind.CEREMONY, "ceremony", f"{created}; {who}")
        if ceremony.remark:
            yield TimelineEvent(ceremony.performed, EventKind.HOLIDAY, "ceremony", ceremony.remark, is_problem=True)


def _takeover_events(plan: Plan, rollovers: CaRollovers) -> Iterator[TimelineEvent]:
    """Yield each moment at which the leaves of an authority get another issuer, or a shorter chain."""
    for authority, issuing_periods in rollovers.issuing_periods.items():
        leaves = [leaf for leaf in plan.leaves.values() if leaf.authority == authority]
        for previous, period in zip([None, *issuing_periods], issuing_periods, strict=False):
            if period.at < rollovers.runs.now or not leaves:
                continue
            is_same_issuer = previous is not None and previous.generation == period.generation
            why = "its chain no longer needs the older root" if is_same_issuer else "becomes the issuer"
            count = f"{len(leaves)} {authority} certificate{'s' if len(leaves) > 1 else ''}"
            install = (
                f"; to be installed: {_clients(leaves)}" if any(_is_installed_by_hand(leaf) for leaf in leaves) else ""
            )
            verb = "are" if len(leaves) > 1 else "is"
            text = f"{why}: {count} {verb} issued again{install}"
            yield TimelineEvent(rollovers.runs.at(period.at), EventKind.TAKEOVER, period.generation, text)


def _clients(leaves: Iterable[Leaf]) -> str:
    names = [leaf.name for leaf in leaves if _is_installed_by_hand(leaf)]
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} clients' identities"


def _is_installed_by_hand(leaf: Leaf) -> bool:
    """Return whether a person must install the certificate on a device."""
    return leaf.declared.startswith("clients.")


def _end_events(rollovers: CaRollovers) -> Iterator[TimelineEvent]:
    for generation in rollovers.generations():
        end = generation.not_after
        if end > rollovers.runs.now:
            text = "expiry of the authority and its CRLs"
            if generation.name.is_external:
                text = "expiry: every client refuses the certificates that its server issued under it"
            if generation.name.is_root:
                text = "expiry: devices that trust no other root will trust no service"
                if generation.authority == "root-peer":
                    text = "expiry: members that trust no other root of clusters refuse one another"
            newest = [ca for ca in rollovers.generations() if ca.authority == generation.authority][-1]
            yield TimelineEvent(end, EventKind.EXPIRY, generation.name, text, is_problem=generation is newest)


# -- problems ---------------------------------------------------------------------------------------------------------


def _problem_events(plan: Plan, leaves: dict[str, Renewals]) -> Iterator[TimelineEvent]:
    for name, planned in leaves.items():
        for at, end in planned.short:
            (valid_for, lifetime), unit = in_common_unit(end - at, plan.leaves[name].lifetime)
            text = f"limited by its authority: valid for {f'{valid_for} of {lifetime} {unit}'.rstrip()}, until {end:%Y-%m-%d}"
            yield TimelineEvent(at, EventKind.SHORT_VALIDITY, ArtifactId("cert", name), text, is_problem=True)
        for since, until in planned.gaps:
            end_of_gap = f"until {until:%Y-%m-%d}" if until else "and nothing planned ends this"
            yield TimelineEvent(
                since, EventKind.GAP, ArtifactId("cert", name), f"no valid certificate, {end_of_gap}", is_problem=True
            )


def _outlived_authority_events(revocations: Revocations, rollovers: CaRollovers) -> Iterator[TimelineEvent]:
    """Yield client certificates that expire after their authority, also replaced ones, which may still be in browsers."""
    ca_expiries = {ca.name: ca.not_after for ca in rollovers.generations()}
    for certificate in revocations.unexpired():
        end = ca_expiries.get(certificate.issuer)
        is_valid_client = certificate.profile == "client" and not certificate.revoked
        if is_valid_client and end is not None and end < certificate.not_after:
            text = f"is valid until {certificate.not_after:%Y-%m-%d}, and {certificate.issuer}, which issued it, only until then"
            yield TimelineEvent(end, EventKind.GAP, certificate.artifact, text, is_problem=True)
