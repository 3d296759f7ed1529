"""Deliveries by an Ansible that runs elsewhere: the project handed out, what came of it taken in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, held_project_of, path_of, project_of
from pki.common.errors import PkiError
from pki.common.reasons import Verb, joined
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy.ansible import fleet, playbooks, runner
from pki.deploy.delivery import Delivery
from pki.pipeline import plan
from pki.project.project import Project


@command
def export(context: Context, folder: str, vault: str = "") -> None:
    """Write an Ansible project that delivers the present releases to every ssh host: for ansible-playbook, or AWX.

    It holds private keys. --vault FILE is a file with a passphrase, with which ansible-vault encrypts them.
    """
    project, screen, target = project_of(context), Screen(), path_of(context, folder)
    if target.exists() and any(target.iterdir()) and not (target / playbooks.COLLECTION).is_dir():
        raise PkiError(f"{folder}: is not empty", "name a new folder, or one that deploy.export made")
    payloads, failed = [], 0
    for delivery in _ssh(project).values():
        try:
            payloads.append(fleet.consign(delivery, project.now))
        except PkiError as error:
            failed += 1
            screen.failed(ArtifactId("deploy", delivery.host), error.message, error.hint)
    if not payloads:
        raise PkiError(
            "there is nothing to hand out", "in pki.yaml, under a host: `deliver: ssh`; then ./run doit release"
        )
    playbooks.write(target, payloads, project.inventory.deploy.ansible, abroad=True)
    if vault:
        _encrypt(target, path_of(context, vault), project)
    screen.line(
        f"{len(payloads)} hosts in {folder}: ansible-playbook playbook.yaml, there; then ./run invoke deploy.collect EVENTS"
    )
    if not vault:
        screen.line("it holds private keys: keep it for yourself, take it away afterwards, or give --vault FILE")
    if failed:
        raise Exit(code=1)


@command
def collect(context: Context, events: str) -> None:
    """File the receipts of a run elsewhere from its events: ansible-runner's folder job_events, or AWX's list as JSON."""
    screen, failed = Screen(), 0
    left_out: list[str] = []
    found = runner.results(runner.read(path_of(context, events), left_out))
    for name in left_out:
        screen.note("events", f"{name} is no event, and is left out", "take another copy of it")
    with held_project_of(context) as project:
        if not found:
            hint = "name the events of a run of playbook.yaml, which deploy.export wrote"
            raise PkiError(f"{events}: tells of no delivery by {runner.ACTION}", hint)
        deliveries = _ssh(project)
        for host, result in found.items():
            try:
                done = fleet.collect(deliveries[require_one_of(host, deliveries, "ssh host")], result, project.now)
            except PkiError as error:
                failed += 1
                screen.failed(ArtifactId("deploy", host), error.message, error.hint)
            else:
                screen.done(Verb.DEPLOYED if done else Verb.UNCHANGED, ArtifactId("deploy", host), joined(done))
    screen.line(f"{len(found) - failed} of {len(deliveries)} hosts have their release")
    if failed or left_out:
        raise Exit(code=1)


def _ssh(project: Project) -> dict[str, Delivery]:
    return {name: one for name, one in plan.plan(project).deliveries.items() if one.way == "ssh"}


def _encrypt(folder: Path, passphrase: Path, project: Project) -> None:
    beside = Path(project.inventory.deploy.ansible.command).with_name("ansible-vault")
    program = runner.find(str(beside if beside.is_absolute() else beside.name))
    names = [
        *sorted((folder / "streams").iterdir()),
        *(folder / "prober" / f"{name}.pem" for name in ("probe", "canary")),
    ]
    done = subprocess.run(
        [program, "encrypt", "--vault-password-file", passphrase, *names], capture_output=True, text=True, check=False
    )
    if done.returncode:
        playbooks.sweep(folder)
        raise PkiError(f"ansible-vault: {done.stderr.strip()}", "what it could not encrypt was taken away again")


TASKS: dict[str, Any] = {"collect": collect, "export": export}
