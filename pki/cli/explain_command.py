"""Explaining one thing in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from invoke.context import Context

from pki.cli.certificate_lookup import Names, is_among, not_seen
from pki.cli.daily_commands import known
from pki.cli.decorator import command, project_as_it_is
from pki.cli.json_output import ExplainLine, ExplainOutput
from pki.common.terminal import Screen
from pki.config.identifiers import AUTHORITIES, ArtifactId, GenerationName
from pki.config.leaf_certificates import client_artifact
from pki.monitor import explanation
from pki.monitor.explanation import Line
from pki.pipeline import plan
from pki.pipeline.plan import Plan
from pki.project.project import Project


@command
def explain(context: Context, name: str, json: bool = False) -> None:
    """What a certificate is for, where its key lies, until when it holds, what stops without it, and what to type.

    NAME is a certificate, a client, a service, a host, a DNS name, a serial number, an authority (server, server-1) or a
    CRL (crl:client-1). --json is for programs.
    """
    project, screen, understood = project_as_it_is(context), Screen(), list[str]()
    title, lines = _found(project, plan.plan(project), name, understood.append)
    if json:
        told = [ExplainLine(about=about, text=text) for about, text in lines]
        said = "".join(understood)
        ExplainOutput(at=project.now, name=name, understood=said, subject=title, lines=told).show()
        return
    for line in (*understood, title):
        screen.line(line)
    for about, text in lines:
        screen.line(f"  {about:<11} {text}")


def _found(project: Project, plan: Plan, name: str, say: Callable[[str], None]) -> tuple[str, Iterable[Line]]:
    """What a name stands for, as it is called in full, and its explanation."""
    asked, generations = ArtifactId.parse(name), [g for a in AUTHORITIES for g in project.store.generations(a)]
    bare = asked.name if asked.kind == "authority" else name
    if bare in AUTHORITIES and (issuing := project.issuing(bare)):
        bare = issuing.name
    if bare in generations:
        return ArtifactId("authority", bare), explanation.authority(project, project.existing(bare))
    if bare in {*AUTHORITIES, *(one.name for one in project.missing_roots if one.name)}:
        return ArtifactId("authority", bare), explanation.missing(project, bare)
    if asked.kind == "crl":
        of = project.live(asked.name)[-1] if asked.name in AUTHORITIES else known(asked.name, generations, "authority")
        return ArtifactId("crl", of), explanation.crl(project, plan, of)
    if found := _declared(project, plan, name, say):
        return found
    return _recorded(project, plan, name, generations)


def _declared(project: Project, plan: Plan, name: str, say: Callable[[str], None]) -> tuple[str, Iterable[Line]] | None:
    """A leaf by its name or what it stands for, or a leaf that waits for a ceremony."""
    names = Names(project.inventory, plan.leaves, say=say)
    if names.find(name):
        wanted = plan.leaves[names.leaf(name, "explain")]
        return wanted.artifact, explanation.leaf(project, plan, wanted)
    leaf = ArtifactId.parse(name).short
    notes = (
        note for note in plan.actions_required if note.subject in {ArtifactId("cert", leaf), client_artifact(leaf)}
    )
    if note := next(notes, None):
        return note.subject, [("state", note.text), ("next", note.remedy)]
    return None


def _recorded(project: Project, plan: Plan, name: str, generations: list[GenerationName]) -> tuple[str, Iterable[Line]]:
    """What the ledger knows under a name or serial number."""
    serial = name.lower().lstrip("0")
    for found in map(project.existing, generations):
        if f"{found.certificate.serial_number:x}" == serial:
            return ArtifactId("authority", found.name), explanation.authority(project, found)
    everything = project.ledger.certificates() if project.has_ledger else []
    for one in reversed(everything):
        if name in {one.artifact, one.artifact.name} or f"{one.serial:x}" == serial:
            return f"{one.artifact}, serial {one.serial:x}", explanation.issued(project, plan, one)
    for one in (one for one in reversed(everything) if is_among(name, one.names)):
        return f"{name} is a name in {one.artifact}, serial {one.serial:x}", explanation.issued(project, plan, one)
    raise not_seen(name, {*plan.leaves, *project.inventory.clients, *AUTHORITIES})
