"""What the next `doit` would do, and what only a person can do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pki import freshness, holders, outgrown
from pki.graph import Artifact, Plan
from pki.handover import needs
from pki.house import House
from pki.memo import token
from pki.watch import adopted, exposure, identities
from pki.world import Note


def forecast(plan: Plan) -> Iterator[tuple[Artifact, list[str]]]:
    """Artifacts that the next run would make, with reasons: their own, or the artifact that they follow from."""
    coming: dict[str, str] = {}
    for artifact in plan.artifacts:
        reasons = artifact.reasons()
        if not reasons and not artifact.name.startswith("authority:"):  # which are sources, and follow from nothing
            before = dict.fromkeys(coming[source] for source in artifact.sources if source in coming)
            reasons = [f"follows {', '.join(before)}"] if before else []
        if reasons:
            coming |= dict.fromkeys(artifact.targets, artifact.name)
            yield artifact, reasons


def notes(house: House, plan: Plan) -> Iterator[Note]:
    """What needs a person: ceremonies and names that wait for one, leaves that left or are withheld.

    And names that move to another leaf, hosts that do not act on a revocation, identities that wait to be installed, CRLs
    that outgrow their publisher.
    """
    yield from _ceremony(house)
    yield from plan.notes
    for move in holders.moves(house, plan.leaves):
        text = f"takes {move.name} over from cert:{move.before}, whose certificate with it is valid until {move.end:%Y-%m-%d}"
        stays = move.before in plan.leaves or move.before in plan.refused
        yield Note(f"cert:{move.leaf}", text, "./run doit" if stays else f"./run invoke retire {move.before}")
    for leaf in plan.leaves.values() if freshness.some_authority_ages(house) else ():
        if waits := freshness.leaf_waits(house, leaf):
            yield Note(
                f"cert:{leaf.name}", waits, f"./run invoke ceremony.request, for a new {leaf.authority} authority"
            )
    for name in plan.leaves if house.withheld else ():
        if text := freshness.withheld(house, f"cert:{name}"):
            yield Note(f"cert:{name}", text, f"./run invoke renew {name}")
    yield from identities.reminders(house, plan)
    for artifact, end in _left(house, plan):
        if end >= house.now:
            text = f"left pki.yaml, and its certificate is valid until {end:%Y-%m-%d}"
            yield Note(artifact, text, f"./run invoke retire {artifact.removeprefix('cert:')}")
    yield from exposure.notes(house, plan)
    for one in outgrown.sizes(house):
        if one.complaint:
            yield Note(f"crl:{one.generation}", one.complaint, outgrown.REMEDY)
    yield from adopted.notes(house, plan)


def _ceremony(house: House) -> Iterator[Note]:
    """Who must hold a ceremony, by when, and why."""
    found = [need for need in needs.needs(house) if not (house.inventory.sandbox and need.is_growth)]
    if found and not house.inventory.sandbox:
        by = min(need.by for need in found)
        when = f"by {by:%Y-%m-%d}" if by > house.now else "now"
        what = f"a root ceremony is due {when}, for the root's owner and a witness: "
        what += "; ".join(f"{need.what} ({need.why})" for need in found)
        yield Note("ceremony", what, "./run invoke ceremony.request, and docs/ceremony.md")


def _left(house: House, plan: Plan) -> list[tuple[str, datetime]]:
    """Certificates that no artifact stands for any more, with the end of the last valid one of each name."""
    known = token(sorted(plan.leaves), sorted(plan.waiting), sorted(plan.refused))
    kept = house.recall_from_ledger("left", known)
    if kept is None:
        wanted = {f"cert:{name}" for name in (*plan.leaves, *plan.refused)} | plan.waiting
        ends: dict[str, int] = {}
        for issued in house.unexpired():
            if issued.artifact.startswith("cert:") and issued.artifact not in wanted and not issued.revoked:
                ends[issued.artifact] = max(ends.get(issued.artifact, 0), int(issued.not_after.timestamp()))
        kept = [[artifact, end] for artifact, end in ends.items()]
        house.remember_from_ledger("left", known, kept)
    return [(artifact, datetime.fromtimestamp(end, UTC)) for artifact, end in kept]
