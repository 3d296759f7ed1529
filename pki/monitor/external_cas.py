"""Adopted authorities: what they issued and is still valid, and what of it ends soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pki.common.errors import PkiError
from pki.config.identifiers import ArtifactId
from pki.ledger.types import Issued
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project

SOON = timedelta(days=30)
THIS_MONTH_AND_SOON = timedelta(days=31) + SOON
NAMED = 5  # certificates that one note names
REMEDY = "move what it serves into pki.yaml (docs/adopt.md), or: ./run invoke revoke {} --reason superseded"


class Ending(NamedTuple):
    artifact: str
    end: datetime
    names: tuple[str, ...]


def notes(project: Project, plan: Plan) -> Iterator[Notice]:
    """One note for each adopted authority that ended, or of whose certificates some end soon."""
    for name in project.inventory.authorities.adopted:
        end = end_of(project, name)
        if end and end < project.now:
            remedy = "take it, and what delivers its CRL, out of pki.yaml and templates/"
            yield Notice(
                ArtifactId("authority", name), f"ended on {end:%Y-%m-%d}, and its CRL is not made any more", remedy
            )
        elif soon := _ending(project, name, plan):
            shown = ", ".join(f"{one.artifact} on {one.end:%Y-%m-%d}" for one in soon[:NAMED])
            more = f" and {len(soon) - NAMED} more" if len(soon) > NAMED else ""
            text = f"of its certificates end soon: {shown}{more}"
            yield Notice(ArtifactId("authority", name), text, REMEDY.format(soon[0].artifact))


def summary(project: Project, name: str) -> str:
    """What is left of an adopted authority, in a phrase."""
    found = _valid(project, name)
    if not found:
        taken_in = project.has_ledger and project.ledger.has_issuance_records(name)
        left = "none of its certificates is valid any more" if taken_in else "what it issued is not in the ledger yet"
        return f"adopted: signs CRLs only; {left}"
    first = f"next ends on {found[0].not_after:%Y-%m-%d} ({found[0].artifact.name})"
    return f"adopted: signs CRLs only; {len(found)} certificates valid, {first}"


def end_of(project: Project, name: str) -> datetime | None:
    """When an adopted authority itself ends; None while its folder is not as it should be."""
    try:
        found = project.generation(name)
    except PkiError:  # which its CRL tells
        return None
    return found.certificate.not_valid_after_utc if found else None


def _valid(project: Project, name: str) -> list[Issued]:
    """What an adopted authority issued and is neither ended nor revoked, next end first."""
    issued = project.ledger.certificates(since=project.now, issuer=name) if project.has_ledger else []
    return sorted((one for one in issued if not one.revoked), key=lambda one: (one.not_after, one.artifact))


def _ending(project: Project, name: str, plan: Plan) -> list[Ending]:
    """Certificates that end soon, but for those that were renewed there, or whose names are certified here by now."""
    month = f"{project.now:%Y-%m}"
    kept = project.recall_from_ledger(f"adopted {name}", month)
    if kept is None:
        found = _valid(project, name)
        last = {one.subject: one.not_after for one in found}  # the latest of each: they are in that order
        late = [one for one in found if one.not_after == last[one.subject]]
        limit = project.now + THIS_MONTH_AND_SOON
        kept = [
            [one.artifact, int(one.not_after.timestamp()), list(one.names)] for one in late if one.not_after <= limit
        ]
        project.remember_from_ledger(f"adopted {name}", month, kept)
    ending = [Ending(artifact, datetime.fromtimestamp(end, UTC), tuple(names)) for artifact, end, names in kept]
    ours = {text for leaf in plan.leaves.values() for text in leaf.names} if ending else set()
    soon = [one for one in ending if project.now <= one.end < project.now + SOON]
    return [one for one in soon if not one.names or not ours.issuperset(one.names)]
