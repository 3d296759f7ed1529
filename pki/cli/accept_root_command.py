"""Accepting a new root for hosts that were deployed under another one."""

from __future__ import annotations

from invoke.context import Context

from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command_with, held_project_of, project_of
from pki.cli.revoke_command import confirm
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId
from pki.deploy.new_root import COMMAND
from pki.monitor import waiting_roots
from pki.pipeline import plan as pipeline_plan


@command_with(may_lack="hosts", many=("hosts",))
def accept_root(context: Context, hosts: list[str], yes: bool = False) -> None:
    """Let HOST … (all that wait, where none is named) have the project's new root; the next doit deploys it.

    Needed once where no cross-certificate connects the new root with that of a host: after a sandbox, or where a project
    started again. Its SHA-256 is shown, and asked about; --yes does not ask. The ledger records it.
    """
    project, screen = project_of(context), Screen()
    plan = pipeline_plan.plan(project)
    remote = [name for name, one in plan.deliveries.items() if one.is_remote]
    wanted = {require_one_of(name, remote, "host that is deployed by ssh or locally") for name in hosts}
    found = [one for one in waiting_roots.waiting(project, plan) if not wanted or one.host in wanted]
    for name in sorted(wanted - {one.host for one in found}):
        screen.line(f"{name} waits for no new root")
    if not found:
        screen.line("no host waits for a new root" if not wanted else "nothing to accept")
        return
    root, names = found[0].root(), [one.host for one in found]
    for one in found:
        receipt = one.receipt
        before = ", ".join(f"{name} (SHA-256 {digest})" for digest, name in (receipt.roots if receipt else {}).items())
        screen.line(f"{one.host} was deployed under {before or 'another root'}")
    screen.line(f"new root: {root.name}, SHA-256 {root.fingerprint}")
    again = " ".join([COMMAND, *hosts])
    if not yes:
        confirm(f"deploy it to {', '.join(names)}?", again)
    with held_project_of(context) as project:
        asked = {
            one.host: one.root().fingerprint for one in waiting_roots.waiting(project, pipeline_plan.plan(project))
        }
        if any(asked.get(name) != root.fingerprint for name in names):
            raise PkiError("the hosts or the new root are no longer those that were shown; nothing was accepted", again)
        for name in names:
            project.ledger.record_decision(ArtifactId("deploy", name), "root-accepted", root.fingerprint, project.now)
    for name in names:
        screen.done("accepted", ArtifactId("deploy", name), root.name)
    screen.line("next: ./run doit")
