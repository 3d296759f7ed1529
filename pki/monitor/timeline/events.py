"""The inventory played forward: what doit will do in the years to come, what people must do, and where it goes wrong.

A function of project, plan and pki.yaml's rules: nothing is written. That every ceremony is held two weeks after it was
asked for, or on the next day that is no holiday, is a supposition, and said to be one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, takewhile

from pki.authority import certificates
from pki.ceremony.online.needs import INTERMEDIATES
from pki.common import filesystem
from pki.common.durations import in_common_unit, rounded
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.monitor.timeline.ca_rollovers import Authorities, crl_rhythm
from pki.monitor.timeline.planned_ceremonies import Ceremony
from pki.monitor.timeline.planned_hierarchy import PlannedCa
from pki.monitor.timeline.renewals import Renewals, renewals
from pki.monitor.timeline.runs import Runs
from pki.pipeline.plan import Plan
from pki.project.project import Project

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens once. `is_wrong` says that it should not."""

    at: datetime
    what: str
    subject: str
    text: str
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Something that comes again and again: how often, when next, how many times, and until when the next one is good.

    `kind` is what it is one of: server certificates, client certificates, CRLs.
    """

    subject: str
    kind: str
    every: timedelta
    next: datetime
    times: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    start: datetime
    end: datetime
    rhythms: tuple[Rhythm, ...]
    events: tuple[Event, ...]
    renewals: dict[str, Renewals]
    ceremonies: tuple[Ceremony, ...]

    @property
    def wrong(self) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.is_wrong)

    def busiest(self) -> tuple[datetime, int, int] | None:
        """The day on which most leaves are renewed for the next time, how many, and of how many; of few, none."""
        next_ones = [found.issued[0][0] for found in self.renewals.values() if found.issued]
        if len(next_ones) < 10:
            return None
        day, most = Counter(at.replace(hour=0, minute=0, second=0) for at in next_ones).most_common(1)[0]
        return day, most, len(next_ones)


def timeline(project: Project, plan: Plan, years: int, *, held: bool = True) -> Timeline:
    """The next `years`; without `held`, nobody ever holds the ceremony that doit asks for next."""
    runs, until = Runs.of(project.inventory, project.now), project.now + years * YEAR
    found = Authorities.of(project, runs, until, held=held)
    leaves = _renewals(project, plan, found)
    rhythms = [*_leaf_rhythms(plan, leaves), *_crl_rhythms(project, found)]
    events = [
        *_ceremony_events(found, held=held),
        *_takeover_events(plan, found),
        *_presigned_events(project, found),
        *_end_events(found),
        *_wrong_events(plan, leaves),
        *_outlived(project, found),
    ]
    ordered = tuple(sorted((one for one in events if one.at <= until), key=lambda event: (event.at, event.what)))
    return Timeline(project.now, until, tuple(rhythms), ordered, leaves, tuple(found.ceremonies))


# -- leaves -----------------------------------------------------------------------------------------------------------


def _renewals(project: Project, plan: Plan, found: Authorities) -> dict[str, Renewals]:
    """What becomes of every leaf; leaves of one kind that were issued together go together."""
    known: dict[tuple[object, ...], Renewals] = {}
    leaves: dict[str, Renewals] = {}
    for leaf in plan.leaves.values():
        if leaf.artifact in project.replacement_stopped:
            continue  # whoever withholds its replacement is reminded by `plan`, and nothing is foreseen for it
        now = certificates.current_certificate(project, leaf)
        dates = (now.not_before, now.not_after) if now else None
        kind = (leaf.authority, leaf.lifetime, leaf.renew_before, dates)
        if kind not in known:
            known[kind] = renewals(leaf, now, found.turns[leaf.authority], found.runs, found.until)
        leaves[leaf.name] = known[kind]
    return leaves


def _leaf_rhythms(plan: Plan, leaves: dict[str, Renewals]) -> Iterator[Rhythm]:
    for name, found in leaves.items():
        moments = [at for at, _ in found.issued]
        if moments:
            kind, every = f"{plan.leaves[name].authority} certificates", _usual(moments)
            yield Rhythm(ArtifactId("cert", name), kind, every, moments[0], len(moments), found.issued[0][1])


def _usual(moments: list[datetime]) -> timedelta:
    """The most frequent time from one to the next, in whole days, hours or minutes."""
    steps = Counter(rounded(after - at) for at, after in pairwise(moments))
    return steps.most_common(1)[0][0] if steps else timedelta(0)


# -- CRLs -------------------------------------------------------------------------------------------------------------


def _crl_rhythms(project: Project, found: Authorities) -> Iterator[Rhythm]:
    for generation in found.generations():
        if generation.authority in INTERMEDIATES and generation.not_after > found.runs.now:
            made = _crls(project, found, generation)
            if made:
                every = _usual([at for at, _ in made])
                yield Rhythm(ArtifactId("crl", generation.name), "CRLs", every, made[0][0], len(made), made[0][1])


def _crls(project: Project, found: Authorities, generation: PlannedCa) -> list[tuple[datetime, datetime]]:
    born = next((one.held for one in found.ceremonies if generation.name in one.generations), found.runs.first)
    end = min(generation.not_after, found.until)
    moments = crl_rhythm(project, generation.name, found.runs, born)
    return list(takewhile(lambda made: made[0] < end, moments))


def _presigned_events(project: Project, found: Authorities) -> Iterator[Event]:
    brought = {one.held for one in found.ceremonies}
    for presigned_crl in found.presigned_crls:
        path = filesystem.read(project.store.crl(presigned_crl.root))
        if presigned_crl.at in brought or (presigned_crl.at == found.runs.first and path is not None):
            continue  # it comes with all the rest of a ceremony, or is what is published already
        yield Event(
            presigned_crl.at,
            "presigned_crl",
            ArtifactId("crl", presigned_crl.root),
            f"the next of its pre-signed CRLs, valid until {presigned_crl.end:%Y-%m-%d}",
        )
    for root, since, until in found.closed:
        again = f"until {until:%Y-%m-%d}" if until else "and nothing is foreseen that ends this"
        yield Event(
            since, "gap", ArtifactId("crl", root), f"no valid CRL, {again}: every client is refused", is_wrong=True
        )


# -- ceremonies and ends ----------------------------------------------------------------------------------------------


def _ceremony_events(found: Authorities, *, held: bool) -> Iterator[Event]:
    for one in found.ceremonies:
        brings = ", ".join(one.brings)
        if not one.by_doit:
            text = f"doit prepares the request: {brings}; to be held by {one.by:%Y-%m-%d}"
            yield Event(max(one.asked, found.runs.now), "request", "ceremony", text)
        if held:
            who = "held by doit itself (sandbox)" if one.by_doit else "supposed on this day"
            yield Event(one.held, "ceremony", "ceremony", f"brings {brings}; {who}")
        if one.remark:
            yield Event(one.held, "holiday", "ceremony", one.remark, is_wrong=True)


def _takeover_events(plan: Plan, found: Authorities) -> Iterator[Event]:
    """Each turn of an authority's leaves to another generation, or to a shorter chain."""
    for authority, turns in found.turns.items():
        mine = [leaf for leaf in plan.leaves.values() if leaf.authority == authority]
        for before, turn in zip([None, *turns], turns, strict=False):
            if turn.at < found.runs.now or not mine:
                continue
            same = before is not None and before.generation == turn.generation
            why = "needs its older root no more" if same else "issues now"
            count = f"{len(mine)} {authority} certificate{'s' if len(mine) > 1 else ''}"
            install = f"; to be installed: {_people(mine)}" if any(_is_persons(leaf) for leaf in mine) else ""
            text = f"{why}: {count} issued again{install}"
            yield Event(found.runs.at(turn.at), "turn", turn.generation, text)


def _people(leaves: Iterable[Leaf]) -> str:
    names = [leaf.name for leaf in leaves if _is_persons(leaf)]
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} clients' identities"


def _is_persons(leaf: Leaf) -> bool:
    """Whether somebody must install it by hand."""
    return leaf.declared.startswith("clients.")


def _end_events(found: Authorities) -> Iterator[Event]:
    for generation in found.generations():
        end = generation.not_after
        if end > found.runs.now:
            gone = (
                "whoever trusts it alone trusts nothing any more"
                if generation.authority == "root"
                else "its CRL goes with it"
            )
            later = [one for one in found.generations() if one.authority == generation.authority][-1] is not generation
            yield Event(end, "end", generation.name, f"the end; {gone}", is_wrong=not later)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def _wrong_events(plan: Plan, leaves: dict[str, Renewals]) -> Iterator[Event]:
    for name, found in leaves.items():
        for at, end in found.short:
            (good, life), unit = in_common_unit(end - at, plan.leaves[name].lifetime)
            text = f"cut short by its authority: good for {f'{good} of {life} {unit}'.rstrip()}, until {end:%Y-%m-%d}"
            yield Event(at, "short", ArtifactId("cert", name), text, is_wrong=True)
        for since, until in found.gaps:
            again = f"until {until:%Y-%m-%d}" if until else "and nothing is foreseen that ends this"
            yield Event(since, "gap", ArtifactId("cert", name), f"no valid certificate, {again}", is_wrong=True)


def _outlived(project: Project, found: Authorities) -> Iterator[Event]:
    """Client certificates, also those that were replaced and are still in browsers, that end after their authority."""
    ends = {one.name: one.not_after for one in found.generations()}
    for issued in project.unexpired():
        end = ends.get(issued.issuer)
        if issued.profile == "client" and not issued.revoked and end is not None and end < issued.not_after:
            text = f"is valid until {issued.not_after:%Y-%m-%d}, and {issued.issuer}, which issued it, only until then"
            yield Event(end, "gap", issued.artifact, text, is_wrong=True)
