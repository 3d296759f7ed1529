"""What the next `doit` would do, and what only a person can do."""

from __future__ import annotations

from collections.abc import Iterator

from pki import freshness
from pki.graph import Artifact, Plan
from pki.house import House
from pki.world import Note


def forecast(plan: Plan) -> Iterator[tuple[Artifact, list[str]]]:
    """Artifacts that the next run would make, with reasons: their own, or the artifact that they follow from."""
    coming: dict[str, str] = {}
    for artifact in plan.artifacts:
        reasons = artifact.reasons()
        if not reasons:
            before = dict.fromkeys(coming[source] for source in artifact.sources if source in coming)
            reasons = [f"follows {', '.join(before)}"] if before else []
        if reasons:
            coming |= dict.fromkeys(artifact.targets, artifact.name)
            yield artifact, reasons


def notes(house: House, plan: Plan) -> Iterator[Note]:
    """What needs a person: names that wait for a ceremony, leaves that left pki.yaml, renewals that gain nothing."""
    yield from plan.notes
    for leaf in plan.leaves.values():
        if waits := freshness.leaf_waits(house, leaf):
            yield Note(f"cert:{leaf.name}", waits, f"hold a ceremony for a new generation of {leaf.authority}")
    wanted = {f"cert:{name}" for name in plan.leaves}
    left: dict[str, str] = {}
    for issued in house.unexpired():
        if issued.artifact.startswith("cert:") and issued.artifact not in wanted and not issued.revoked:
            left[issued.artifact] = f"{issued.not_after:%Y-%m-%d}"
    waiting = {note.subject for note in plan.notes}
    for artifact, end in left.items():
        if artifact not in waiting:
            name = artifact.removeprefix("cert:")
            yield Note(
                artifact,
                f"left pki.yaml, and its certificate is valid until {end}",
                f"./run invoke retire {name}",
            )
