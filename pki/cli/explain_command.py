"""The command explain."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from invoke.context import Context

from pki.cli.certificate_lookup import Names, is_among, not_declared
from pki.cli.daily_commands import require_one_of
from pki.cli.decorator import command, project_as_it_is
from pki.cli.json_output import ExplainLine, ExplainOutput
from pki.common.remedies import for_this_project
from pki.common.terminal import Screen
from pki.config.identifiers import ALL_AUTHORITIES, AUTHORITIES, ArtifactId, GenerationName
from pki.config.leaf_certificates import client_artifact
from pki.monitor import adopted_cas, explanation
from pki.monitor.explanation import Line
from pki.pipeline import plan
from pki.pipeline.plan import Plan
from pki.project.authorities import own_authorities
from pki.project.project import Project

LABEL_WIDTH = 13  # of the longest label, `if it expires`


@command
def explain(context: Context, name: str, json: bool = False) -> None:
    """Explain a certificate, authority or CRL: its purpose, its key, its expiry, what depends on it, and what to type.

    NAME is a certificate, a client, a service, a host, a DNS name, a serial number, an authority (server, server-1) or a
    CRL (crl:client-1). --json is for programs.
    """
    project, screen, remarks = project_as_it_is(context), Screen(), list[str]()
    title, lines = _explanation(project, plan.plan(project), name, remarks.append)
    if json:
        output = [ExplainLine(about=about, text=for_this_project(text)) for about, text in lines]
        ExplainOutput(at=project.now, name=name, understood="".join(remarks), subject=title, lines=output).show()
        return
    for line in (*remarks, title):
        screen.line(line)
    for about, text in lines:
        screen.line(f"  {about:<{LABEL_WIDTH}}  {for_this_project(text)}", indent=LABEL_WIDTH + 4)


def _explanation(
    project: Project, plan: Plan, name: str, print_line: Callable[[str], None]
) -> tuple[str, Iterable[Line]]:
    """Return the full name of what `name` means, and its explanation.

    `print_line` gets a line where the name means something else: a host, a service or a DNS name.
    """
    artifact = ArtifactId.parse(name)
    generations = [
        generation for authority in project.store.authorities() for generation in project.store.generations(authority)
    ]
    bare = artifact.name if artifact.kind == "authority" else name
    is_meant = artifact.kind == "authority" or bare in ALL_AUTHORITIES or bare not in plan.leaves
    if bare in project.store.authorities() and is_meant and (issuing := project.authorities.issuing(bare)):
        bare = issuing.name
    if bare in generations:
        return ArtifactId("authority", bare), explanation.Explainer(project).authority(
            project.authorities.existing(bare)
        )
    adopted = project.inventory.authorities.adopted
    if bare in adopted and is_meant:
        return ArtifactId("authority", bare), adopted_cas.explain(
            project.inventory, project.now, project.authorities, project.ledger_view, bare
        )
    expected = ALL_AUTHORITIES if project.inventory.authorities.peer else AUTHORITIES
    if bare in {*expected, *(root.name for root in project.roots.missing if root.name)}:
        return ArtifactId("authority", bare), explanation.explain_missing_authority(
            project.inventory, project.store, project.authorities, project.roots, bare
        )
    if artifact.kind == "crl":
        if artifact.name in own_authorities(project.authorities):
            generation = str(project.authorities.live(artifact.name)[-1])
        else:
            generation = require_one_of(artifact.name, [*generations, *adopted], "authority")
        lines = explanation.explain_crl(project.inventory, project.store, project.now, plan, generation)
        return ArtifactId("crl", generation), lines
    if declared := _declared(project, plan, name, print_line):
        return declared
    return _recorded(project, plan, name, generations)


def _declared(
    project: Project, plan: Plan, name: str, print_line: Callable[[str], None]
) -> tuple[str, Iterable[Line]] | None:
    """Explain a leaf certificate in pki.yaml or templates/, or a leaf that waits for a ceremony; None if it is neither."""
    names = Names(project.inventory, plan.leaves, print_line=print_line)
    if names.find(name):
        leaf = plan.leaves[names.leaf(name, "explain")]
        return leaf.artifact, explanation.Explainer(project).leaf(plan, leaf)
    short = ArtifactId.parse(name).short
    notes = (
        note for note in plan.actions_required if note.subject in {ArtifactId("cert", short), client_artifact(short)}
    )
    if note := next(notes, None):
        return note.subject, [("state", note.text), ("next", note.remedy)]
    return None


def _recorded(project: Project, plan: Plan, name: str, generations: list[GenerationName]) -> tuple[str, Iterable[Line]]:
    """Explain a certificate of the ledger by its name or serial number. Raises PkiError if there is none."""
    serial = name.lower().lstrip("0")
    for generation in map(project.authorities.existing, generations):
        if f"{generation.certificate.serial_number:x}" == serial:
            return ArtifactId("authority", generation.name), explanation.Explainer(project).authority(generation)
    newest_first = project.ledger.certificates()[::-1] if project.ledger_view.has_ledger else []
    for issued in newest_first:
        if name in {issued.artifact, issued.artifact.name} or f"{issued.serial:x}" == serial:
            return f"{issued.artifact}, serial {issued.serial:x}", explanation.explain_issued(
                project.inventory, project.store, project.now, plan, issued
            )
    for issued in (issued for issued in newest_first if is_among(name, issued.names)):
        title = f"{name} is a name in {issued.artifact}, serial {issued.serial:x}"
        return title, explanation.explain_issued(project.inventory, project.store, project.now, plan, issued)
    raise not_declared(
        name, {*plan.leaves, *project.inventory.clients, *AUTHORITIES, *project.inventory.authorities.adopted}
    )
