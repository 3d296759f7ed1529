"""The command deploy.accept-root: accept a new root for hosts that were deployed under another one."""

from __future__ import annotations

from invoke.context import Context

from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command_with, held_project_of, project_of
from pki.cli.prompt import confirm
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy.new_root import COMMAND
from pki.monitor import waiting_roots
from pki.pipeline import plan as pipeline_plan


@command_with(may_lack="hosts", many=("hosts",))
def accept_root(context: Context, hosts: list[str], yes: bool = False) -> None:
    """Let HOST … (all that wait, if none is named) have the project's new root; the next doit deploys it.

    Needed once where no cross-certificate connects the new root with that of a host: after a sandbox, or where a
    project started again. Shows its SHA-256 and asks for confirmation; --yes does not ask. The ledger records it.
    """
    project, screen = project_of(context), Screen()
    plan = pipeline_plan.plan(project)
    remote = [name for name, delivery in plan.deliveries.items() if delivery.records.is_contacted]
    chosen = {require_one_of(name, remote, "remote host") for name in hosts}
    deliveries = [
        delivery
        for delivery in waiting_roots.waiting_deliveries(project.store, project.cache, plan)
        if not chosen or delivery.host in chosen
    ]
    for name in sorted(chosen - {delivery.host for delivery in deliveries}):
        screen.line(f"{name} waits for no new root")
    if not deliveries:
        screen.line("no host waits for a new root" if not chosen else "nothing to accept")
        return
    root, names = deliveries[0].root(), [delivery.host for delivery in deliveries]
    for delivery in deliveries:
        receipt = delivery.records.receipt
        old_roots = ", ".join(
            f"{name} (SHA-256 {digest})" for digest, name in (receipt.roots if receipt else {}).items()
        )
        screen.line(f"{delivery.host} was deployed under {old_roots or 'another root'}")
    screen.line(f"new root: {root.name}, SHA-256 {root.fingerprint}")
    same_command = " ".join([COMMAND, *hosts])
    if not yes:
        confirm(f"deploy it to {', '.join(names)}?", same_command)
    with held_project_of(context) as project:
        root_by_host = {
            delivery.host: delivery.root().fingerprint
            for delivery in waiting_roots.waiting_deliveries(project.store, project.cache, pipeline_plan.plan(project))
        }
        if any(root_by_host.get(name) != root.fingerprint for name in names):
            raise PkiError("the waiting hosts or the new root changed meanwhile; nothing was accepted", same_command)
        for name in names:
            project.ledger.record_decision(ArtifactId("deploy", name), "root-accepted", root.fingerprint, project.now)
    for name in names:
        screen.done("accepted", ArtifactId("deploy", name), root.name)
    screen.line("next: ./run doit")
