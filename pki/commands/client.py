"""The life of client identities: one for each person and device, added, listed, installed, revoked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from invoke.context import Context

from pki import editing, freshness, graph
from pki.commands.command import command, home_of, house_of, project_of
from pki.commands.daily import known, run_doit
from pki.commands.revoking import Order, carry_out, chosen, consent
from pki.errors import PkiError
from pki.holders import of_client
from pki.house import House
from pki.leaves import client_artifact
from pki.screen import Screen
from pki.watch.identities import Identity, identities


@command
def add(context: Context, name: str, email: str) -> None:
    """Add a client identity to pki.yaml, one for each person and device (admin@laptop), and make its certificate.

    Comments and layout of pki.yaml stay; where the line cannot be placed surely, it is shown and nothing is written.
    """
    house, path = house_of(context), home_of(context) / "pki.yaml"
    text = editing.with_client(path, name, email)
    with house.store.lock():
        editing.write(path, text)
        if client_artifact(name) in house.withheld:
            house.ledger.record_decision(client_artifact(name), "released", "added again", house.now)
            house.ledger.close()
    Screen().made("pki.yaml", f"clients.{name}: {email}")
    run_doit(context)


@command
def show_list(context: Context) -> None:
    """Every client identity: its state and end, when it was handed out and installed, and whether a newer one waits."""
    house = project_of(context)
    columns = ("identity", "e-mail", "state", "until", "exported", "installed", "next")
    rows = list(_rows(house))
    Screen().table(f"{len(rows)} client identities, {house.now:%Y-%m-%d %H:%M} UTC", columns, rows)


@command
def revoke(context: Context, name: str, reason: str = "", yes: bool = False) -> None:
    """Revoke every valid certificate of a client identity, take it out of pki.yaml, and prove that it is refused.

    As `invoke revoke`, but nothing replaces it: for a person who left or a device that is gone.
    """
    house, path = house_of(context), home_of(context) / "pki.yaml"
    known(name, house.inventory.clients, "client in pki.yaml")
    house.insist_on_ledger()
    issued = house.unexpired()
    alike = of_client(issued, name)
    going = [one for one in issued if (one.artifact == client_artifact(name) or one in alike) and not one.revoked]
    editing.without_client(path, name)  # which says so before anything is revoked where it cannot

    def leave() -> None:
        try:
            editing.write(path, editing.without_client(path, name))
        except PkiError as error:
            Screen().failed("pki.yaml", error.message, f"take clients.{name} out of it yourself, then: ./run doit")
        else:
            Screen().made("pki.yaml", f"clients.{name} is out of it")

    again = f"./run invoke client.revoke {name} --reason {reason or '…'}"
    if going:
        reason = chosen(reason)
        carry_out(context, house, Order(going, reason, again.replace("…", reason), "removal", leave), yes=yes)
        return
    Screen().line(f"{name} has no valid certificate; it only leaves pki.yaml")
    if not yes:
        consent("take it out?", again)
    leave()
    run_doit(context)


@command
def installed(context: Context, name: str, serial: str = "") -> None:
    """Record that a device has the newest certificate of an identity now (or the one with --serial); ends reminders."""
    house = house_of(context)
    found = {one.name: one for one in identities(house)}
    one = found[known(name, found, "client in pki.yaml")]
    issued = {f"{cert.serial:x}": cert for cert in house.ledger.certificates(artifact=client_artifact(name))}
    if serial and serial.lower().lstrip("0") not in issued:
        raise PkiError(f"{serial}: {name} has no certificate with this serial number", "./run invoke ledger.list")
    if not serial and one.newest is None:
        raise PkiError(f"{name} has no valid certificate", "./run doit")
    cert = issued[serial.lower().lstrip("0")] if serial else one.newest
    assert cert is not None
    with house.store.lock():
        house.ledger.record_decision(client_artifact(name), "installed", f"{cert.serial:x}", house.now)
        house.ledger.close()
    screen = Screen()
    screen.made(
        client_artifact(name),
        f"serial {cert.serial:x} is installed, and ends on {cert.not_after:%Y-%m-%d}",
    )
    for other in issued.values():
        if other.serial != cert.serial and not other.revoked and other.not_after >= house.now:
            screen.line(f"serial {other.serial:x} is valid too, until {other.not_after:%Y-%m-%d}; to end it:")
            screen.line(f"  ./run invoke revoke {other.serial:x} --reason superseded")


def _rows(house: House) -> Iterator[tuple[str, ...]]:
    leaves = graph.plan(house).leaves
    for one in identities(house):
        leaf = leaves.get(f"client-{one.name}")
        until = f"{one.newest.not_after:%Y-%m-%d}" if one.newest else ""
        if leaf is None:
            state, coming = "waits", "for a root ceremony: ./run invoke plan"
        elif freshness.withheld(house, leaf.artifact):
            state, coming = "withheld", f"nothing before: ./run invoke renew {one.name}"
        elif one.newest is None:
            state, coming = "missing", "doit issues it"
        else:
            state = "due" if freshness.leaf(house, leaf) else "ok"
            coming = f"renewal from {one.newest.not_after - leaf.renew_before:%Y-%m-%d}"
        dates = [f"{kept.at:%Y-%m-%d}" if kept else "" for kept in (one.exported, one.installed)]
        yield (one.name, house.inventory.clients[one.name].email, state, until, *dates, _waiting(house, one) or coming)


def _waiting(house: House, one: Identity) -> str:
    if not one.waits:
        return ""
    old = one.device
    ends = "unknown" if old is None else "revoked" if old.revoked else f"valid until {old.not_after:%Y-%m-%d}"
    if old and not old.revoked and old.not_after < house.now:
        ends = "over"
    return f"a newer one is to be installed; the old one ({one.given:x}) is {ends}"


TASKS: dict[str, Any] = {"add": add, "list": show_list, "installed": installed, "revoke": revoke}
