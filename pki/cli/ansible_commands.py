"""The commands deploy.export and deploy.collect: deliveries by an Ansible that runs elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, held_project_of, path_of, project_of
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.reasons import Verb, joined
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.deploy.ansible import fleet, playbooks, runner
from pki.deploy.delivery import Delivery
from pki.pipeline import plan
from pki.project.project import Project


@command
def export(context: Context, folder: str, ansible_vault_password_file: str = "") -> None:
    """Write an Ansible project that delivers the current releases to every ssh host: for ansible-playbook, or AWX.

    It contains private keys. --ansible-vault-password-file FILE is a file with a password, with which ansible-vault
    encrypts them.
    """
    project, screen, target = project_of(context), Screen(), path_of(context, folder)
    if target.exists() and any(target.iterdir()) and not (target / playbooks.COLLECTION).is_dir():
        raise PkiError(f"{folder}: is not empty", "name a new folder, or one that deploy.export made")
    payloads, failed_count = [], 0
    for delivery in _ssh_deliveries(project).values():
        try:
            payloads.append(fleet.prepare_payload(delivery, project.now))
        except PkiError as error:
            failed_count += 1
            screen.failed(ArtifactId("deploy", delivery.host), error.message, error.hint)
    if by_command := [name for name, delivery in plan.plan(project).deliveries.items() if delivery.hook]:
        screen.line(f"left out: {', '.join(by_command)}; doit starts their command itself (deliver: {{command: …}})")
    if not payloads:
        raise PkiError(
            "there is nothing to export", "in pki.yaml, set `deliver: ssh` for a host; then ./run doit release"
        )
    playbooks.write(target, payloads, project.inventory.deploy.ansible, portable=True)
    if ansible_vault_password_file:
        _encrypt(target, path_of(context, ansible_vault_password_file), project.inventory)
    screen.line(
        f"{counted(len(payloads), 'host')} in {folder}: ansible-playbook playbook.yaml, there; then ./run invoke deploy.collect EVENTS"
    )
    if not ansible_vault_password_file:
        screen.line(
            "it contains private keys: protect it and delete it afterwards, or use --ansible-vault-password-file FILE"
        )
    if failed_count:
        raise Exit(code=1)


@command
def collect(context: Context, events: str) -> None:
    """Record the receipts of a run elsewhere from its events: ansible-runner's folder job_events, or AWX's list as JSON."""
    screen, failed_count = Screen(), 0
    invalid: list[str] = []
    results = runner.host_results(runner.read_events(path_of(context, events), invalid))
    for name in invalid:
        screen.note("events", f"{name} is not an event, and is ignored", "copy it again")
    with held_project_of(context) as project:
        if not results:
            hint = "name the events of a run of playbook.yaml, which deploy.export wrote"
            raise PkiError(f"{events}: contains no delivery by {runner.ACTION}", hint)
        deliveries = _ssh_deliveries(project)
        for host, result in results.items():
            try:
                reasons = fleet.collect(deliveries[require_one_of(host, deliveries, "ssh host")], result, project.now)
            except PkiError as error:
                failed_count += 1
                screen.failed(ArtifactId("deploy", host), error.message, error.hint)
            else:
                screen.done(Verb.DEPLOYED if reasons else Verb.UNCHANGED, ArtifactId("deploy", host), joined(reasons))
    screen.line(f"{len(results) - failed_count} of {len(deliveries)} hosts have their release")
    if failed_count or invalid:
        raise Exit(code=1)


def _ssh_deliveries(project: Project) -> dict[str, Delivery]:
    """Return the deliveries by ssh."""
    return {
        name: delivery
        for name, delivery in plan.plan(project).deliveries.items()
        if delivery.records.transport == "ssh"
    }


def _encrypt(folder: Path, password_file: Path, inventory: Inventory) -> None:
    """Encrypt the secret files of a project with ansible-vault."""
    # ansible-vault is beside ansible-playbook; a bare name is searched for in PATH.
    vault_program = Path(inventory.deploy.ansible.command).with_name("ansible-vault")
    program = runner.find_program(str(vault_program if vault_program.is_absolute() else vault_program.name))
    names = [
        *sorted((folder / "streams").iterdir()),
        *(folder / "prober" / f"{name}.pem" for name in ("probe", "canary")),
    ]
    process = subprocess.run(
        [program, "encrypt", "--vault-password-file", password_file, *names],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        playbooks.remove_secrets(folder)
        raise PkiError(f"ansible-vault: {process.stderr.strip()}", "the secret files were removed")


TASKS: dict[str, Any] = {"collect": collect, "export": export}
