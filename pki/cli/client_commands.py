"""The commands client.add, client.list, client.installed and client.revoke."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from invoke.context import Context

from pki.authority import certificates, leaf_files
from pki.authority.certificate_holders import certificates_of_client
from pki.cli.daily_commands import require_one_of, run_doit
from pki.cli.decorator import command, command_with, held_project_of, home_of, project_as_it_is, project_of
from pki.cli.json_output import ClientListOutput, ClientRow
from pki.cli.prompt import confirm
from pki.cli.revoke_command import Order, ask_reason, carry_out
from pki.common.errors import PkiError
from pki.common.reasons import Verb
from pki.common.terminal import Screen
from pki.config import editing
from pki.config.leaf_certificates import client_artifact
from pki.ledger.types import Issued
from pki.monitor.client_identities import IdentityState, identities
from pki.monitor.revocation_impact import AfterRevocation
from pki.pipeline import plan
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView
from pki.project.project import Project


@command_with(many=("dns",))
def add(context: Context, name: str, dns: list[str], email: str = "", uri: str = "") -> None:
    """Add a client identity to pki.yaml, one for each person and device (admin@laptop), and issue its certificate.

    A person has an --email, a machine one or more --dns, or a SPIFFE ID: --uri spiffe://DOMAIN/PATH. Comments and layout of pki.yaml stay. If the place of the line is not certain, the line is shown and nothing is written.
    """
    dns_names = list(dns)
    settings: dict[str, str | list[str]] = {"email": email, "dns": dns_names, "uri": uri}
    names = {key: value for key, value in settings.items() if value}
    if not names:
        raise PkiError(
            f"{name}: has no name besides its own", "--email ADDRESS for a person, --dns NAME or --uri ID for a machine"
        )
    with held_project_of(context) as project:
        editing.write(editing.add_client(home_of(context) / "pki.yaml", name, names))
        if client_artifact(name) in project.revocations.replacement_stopped:
            project.ledger.record_decision(client_artifact(name), "released", "added again", project.now)
    Screen().done(
        Verb.UPDATED, "pki.yaml", f"added clients.{name}: {', '.join(filter(None, (email, *dns_names, uri)))}"
    )
    run_doit(context)


@command
def show_list(context: Context, json: bool = False) -> None:
    """Show every client identity: names, state, expiry, when it was exported and installed, and what comes next.

    --json is for programs.
    """
    project = project_as_it_is(context)
    columns = ("identity", "e-mail", "other names", "state", "until", "exported", "installed", "next")
    rows = list(_rows(project))
    if json:
        clients = [ClientRow(**dict(zip(ClientRow.model_fields, row, strict=True))) for row in rows]
        ClientListOutput(at=project.now, clients=clients).show()
        return
    empty = set() if any(row[2] for row in rows) else {2}  # most clients are people, who have no other names
    Screen().table(
        f"{len(rows)} client {'identity' if len(rows) == 1 else 'identities'}, {project.now:%Y-%m-%d %H:%M} UTC",
        [name for number, name in enumerate(columns) if number not in empty],
        [[cell for number, cell in enumerate(row) if number not in empty] for row in rows],
    )


@command
def revoke(context: Context, name: str, reason: str = "", yes: bool = False) -> None:
    """Revoke every valid certificate of a client identity, remove it from pki.yaml, and verify that it is refused.

    For people who left and devices that are gone: unlike with `revoke`, no certificate replaces it.
    """
    project = project_of(context)
    require_one_of(name, project.inventory.clients, "client")
    edit = editing.remove_client(home_of(context) / "pki.yaml", name)  # raises PkiError before anything is revoked
    if not _valid(project.ledger_view, project.revocations, name):
        project.ledger_view.close()
        Screen().line(f"{name} has no valid certificate; it is only removed from pki.yaml")
        if not yes:
            confirm("remove it?", f"./run invoke client.revoke {name}")
        _remove_only(context, name)
        run_doit(context)
        return
    reason = ask_reason(reason)
    same_command = f"./run invoke client.revoke {name} --reason {reason}"

    def remove_from_pki_yaml() -> None:
        try:
            editing.write(edit)
        except PkiError as error:
            Screen().failed("pki.yaml", error.message, f"remove clients.{name} from it yourself, then: ./run doit")
        else:
            Screen().done(Verb.UPDATED, "pki.yaml", f"removed clients.{name}")

    def check_pki_yaml() -> None:
        edit.insist_unchanged("nothing was revoked", same_command)

    def find(project: Project) -> list[Issued]:
        return _valid(project.ledger_view, project.revocations, name)

    order = Order(
        name,
        find,
        reason,
        same_command,
        AfterRevocation.REMOVAL,
        check_again=check_pki_yaml,
        after_record=remove_from_pki_yaml,
    )
    carry_out(context, project, order, yes=yes)


def _valid(ledger_view: LedgerView, revocations: Revocations, name: str) -> list[Issued]:
    """Return the valid certificates of a client in pki.yaml: its own, and others with its CN."""
    ledger_view.check()
    certificates = revocations.unexpired()
    with_same_cn = certificates_of_client(certificates, name)
    return [
        certificate
        for certificate in certificates
        if (certificate.artifact == client_artifact(name) or certificate in with_same_cn) and not certificate.revoked
    ]


def _remove_only(context: Context, name: str) -> None:
    """Remove a client from pki.yaml. Raises PkiError if it has a valid certificate by now."""
    with held_project_of(context) as project:
        if _valid(project.ledger_view, project.revocations, name):
            raise PkiError(
                f"{name}: a certificate was issued meanwhile; nothing was changed", "type the same command again"
            )
        editing.write(editing.remove_client(home_of(context) / "pki.yaml", name))
    Screen().done(Verb.UPDATED, "pki.yaml", f"removed clients.{name}")


@command
def installed(context: Context, name: str, serial: str = "") -> None:
    """Record that the device has the newest certificate of an identity (or --serial) now, which ends the reminders."""
    with held_project_of(context) as project:
        by_name = {
            identity.name: identity for identity in identities(project.inventory, project.now, project.ledger_view)
        }
        identity = by_name[require_one_of(name, by_name, "client")]
        certificates = {
            f"{cert.serial:x}": cert for cert in project.ledger.certificates(artifact=client_artifact(name))
        }
        cert = certificates.get(serial.lower().lstrip("0")) if serial else identity.newest
        if cert is None and serial:
            raise PkiError(f"{serial}: {name} has no certificate with this serial number", "./run invoke ledger.list")
        if cert is None:
            raise PkiError(f"{name} has no valid certificate", "./run doit")
        project.ledger.record_decision(client_artifact(name), "installed", f"{cert.serial:x}", project.now)
    screen = Screen()
    screen.done(
        "recorded",
        client_artifact(name),
        f"serial {cert.serial:x} is installed; it expires on {cert.not_after:%Y-%m-%d}",
    )
    for other in certificates.values():
        if other.serial != cert.serial and not other.revoked and other.not_after >= project.now:
            screen.line(f"serial {other.serial:x} is valid too, until {other.not_after:%Y-%m-%d}; to revoke it:")
            screen.line(f"  ./run invoke revoke {other.serial:x} --reason superseded")


def _rows(project: Project) -> Iterator[tuple[str, ...]]:
    leaves = plan.plan(project).leaves
    for identity in identities(project.inventory, project.now, project.ledger_view):
        leaf, newest = leaves.get(f"client-{identity.name}"), identity.newest
        client = project.inventory.clients[identity.name]
        until = f"{newest.not_after:%Y-%m-%d}" if newest else ""
        if leaf is None:
            state, next_step = "blocked", "by a root ceremony: ./run invoke plan"
        elif leaf_files.stopped_reasons(project.revocations, leaf.artifact):
            state, next_step = "stopped", f"nothing until ./run invoke renew {identity.name}"
        elif newest is None:
            state, next_step = "missing", "doit issues it"
        else:
            state = "due" if certificates.LeafCertificates(project).stale_reasons(leaf) else "ok"
            next_step = f"renewed from {leaf.renewal_start(newest.not_after):%Y-%m-%d} on"
        dates = [f"{decision.at:%Y-%m-%d}" if decision else "" for decision in (identity.exported, identity.installed)]
        yield (
            identity.name,
            client.email or "",
            ", ".join((*client.dns, *([client.uri] if client.uri else []))),
            state,
            until,
            *dates,
            _not_installed(project.now, identity) or next_step,
        )


def _not_installed(now: datetime, identity: IdentityState) -> str:
    """Return what to do if the newest certificate is not installed on the device; "" otherwise."""
    if not identity.has_newer:
        return ""
    old = identity.device
    if old is None:
        state = "unknown"
    elif old.revoked:
        state = "revoked"
    else:
        state = "expired" if old.not_after < now else f"valid until {old.not_after:%Y-%m-%d}"
    return f"install the newer one; the old one ({identity.device_serial:x}) is {state}"


TASKS: dict[str, Any] = {"add": add, "list": show_list, "installed": installed, "revoke": revoke}
