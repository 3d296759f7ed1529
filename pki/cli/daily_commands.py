"""The commands plan, status, renew and schema."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from json import loads

from invoke.context import Context
from invoke.exceptions import Exit

from pki.authority import certificates
from pki.cli import json_output as models
from pki.cli.certificate_lookup import Names
from pki.cli.decorator import (
    command,
    command_with,
    evidence_of,
    held_project_of,
    home_of,
    now_of,
    path_of,
    project_as_it_is,
)
from pki.cli.json_output import Due, Observed, PlanOutput, ReasonOutput, Remark, StatusOutput, StatusRow
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.notice import Notice
from pki.common.reasons import Reason, Verb, Why, joined
from pki.common.remedies import run_for
from pki.common.terminal import Screen
from pki.config import template_versions
from pki.config.fields import SANDBOX
from pki.config.identifiers import ArtifactId
from pki.monitor import forecast, probes
from pki.monitor.alerts.notification_history import NotificationHistory
from pki.monitor.check_result import Finding, count_by_level
from pki.monitor.checks import check_services
from pki.monitor.checks.check_context import CheckContext, LastRun
from pki.monitor.report import status_table
from pki.monitor.report.run import Run
from pki.pipeline import plan as pipeline_plan
from pki.pipeline.artifact import Artifact
from pki.pipeline.plan import Plan
from pki.project import version_change
from pki.project.project import Project

COLUMNS = ("name", "state", "days left", "what happens next", "done by")  # of status


@command
def plan(context: Context, json: bool = False) -> None:
    """Show what the next doit would do, and why; change nothing.

    --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    plan = pipeline_plan.plan(project)
    if json:
        _print_plan(project, plan)
        return
    if project.roots.missing:
        _print_missing_roots(project, plan, screen)
        raise Exit(code=2)
    to_do = list(forecast.due_artifacts(plan))
    faults = project.signing_keys.faults()
    awaits = project.roots.awaits_first_ceremony
    for name, error in faults.items():
        screen.failed(ArtifactId("key", name), error.message, error.hint)
    for artifact, reasons in to_do:
        if not awaits or artifact.id.kind == "ceremony":
            screen.due(artifact.id, joined(reasons), is_certain=not forecast.may_follow(reasons))
    for note in forecast.required_actions(project, plan):
        screen.note(note.subject, note.text, note.remedy)
    for note in (*_upgrade_notes(project), *(() if awaits else plan.remarks())):
        screen.note(note.subject, note.text, note.remedy, is_required=False)
    findings = _print_services(project, plan, screen)
    screen.line(_plan_counts(plan, to_do, len(faults), awaits=awaits))
    if findings:
        screen.line(f"{count_by_level(findings)}: see {run_for(project.store.home)} invoke health")
    if to_do or faults or project.ledger_view.fault:
        raise Exit(code=2)


def _plan_counts(plan: Plan, to_do: Sequence[tuple[Artifact, list[Reason]]], failed: int, *, awaits: bool) -> str:
    """Return the counts of tasks; with `awaits`, all tasks except the request wait for the first ceremony."""
    if awaits:
        return f"{sum(artifact.id.kind != 'ceremony' for artifact, _ in to_do)} tasks waiting for the root ceremony"
    uncertain = sum(forecast.may_follow(reasons) for _, reasons in to_do)
    counts = {"to do": len(to_do) - uncertain, "may follow": uncertain, "failed": failed}
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    up_to_date = len(plan.artifacts) - len(to_do)
    return ", ".join([*parts, f"{up_to_date} up to date"]) if parts else f"{up_to_date} tasks up to date"


def _print_services(project: Project, plan: Plan, screen: Screen) -> list[Finding]:
    """Print the last result of each service; return the problems."""
    findings = []
    for finding in _services(project, plan):
        if finding.level:
            screen.check(finding.level.word, finding.subject, finding.message, "", str(finding.remedy))
            findings.append(finding)
        else:
            screen.line(finding.message)
    return findings


def _services(project: Project, plan: Plan) -> Iterable[Finding]:
    """Return the result of the last check of each service, with its time."""
    history = NotificationHistory.load(project.store.ca, project.now)
    return check_services.check_last_probes(
        CheckContext(
            project,
            plan,
            LastRun.load(project.store),
            (),
            history,
            probes.load(project.inventory, project.store),
            thorough=False,
        )
    )


def _print_plan(project: Project, plan: Plan) -> None:
    output = _plan_output(project, plan)
    output.show()
    is_faulty = bool(output.failed or project.roots.missing or project.ledger_view.fault)
    if output.to_do or is_faulty:
        raise Exit(code=2)


def _plan_output(project: Project, plan: Plan) -> PlanOutput:
    """Return the plan as JSON data. While a root is missing, only its restoration is planned."""
    is_missing = bool(project.roots.missing)
    if is_missing:
        to_do = []
        faults: list[tuple[str, PkiError]] = [("templates", fault) for fault in plan.template_faults()]
    else:
        to_do = list(forecast.due_artifacts(plan))
        faults = [(ArtifactId("key", name), error) for name, error in project.signing_keys.faults().items()]
    return PlanOutput(
        at=project.now,
        to_do=[_due(artifact, reasons) for artifact, reasons in to_do if not forecast.may_follow(reasons)],
        may_follow=[_due(artifact, reasons) for artifact, reasons in to_do if forecast.may_follow(reasons)],
        up_to_date=0 if is_missing else len(plan.artifacts) - len(to_do),
        failed=[Remark(subject=name, text=error.message, remedy=error.hint) for name, error in faults],
        actions_required=_remarks(forecast.required_actions(project, plan)),
        remarks=[] if is_missing else _remarks((*_upgrade_notes(project), *plan.remarks())),
        services=[
            Observed(
                subject=finding.subject, level=finding.level.word, text=finding.message, remedy=str(finding.remedy)
            )
            for finding in ([] if is_missing else _services(project, plan))
        ],
    )


def _due(artifact: Artifact, reasons: Iterable[Reason]) -> Due:
    return Due(name=artifact.id, reasons=[ReasonOutput.of(reason) for reason in reasons])


def _upgrade_notes(project: Project) -> Iterable[Notice]:
    """Yield notices about this version of the program: what it changes, and copies of older templates."""
    yield from version_change.notices(project.inventory, project.store, project.templates)
    yield from template_versions.notices(project.templates)


def _remarks(notes: Iterable[Notice]) -> list[Remark]:
    return [Remark(subject=note.subject, text=note.text, remedy=str(note.remedy)) for note in notes]


def _print_missing_roots(project: Project, plan: Plan, screen: Screen) -> None:
    """Print the faults of all templates, then the missing root. Until it is restored, nothing else can be planned."""
    for fault in plan.template_faults():
        screen.failed("templates", fault.message, fault.hint)
    for note in forecast.required_actions(project, plan):
        screen.failed(note.subject, note.text, note.remedy)


@command
def show_status(context: Context, json: bool = False) -> None:
    """Show the state of every authority, certificate, CRL and host, the days left, and what comes next.

    --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    plan, config = pipeline_plan.plan(project), project.inventory
    if json:
        rows = [
            StatusRow(name=row.name, state=row.state, days_left=row.left, next=row.next, by=row.by)
            for row in status_table.StatusTable(project).rows(plan)
        ]
        StatusOutput(
            at=project.now,
            organisation=config.organisation,
            sandbox=config.sandbox,
            rows=rows,
            actions_required=_remarks(forecast.required_actions(project, plan)),
        ).show()
        return
    title = f"{f'{SANDBOX} ' if config.sandbox else ''}{config.organisation}, {project.now:%Y-%m-%d %H:%M} UTC"
    if project.roots.awaits_first_ceremony:
        screen.line(f"{title}: no certificate exists yet")
    else:
        screen.table(title, COLUMNS, [row.cells() for row in status_table.StatusTable(project).rows(plan)])
    for note in forecast.required_actions(project, plan):
        screen.note(note.subject, note.text, note.remedy)


@command
def renew(context: Context, name: str) -> None:
    """Renew a certificate now and deploy it; it gets a new key unless pki.yaml has `rekey: keep`.

    NAME is a certificate, a client, a service, a host, or a DNS name.
    """
    with held_project_of(context) as project:
        leaves = pipeline_plan.plan(project).leaves
        leaf = leaves[Names(project.inventory, leaves).leaf(name, "renew")]
        project.clock.check()
        reason = Why.BY_HAND()
        if leaf.artifact in project.revocations.replacement_stopped:
            project.ledger.record_decision(leaf.artifact, "released", str(reason), project.now)
        certificates.LeafCertificates(project).issue(leaf, [reason])
    Screen().done(Verb.RENEWED, leaf.artifact, reason.past)
    run_doit(context)


@command_with(may_lack="of")
def schema(context: Context, of: str | None = None, output: str = "") -> None:
    """Print the JSON Schema of pki.yaml, for editors; of secrets.yaml; or of the output of a command with --json.

    --output FILE writes it into a file, which may be an older schema but nothing else.
    """
    text = _schemas()[require_one_of(of or "pki.yaml", _schemas(), "output")]()
    if not output:
        print(text, end="")
        return
    path = path_of(context, output)
    if not _is_ours(filesystem.read(path)):
        raise PkiError(
            f"{output}: exists already, and is not a JSON Schema of this program",
            "remove it, or name another file: --output",
        )
    filesystem.write(path, text.encode())


def _is_ours(data: bytes | None) -> bool:
    """Return whether the content of a file (None: no file) may be replaced: an older schema of this program."""
    if data is None:
        return True
    try:
        tree = loads(data)
    except (ValueError, RecursionError):
        return False
    ours = [loads(make())["title"] for make in _schemas().values()]
    return isinstance(tree, dict) and "$schema" in tree and tree.get("title") in ours


def _schemas() -> dict[str, Callable[[], str]]:
    """Return functions that return a schema, by name: of the two files, and of each command with --json."""
    from pki.config import editor_schemas  # noqa: PLC0415 - slow, and needed for one command

    return {
        "pki.yaml": editor_schemas.pki_yaml_schema,
        "secrets.yaml": editor_schemas.secrets_yaml_schema,
        **{name: partial(models.schema, name) for name in models.MODELS},
    }


def require_one_of(name: str, names: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `names`. Raises PkiError with the closest of them; `what` is their kind."""
    choices = sorted(names)
    if name in choices:
        return name
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {close[0]}?" if close else f"defined: {', '.join(choices) or 'none'}"
    raise PkiError(f"unknown {what} {name!r}", hint)


def run_doit(context: Context) -> None:
    """Run doit, which brings everything up to date. Raises Exit with its status unless that is 0."""
    if code := Run(home_of(context), now_of(context), evidence_of(context)).main([]):
        raise Exit(code=code)
