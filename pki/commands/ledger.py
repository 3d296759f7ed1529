"""Looking into the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki import graph, store
from pki.commands.asking import typed
from pki.commands.command import (
    command,
    command_with,
    evidence_of,
    held_house_of,
    home_of,
    house_of,
    now_of,
    path_of,
    project_of,
)
from pki.commands.daily import known
from pki.commands.output import (
    CertificateEntry,
    CertificateWithPem,
    LedgerListOutput,
    LedgerShowOutput,
    LedgerVerifyOutput,
)
from pki.deploy import crls
from pki.deploy.delivery import Delivery
from pki.deploy.inplace import InPlace
from pki.errors import PkiError
from pki.house import House
from pki.identifiers import ArtifactId
from pki.keeping import loss, recovering, restore
from pki.pipeline import Run
from pki.records import PUT_BACK, Issued, Recovered
from pki.screen import Screen

WIDTH = 10  # hosts that are asked at once


@command
def show_list(context: Context, name: str = "", json: bool = False) -> None:
    """Every certificate ever issued, oldest first; --name for those of one leaf, or of one adopted authority.

    --json is for programs.
    """
    house = project_of(context)
    if house.is_adopted(name):
        found = house.ledger.certificates(issuer=name)
    else:
        found = house.ledger.certificates(
            artifact=(name if ":" in name else ArtifactId("cert", name)) if name else None
        )
    if json:
        shown = [CertificateEntry(**_entry(house, one)) for one in found]
        LedgerListOutput(at=house.now, certificates=shown).show()
        return
    rows = [
        (
            f"{one.serial:x}",
            one.artifact,
            f"{one.not_before:%Y-%m-%d}",
            f"{one.not_after:%Y-%m-%d}",
            f"revoked: {one.revoked}" if one.revoked else "expired" if one.not_after < house.now else "valid",
            one.reason,
            one.by,
        )
        for one in found
    ]
    Screen().table(
        f"{len(rows)} certificates", ("serial", "artifact", "from", "until", "state", "issued because", "by"), rows
    )


@command
def show(context: Context, serial: str, json: bool = False) -> None:
    """One certificate by serial number (hexadecimal, as ledger.list shows it), with its PEM; --json is for programs."""
    house = project_of(context)
    try:
        found = house.ledger.certificates(serial=int(serial, 16))
    except ValueError:
        raise PkiError(f"{serial}: expected a serial number in hexadecimal", "./run invoke ledger.list") from None
    if not found:
        raise PkiError(f"{serial}: no certificate with this serial number", "./run invoke ledger.list")
    if json:
        shown = [CertificateWithPem(**_entry(house, one), pem=one.pem) for one in found]
        LedgerShowOutput(at=house.now, certificates=shown).show()
        return
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
        ("revoked", f"{one.revoked}{f', by {one.revoked_by}' if one.revoked_by else ''}" if one.revoked else "no"),
        ("because", one.reason),
        ("by", one.by or "not recorded by the program of that time"),
    ):
        screen.line(f"{key:<9} {value}")
    screen.line(one.pem.rstrip() or "its certificate was not there when it was taken in")


def _entry(house: House, one: Issued) -> dict[str, Any]:
    """The fields of a CertificateEntry."""
    return {
        "serial": f"{one.serial:x}",
        **{
            name: getattr(one, name)
            for name in ("artifact", "profile", "issuer", "subject", "revoked", "revoked_by", "by")
        },
        "names": list(one.names),
        "not_before": one.not_before,
        "not_after": one.not_after,
        "state": "revoked" if one.revoked else "expired" if one.not_after < house.now else "valid",
        "issued_because": one.reason,
    }


@command
def verify(context: Context, json: bool = False) -> None:
    """Recompute the hash chain over every event and row; exit status 1 when anything was changed, or is lost.

    --json is for programs.
    """
    house, screen = project_of(context), Screen()
    faults = house.ledger.verify()
    if json:
        lost, said = house.ledger_fault, house.ledger.events() if not faults else []
        told = [*faults, *([lost.evidence] if lost and not faults else [])]
        remedy = str(PUT_BACK if faults else lost.remedy if lost else "")
        head = said[-1].hash if said else ""
        LedgerVerifyOutput(
            at=house.now, intact=not told, events=len(said), head=head, faults=told, remedy=remedy
        ).show()
        if told:
            raise Exit(code=1)
        return
    for fault in faults:
        screen.failed("ledger", fault, PUT_BACK if fault == faults[-1] else "")
    if not faults and (lost := house.ledger_fault):
        screen.failed("ledger", lost.evidence, lost.remedy)
    if faults or house.ledger_fault:
        raise Exit(code=1)
    events = house.ledger.events()
    head = f", head {events[-1].hash[:16]}" if events else ""
    screen.line(f"ledger is whole: {len(events)} events{head}")


@command_with(may_lack="host")
def recover(context: Context, host: str | None = None, file: str = "", all_: bool = False) -> None:
    """Take back what a restored ledger lost: revocations and CRL numbers that the CRLs in place on HOST tell.

    Nothing is changed there. --all asks every host; --file FILE is a CRL from elsewhere, PEM or DER. Only what an
    authority of this house signed is believed. The next doit makes CRLs that list all of it.
    """
    if (bool(host), bool(file), all_).count(True) != 1:
        raise PkiError("expected one of HOST, --all, --file FILE", "./run invoke ledger.recover --all")
    screen = Screen()
    if file:
        content = store.read(path_of(context, file))
        if content is None:
            raise PkiError(f"{file}: is not there", "name a CRL, such as one fetched from its published address")
        found: dict[str, list[InPlace] | PkiError] = {file: [InPlace(file, content)]}
    else:
        chosen = _chosen(context, host or "")
        with ThreadPoolExecutor(WIDTH) as pool:
            found = dict(zip((one.host for one in chosen), pool.map(_in_place, chosen), strict=True))
    failed = {name: error for name, error in found.items() if isinstance(error, PkiError)}
    for name, error in failed.items():
        screen.failed(ArtifactId("deploy", name), error.message, error.hint)
    with held_house_of(context) as house:
        told = [
            one
            for name, files in found.items()
            if not isinstance(files, PkiError)
            for one in _take_in(house, screen, name, files)
        ]
        if all_:
            restore.carry_revocations(house)
        is_covered = all_ and not failed and loss.accept_if_covered(house)
        house.ledger.close()
    _say_what_came_back(screen, told, asked=len(found) - len(failed))
    if is_covered:
        screen.made("ledger", "holds as many revocations as were seen, and goes on without the events that are lost")
    if failed or (file and not told):
        raise Exit(code=1)


@command_with(many=("without",))
def accept_loss(context: Context, without: Iterable[str] = (), yes: bool = False) -> None:
    """Let a ledger go on whose newest events are lost for good: missing, empty, or older than the state that was seen.

    First it takes back what the CRLs in build/ and on the hosts list; --without HOST for one that cannot be reached.
    What is lost is recorded in it. Look for a newer ledger first: restore, or the database's own dumps.
    """
    house, screen = house_of(context), Screen()
    fault = loss.acceptable(house)
    screen.line(fault.evidence)
    screen.line("certificates that it does not know any more cannot be revoked by name; decisions in it are lost")
    if not yes and typed("no newer ledger exists, and what is lost may be lost: type LOST to go on: ") != "LOST":
        raise PkiError("cancelled; nothing was written", fault.remedy)
    found = _listed_on_hosts(house, screen, frozenset(without))
    with house.store.lock():
        accepted = loss.accept(house, f"accepted by hand: {fault.kind}")
        told = [one for name, files in found.items() for one in _take_in(house, screen, name, files)]
        house.ledger.close()
    if accepted.authorities:
        screen.made("ledger", f"knows {', '.join(accepted.authorities)} again")
    if accepted.revocations:
        screen.made("ledger", f"revoked, by the CRLs in build/: {', '.join(accepted.revocations)}")
    screen.made("ledger", "goes on without the events that are lost")
    _say_what_came_back(screen, told, asked=len(found))


def _listed_on_hosts(house: House, screen: Screen, without: frozenset[str]) -> dict[str, list[InPlace]]:
    """The CRLs on every host that is deployed to. Raises PkiError where one cannot be asked and is not left out."""
    deliveries = dict(graph.plan(house).deliveries)
    for name in without:
        known(name, deliveries, "host")
    chosen = [one for name, one in deliveries.items() if name not in without and one.wanted() is not None]
    with ThreadPoolExecutor(WIDTH) as pool:
        found = dict(zip((one.host for one in chosen), pool.map(_in_place, chosen), strict=True))
    silent = [name for name, files in found.items() if isinstance(files, PkiError)]
    for name, files in found.items():
        if isinstance(files, PkiError):
            screen.failed(ArtifactId("deploy", name), files.message, files.hint)
    if silent:
        raise PkiError(
            f"{', '.join(silent)}: may list revocations that nothing else does; nothing was recorded",
            f"./run invoke ledger.accept-loss {' '.join(f'--without {name}' for name in silent)}; their CRLs are compared before anything is deployed to them",
        )
    return {name: files for name, files in found.items() if not isinstance(files, PkiError)}


def _chosen(context: Context, host: str) -> list[Delivery]:
    """A host, or all of them, each with its release: that says where its CRLs lie."""

    def chosen() -> list[Delivery]:
        deliveries = dict(graph.plan(house_of(context)).deliveries)
        return [deliveries[known(host, deliveries, "host")]] if host else list(deliveries.values())

    lacking = [ArtifactId("release", one.host) for one in chosen() if one.wanted() is None]
    if lacking:
        Run(home_of(context), now_of(context), evidence_of(context)).main(lacking)
    return chosen()


def _in_place(delivery: Delivery) -> list[InPlace] | PkiError:
    try:
        return delivery.crls_in_place()
    except PkiError as error:
        return error


def _take_in(house: House, screen: Screen, source: str, files: Iterable[InPlace]) -> Iterable[Recovered]:
    """What each CRL of some files told the ledger, said as it goes."""
    listed = {one.digest: (file.path, one) for file in files for one in crls.read(file.content)}
    for path, one in listed.values():
        told = recovering.take_in(house, one.crl, source)
        if told is None:
            screen.note(one.within(path), "was signed by no authority of this house", "nothing of it was recorded")
            continue
        if told.serials:
            screen.made(
                ArtifactId("crl", told.generation), f"revoked, by number {told.number}: {crls.named(told.serials)}"
            )
        if told.is_newer:
            screen.made(ArtifactId("crl", told.generation), f"number {told.number} is taken: the next one is above it")
        yield told
    if not listed:
        screen.line(f"{source} holds no CRL")


def _say_what_came_back(screen: Screen, told: list[Recovered], *, asked: int) -> None:
    serials = {serial for one in told for serial in one.serials}
    if serials or any(one.is_newer for one in told):
        screen.line(f"{len(serials)} revocations came back; CRLs that list them are made by ./run doit")
    elif asked and told:
        screen.line("the ledger knew all of it")


TASKS = {"list": show_list, "show": show, "verify": verify, "recover": recover, "accept-loss": accept_loss}
