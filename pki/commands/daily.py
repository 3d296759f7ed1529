"""Looking, renewing, revoking: the commands of every day."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable

from invoke.context import Context
from invoke.exceptions import Exit

from pki import graph, inventory, recipes, store
from pki.commands.command import command, home_of, house_of, now_of, path_of
from pki.errors import PkiError
from pki.house import House
from pki.pipeline import Run
from pki.records import REASONS, Issued
from pki.screen import Screen
from pki.watch import forecast, status

PLAIN_REASONS = {
    "key-compromise": "keyCompromise",
    "affiliation-changed": "affiliationChanged",
    "superseded": "superseded",
    "cessation-of-operation": "cessationOfOperation",
    "privilege-withdrawn": "privilegeWithdrawn",
    "unspecified": "unspecified",
}
assert set(PLAIN_REASONS.values()) == set(REASONS)


@command
def plan(context: Context) -> None:
    """What the next doit would do, and why. Changes nothing; exit status 0: nothing to do, 2: something."""
    house, screen = house_of(context), Screen()
    found = graph.plan(house)
    coming = list(forecast.forecast(found))
    for artifact, reasons in coming:
        screen.due(artifact.name, "; ".join(reasons))
    for note in forecast.notes(house, found):
        screen.note(note.subject, note.text, note.remedy)
    fresh = len(found.artifacts) - len(coming)
    screen.line(f"{len(coming)} to do, {fresh} fresh" if coming else f"nothing to do: {fresh} fresh")
    if coming:
        raise Exit(code=2)


@command
def show_status(context: Context) -> None:
    """Every authority, certificate, CRL and host: its state, days left, what comes next and through whom."""
    house, screen = house_of(context), Screen()
    found = graph.plan(house)
    title = f"{house.inventory.organisation}{' (sandbox)' if house.inventory.sandbox else ''}, {house.now:%Y-%m-%d %H:%M} UTC"
    columns = ("name", "state", "days left", "next", "by")
    screen.table(title, columns, [row.cells() for row in status.rows(house, found)])
    for note in forecast.notes(house, found):
        screen.note(note.subject, note.text, note.remedy)


@command
def renew(context: Context, name: str) -> None:
    """Renew a certificate now, with a new key unless pki.yaml says rekey: keep, and deliver it."""
    house = house_of(context)
    leaves = graph.plan(house).leaves
    leaf = leaves[known(_leaf_name(name, leaves), leaves, "certificate")]
    with house.store.lock():
        recipes.issue_leaf(house, leaf, "renewed by hand")
    Screen().made(f"cert:{leaf.name}", "renewed by hand")
    _run(context)


@command
def revoke(context: Context, name: str, reason: str) -> None:
    """Revoke a certificate by name (every valid one of that name) or serial number, and deliver the new CRL.

    --reason is one of key-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn,
    unspecified. What stays in pki.yaml gets a new certificate with a new key at once.
    """
    house = house_of(context)
    _revoke(house, _valid(house, name), known(reason, PLAIN_REASONS, "reason"))
    _run(context)


@command
def retire(context: Context, name: str) -> None:
    """Revoke the certificates of a name that left pki.yaml."""
    house = house_of(context)
    leaves = graph.plan(house).leaves
    name = _leaf_name(name, leaves)
    if name in leaves:
        raise PkiError(f"{name} is still in pki.yaml", f"take it out first, or: ./run invoke revoke {name} --reason …")
    _revoke(house, _valid(house, name), "cessation-of-operation")
    _run(context)


@command
def schema(context: Context, output: str = "") -> None:
    """Write the JSON Schema of pki.yaml, for editors: to standard output, or to --output FILE."""
    if output:
        store.write(path_of(context, output), inventory.schema().encode())
    else:
        print(inventory.schema(), end="")


def _revoke(house: House, found: list[Issued], reason: str) -> None:
    with house.store.lock():
        for issued in found:
            house.ledger.record_revocation(issued, reason=PLAIN_REASONS[reason], at=house.now)
            Screen().made(issued.artifact, f"serial {issued.serial:x} revoked: {reason}")
        house.ledger.close()


def _valid(house: House, name: str) -> list[Issued]:
    """The valid, unrevoked certificates that a name or serial number stands for."""
    issued = house.unexpired()
    leaf = _leaf_name(name, {one.artifact.removeprefix("cert:") for one in issued})
    found = _named(issued, leaf) or [one for one in issued if f"{one.serial:x}" == name.lower().lstrip("0")]
    if len(meant := {one.artifact for one in found}) > 1:
        raise PkiError(f"{name}: is {' and '.join(sorted(meant))}", "say which: ./run invoke revoke AUTHORITY:NAME …")
    valid = [one for one in found if not one.revoked]
    if any(one.profile == "root" or one.profile.endswith("-ca") for one in found):
        raise PkiError(f"{name} is a certificate authority", "revoking one takes a ceremony")
    if found and not valid:
        raise PkiError(f"{name}: is revoked already ({found[-1].revoked})", "./run invoke ledger.list")
    if not found:
        names = {one.artifact.removeprefix("cert:") for one in issued if one.artifact.startswith("cert:")}
        known(leaf, names, "valid certificate in the ledger")
    return valid


def _named(issued: list[Issued], name: str) -> list[Issued]:
    """Certificates of a leaf, or where none has that name, of adopted authorities: `web` or `legacy:web`."""
    ours = [one for one in issued if one.artifact in {name, f"cert:{name}"}]
    return ours or [one for one in issued if one.artifact == f"{one.issuer}:{name}"]


def _leaf_name(name: str, leaves: Container[str]) -> str:
    """`media`, `cert:media` and, for clients, both `client-admin` and `admin` mean a leaf."""
    bare = name.removeprefix("cert:")
    return f"client-{bare}" if bare not in leaves and f"client-{bare}" in leaves else bare


def known(name: str, names: Iterable[str], what: str) -> str:
    known = sorted(names)
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
    raise PkiError(f"{name}: no such {what}", hint)


def _run(context: Context) -> None:
    """Let doit bring everything up to date that follows."""
    if code := Run(home_of(context), now_of(context)).main([]):
        raise Exit(code=code)
