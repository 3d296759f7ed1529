"""Adopted authorities: what they issued and is still valid, and what of it ends soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pki.errors import PkiError
from pki.graph import Plan
from pki.house import House
from pki.world import Note

SOON = timedelta(days=30)
NAMED = 5  # certificates that one note names
REMEDY = "move what it serves into pki.yaml (docs/adopt.md), or: ./run invoke revoke {} --reason superseded"


class Old(NamedTuple):
    """A valid certificate of an adopted authority; `subject` tells a renewed one from another."""

    artifact: str
    end: datetime
    subject: str
    names: list[str]


def valid(house: House, name: str) -> list[Old]:
    """What an adopted authority issued and is neither ended nor revoked, next end first."""
    kept = house.recall_from_ledger(f"adopted {name}", "")
    if kept is None:
        issued = house.ledger.certificates(since=house.now, issuer=name) if house.has_ledger else []
        found = [one for one in issued if not one.revoked]
        kept = [[one.artifact, int(one.not_after.timestamp()), one.subject, list(one.names)] for one in found]
        house.remember_from_ledger(f"adopted {name}", "", kept)
    all_of_it = (
        Old(artifact, datetime.fromtimestamp(end, UTC), subject, names) for artifact, end, subject, names in kept
    )
    return sorted((one for one in all_of_it if one.end >= house.now), key=lambda one: (one.end, one.artifact))


def notes(house: House, plan: Plan) -> Iterator[Note]:
    """One note for each adopted authority that ended, or of whose certificates some end soon."""
    for name in house.inventory.authorities.adopted:
        end = end_of(house, name)
        if end and end < house.now:
            remedy = "take it, and what delivers its CRL, out of pki.yaml and templates/"
            yield Note(f"authority:{name}", f"ended on {end:%Y-%m-%d}, and its CRL is not made any more", remedy)
        elif soon := _ending(house, name, plan):
            shown = ", ".join(f"{one.artifact} on {one.end:%Y-%m-%d}" for one in soon[:NAMED])
            more = f" and {len(soon) - NAMED} more" if len(soon) > NAMED else ""
            yield Note(
                f"authority:{name}", f"of its certificates end soon: {shown}{more}", REMEDY.format(soon[0].artifact)
            )


def summary(house: House, name: str) -> str:
    """What is left of an adopted authority, in a phrase."""
    found = valid(house, name)
    if not found:
        taken_in = house.has_ledger and house.ledger.has_books(name)
        left = "none of its certificates is valid any more" if taken_in else "what it issued is not in the ledger yet"
        return f"adopted: signs CRLs only; {left}"
    first = f"next ends on {found[0].end:%Y-%m-%d} ({found[0].artifact.partition(':')[2]})"
    return f"adopted: signs CRLs only; {len(found)} certificates valid, {first}"


def _ending(house: House, name: str, plan: Plan) -> list[Old]:
    """Certificates that end soon, but for those that were renewed there, or whose names are certified here by now."""
    found = valid(house, name)
    last: dict[str, datetime] = {}
    for one in found:
        last[one.subject] = max(last.get(one.subject, one.end), one.end)
    ours = {text for leaf in plan.leaves.values() for text in (*leaf.names, leaf.common_name)}
    soon = [one for one in found if one.end - house.now < SOON and one.end == last[one.subject]]
    return [one for one in soon if not one.names or not ours.issuperset(one.names)]


def end_of(house: House, name: str) -> datetime | None:
    """When an adopted authority itself ends; None while its folder is not as it should be."""
    try:
        found = house.generation(name)
    except PkiError:  # which its CRL tells
        return None
    return found.certificate.not_valid_after_utc if found else None
