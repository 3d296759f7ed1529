"""Explaining one thing in plain words."""

from __future__ import annotations

from collections.abc import Iterable

from invoke.context import Context

from pki import graph
from pki.commands.command import command, project_of
from pki.commands.daily import known
from pki.commands.meaning import Names, is_among, not_seen
from pki.graph import Plan
from pki.house import House
from pki.screen import Screen
from pki.store import AUTHORITIES
from pki.watch import explanation
from pki.watch.explanation import Line


@command
def explain(context: Context, name: str) -> None:
    """What a certificate is for, where its key lies, until when it holds, what stops without it, and what to type.

    NAME is a certificate, a client, a service, a host, a DNS name, a serial number, an authority (server, server-1) or a
    CRL (crl:client-1).
    """
    house, screen = project_of(context), Screen()
    title, lines = _found(house, graph.plan(house), name)
    screen.line(title)
    for about, text in lines:
        screen.line(f"  {about:<11} {text}")


def _found(house: House, plan: Plan, name: str) -> tuple[str, Iterable[Line]]:
    """What a name stands for, as it is called in full, and its explanation."""
    bare, generations = name.removeprefix("authority:"), [g for a in AUTHORITIES for g in house.store.generations(a)]
    if bare in AUTHORITIES and (issuing := house.issuing(bare)):
        bare = issuing.name
    if bare in generations:
        return f"authority:{bare}", explanation.authority(house, house.existing(bare))
    if bare in {*AUTHORITIES, *(one.name for one in house.missing_roots if one.name)}:
        return f"authority:{bare}", explanation.missing(house, bare)
    listed = name.removeprefix("crl:")
    if name.startswith("crl:"):
        of = house.live(listed)[-1] if listed in AUTHORITIES else known(listed, generations, "authority")
        return f"crl:{of}", explanation.crl(house, plan, of)
    if found := _declared(house, plan, name):
        return found
    return _recorded(house, plan, name, generations)


def _declared(house: House, plan: Plan, name: str) -> tuple[str, Iterable[Line]] | None:
    """A leaf by its name or what it stands for, or a leaf that waits for a ceremony."""
    names = Names(house.inventory, plan.leaves)
    if names.find(name):
        wanted = plan.leaves[names.leaf(name, "explain")]
        return f"cert:{wanted.name}", explanation.leaf(house, plan, wanted)
    leaf = name.removeprefix("cert:")
    notes = (note for note in plan.notes if note.subject in {f"cert:{leaf}", f"cert:client-{leaf}"})
    if note := next(notes, None):
        return note.subject, [("state", note.text), ("next", note.remedy)]
    return None


def _recorded(house: House, plan: Plan, name: str, generations: list[str]) -> tuple[str, Iterable[Line]]:
    """What the ledger knows under a name or serial number."""
    serial = name.lower().lstrip("0")
    for found in map(house.existing, generations):
        if f"{found.certificate.serial_number:x}" == serial:
            return f"authority:{found.name}", explanation.authority(house, found)
    everything = house.ledger.certificates() if house.has_ledger else []
    for one in reversed(everything):
        if name in {one.artifact, one.artifact.partition(":")[2]} or f"{one.serial:x}" == serial:
            return f"{one.artifact}, serial {one.serial:x}", explanation.issued(house, plan, one)
    for one in (one for one in reversed(everything) if is_among(name, one.names)):
        return f"{name} is a name in {one.artifact}, serial {one.serial:x}", explanation.issued(house, plan, one)
    raise not_seen(name, {*plan.leaves, *house.inventory.clients, *AUTHORITIES})
