"""Looking into the ledger."""

from __future__ import annotations

from invoke.context import Context
from invoke.exceptions import Exit

from pki.commands.command import command, house_of
from pki.errors import PkiError
from pki.records import Issued
from pki.screen import Screen


@command
def show_list(context: Context, name: str = "") -> None:
    """Every certificate ever issued, oldest first; --name for those of one leaf, or of one adopted authority."""
    house = house_of(context)
    if house.is_adopted(name):
        found = house.ledger.certificates(issuer=name)
    else:
        found = house.ledger.certificates(artifact=(name if ":" in name else f"cert:{name}") if name else None)
    rows = [
        (
            f"{one.serial:x}",
            one.artifact,
            f"{one.not_before:%Y-%m-%d}",
            f"{one.not_after:%Y-%m-%d}",
            f"revoked: {one.revoked}" if one.revoked else "expired" if one.not_after < house.now else "valid",
            one.reason,
        )
        for one in found
    ]
    Screen().table(
        f"{len(rows)} certificates", ("serial", "artifact", "from", "until", "state", "issued because"), rows
    )


@command
def show(context: Context, serial: str) -> None:
    """One certificate by serial number (hexadecimal, as ledger.list shows it), with its PEM."""
    house = house_of(context)
    try:
        found = house.ledger.certificates(serial=int(serial, 16))
    except ValueError:
        raise PkiError(f"{serial}: expected a serial number in hexadecimal", "./run invoke ledger.list") from None
    if not found:
        raise PkiError(f"{serial}: no certificate with this serial number", "./run invoke ledger.list")
    for one in found:  # adopted authorities may each have one
        _show(one)


def _show(one: Issued) -> None:
    screen = Screen()
    for key, value in (
        ("serial", f"{one.serial:x}"),
        ("artifact", one.artifact),
        ("profile", one.profile),
        ("issuer", one.issuer),
        ("subject", one.subject),
        ("names", ", ".join(one.names)),
        ("valid", f"{one.not_before:%Y-%m-%d %H:%M:%S} to {one.not_after:%Y-%m-%d %H:%M:%S} UTC"),
        ("revoked", one.revoked or "no"),
        ("because", one.reason),
    ):
        screen.line(f"{key:<9} {value}")
    screen.line(one.pem.rstrip() or "its certificate was not there when it was taken in")


@command
def verify(context: Context) -> None:
    """Recompute the hash chain over every event and row; exit status 1 when anything was changed."""
    house, screen = house_of(context), Screen()
    faults = house.ledger.verify()
    for fault in faults:
        screen.failed("ledger", fault, "")
    if faults:
        raise Exit(code=1)
    events = house.ledger.events()
    head = f", head {events[-1].hash[:16]}" if events else ""
    screen.line(f"ledger is whole: {len(events)} events{head}")
