"""The life of client identities: one for each person and device, added, listed, installed, revoked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from invoke.context import Context

from pki.authority import certificates
from pki.authority.certificate_holders import certificates_of_client
from pki.cli.daily_commands import known, run_doit
from pki.cli.decorator import command, held_project_of, home_of, project_as_it_is, project_of
from pki.cli.json_output import ClientListOutput, ClientRow
from pki.cli.revoke_command import Order, carry_out, chosen, consent
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config import editing
from pki.config.leaf_certificates import client_artifact
from pki.ledger.types import Issued
from pki.monitor.client_identities import Identity, identities
from pki.pipeline import plan
from pki.project.project import Project


@command
def add(context: Context, name: str, email: str) -> None:
    """Add a client identity to pki.yaml, one for each person and device (admin@laptop), and make its certificate.

    Comments and layout of pki.yaml stay; where the line cannot be placed surely, it is shown and nothing is written.
    """
    with held_project_of(context) as project:
        editing.write(editing.add_client(home_of(context) / "pki.yaml", name, email))
        if client_artifact(name) in project.replacement_stopped:
            project.ledger.record_decision(client_artifact(name), "released", "added again", project.now)
    Screen().made("pki.yaml", f"clients.{name}: {email}")
    run_doit(context)


@command
def show_list(context: Context, json: bool = False) -> None:
    """Every client identity: its state and end, when it was handed out and installed, and whether a newer one waits.

    --json is for programs.
    """
    project = project_as_it_is(context)
    columns = ("identity", "e-mail", "state", "until", "exported", "installed", "next")
    rows = list(_rows(project))
    if json:
        clients = [ClientRow(**dict(zip(ClientRow.model_fields, row, strict=True))) for row in rows]
        ClientListOutput(at=project.now, clients=clients).show()
        return
    Screen().table(f"{len(rows)} client identities, {project.now:%Y-%m-%d %H:%M} UTC", columns, rows)


@command
def revoke(context: Context, name: str, reason: str = "", yes: bool = False) -> None:
    """Revoke every valid certificate of a client identity, take it out of pki.yaml, and prove that it is refused.

    As `invoke revoke`, but nothing replaces it: for a person who left or a device that is gone.
    """
    project = project_of(context)
    known(name, project.inventory.clients, "client in pki.yaml")
    edit = editing.remove_client(home_of(context) / "pki.yaml", name)  # it may refuse, before anything is revoked
    if not _valid(project, name):
        project.close_ledger()
        Screen().line(f"{name} has no valid certificate; it only leaves pki.yaml")
        if not yes:
            consent("take it out?", f"./run invoke client.revoke {name}")
        _take_out_alone(context, name)
        run_doit(context)
        return
    reason = chosen(reason)
    again = f"./run invoke client.revoke {name} --reason {reason}"

    def leave() -> None:
        try:
            editing.write(edit)
        except PkiError as error:
            Screen().failed("pki.yaml", error.message, f"take clients.{name} out of it yourself, then: ./run doit")
        else:
            Screen().made("pki.yaml", f"clients.{name} is out of it")

    def insist() -> None:
        edit.insist_unchanged("nothing was revoked", again)

    order = Order(name, partial(_valid, name=name), reason, again, "removal", insist=insist, also=leave)
    carry_out(context, project, order, yes=yes)


def _valid(project: Project, name: str) -> list[Issued]:
    """Return the valid certificates of a client in pki.yaml: those of its line, and others with its CN."""
    project.check_ledger()
    issued = project.unexpired()
    alike = certificates_of_client(issued, name)
    return [one for one in issued if (one.artifact == client_artifact(name) or one in alike) and not one.revoked]


def _take_out_alone(context: Context, name: str) -> None:
    """Take a client out of pki.yaml. Raises PkiError where it has a valid certificate by now."""
    with held_project_of(context) as project:
        if _valid(project, name):
            raise PkiError(f"{name}: got a certificate meanwhile; nothing was changed", "type the same command again")
        editing.write(editing.remove_client(home_of(context) / "pki.yaml", name))
    Screen().made("pki.yaml", f"clients.{name} is out of it")


@command
def installed(context: Context, name: str, serial: str = "") -> None:
    """Record that a device has the newest certificate of an identity now (or the one with --serial); ends reminders."""
    with held_project_of(context) as project:
        found = {one.name: one for one in identities(project)}
        one = found[known(name, found, "client in pki.yaml")]
        issued = {f"{cert.serial:x}": cert for cert in project.ledger.certificates(artifact=client_artifact(name))}
        if serial and serial.lower().lstrip("0") not in issued:
            raise PkiError(f"{serial}: {name} has no certificate with this serial number", "./run invoke ledger.list")
        if not serial and one.newest is None:
            raise PkiError(f"{name} has no valid certificate", "./run doit")
        cert = issued[serial.lower().lstrip("0")] if serial else one.newest
        assert cert is not None
        project.ledger.record_decision(client_artifact(name), "installed", f"{cert.serial:x}", project.now)
    screen = Screen()
    screen.made(
        client_artifact(name),
        f"serial {cert.serial:x} is installed, and ends on {cert.not_after:%Y-%m-%d}",
    )
    for other in issued.values():
        if other.serial != cert.serial and not other.revoked and other.not_after >= project.now:
            screen.line(f"serial {other.serial:x} is valid too, until {other.not_after:%Y-%m-%d}; to end it:")
            screen.line(f"  ./run invoke revoke {other.serial:x} --reason superseded")


def _rows(project: Project) -> Iterator[tuple[str, ...]]:
    leaves = plan.plan(project).leaves
    for one in identities(project):
        leaf = leaves.get(f"client-{one.name}")
        until = f"{one.newest.not_after:%Y-%m-%d}" if one.newest else ""
        if leaf is None:
            state, coming = "waits", "for a root ceremony: ./run invoke plan"
        elif certificates.stopped_reasons(project, leaf.artifact):
            state, coming = "withheld", f"nothing before: ./run invoke renew {one.name}"
        elif one.newest is None:
            state, coming = "missing", "doit issues it"
        else:
            state = "due" if certificates.stale_reasons(project, leaf) else "ok"
            coming = f"renewal from {one.newest.not_after - leaf.renew_before:%Y-%m-%d}"
        dates = [f"{kept.at:%Y-%m-%d}" if kept else "" for kept in (one.exported, one.installed)]
        yield (
            one.name,
            project.inventory.clients[one.name].email,
            state,
            until,
            *dates,
            _waiting(project, one) or coming,
        )


def _waiting(project: Project, one: Identity) -> str:
    if not one.waits:
        return ""
    old = one.device
    ends = "unknown" if old is None else "revoked" if old.revoked else f"valid until {old.not_after:%Y-%m-%d}"
    if old and not old.revoked and old.not_after < project.now:
        ends = "over"
    return f"a newer one is to be installed; the old one ({one.given:x}) is {ends}"


TASKS: dict[str, Any] = {"add": add, "list": show_list, "installed": installed, "revoke": revoke}
