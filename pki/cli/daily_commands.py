"""Looking and renewing: the commands of every day."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
from pki.common.reasons import Why, joined
from pki.common.remedies import run_for
from pki.common.terminal import Screen
from pki.config import loader
from pki.config.identifiers import ArtifactId
from pki.monitor import forecast, probes
from pki.monitor.alerts.notification_history import Record
from pki.monitor.check_result import Finding, counted
from pki.monitor.checks import check_services
from pki.monitor.checks.check_context import LastRun, View
from pki.monitor.report import status_table
from pki.monitor.report.run import Run
from pki.pipeline import plan as pipeline_plan
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project


@command
def plan(context: Context, json: bool = False) -> None:
    """What the next doit would do, and why. Changes nothing; exit status 0: nothing to do, 2: something, or the ledger is lost.

    --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    found = pipeline_plan.plan(project)
    if json:
        _print_plan(project, found)
        return
    if project.missing_roots:
        _say_missing(project, found, screen)
        raise Exit(code=2)
    coming = list(forecast.forecast(found))
    faults = project.key_faults()
    for name, error in faults.items():
        screen.failed(ArtifactId("key", name), error.message, error.hint)
    for artifact, reasons in coming:
        screen.due(artifact.name, joined(reasons))
    for note in forecast.notes(project, found):
        screen.note(note.subject, note.text, note.remedy)
    for note in found.notices():
        screen.remark(note.subject, note.text, note.remedy)
    findings = []
    for one in _services(project, found):
        if one.level:
            screen.check(one.level.word, one.subject, one.message, "", str(one.remedy))
            findings.append(one)
        else:
            screen.line(one.message)
    fresh = len(found.artifacts) - len(coming)
    idle = f"{fresh} fresh" if findings else f"nothing to do: {fresh} fresh"
    more = f"; {counted(findings)}: {run_for(project.store.home)} invoke health" if findings else ""
    screen.line(f"{f'{len(coming)} to do, {fresh} fresh' if coming else idle}{more}")
    if coming or faults or project.ledger_fault:
        raise Exit(code=2)


def _services(project: Project, plan: Plan) -> Iterable[Finding]:
    """What the last look saw of services, and when."""
    record = Record.load(project.store.ca, project.now)
    return check_services.last_seen(
        View(project, plan, LastRun.load(project.store), (), record, probes.load(project), thorough=False)
    )


def _print_plan(project: Project, found: Plan) -> None:
    shown = _plan_output(project, found)
    shown.show()
    if shown.to_do or shown.failed or project.missing_roots or project.ledger_fault:
        raise Exit(code=2)


def _plan_output(project: Project, found: Plan) -> PlanOutput:
    """The same for programs. Until a missing root is back, nothing but that can be planned."""
    is_missing = bool(project.missing_roots)
    coming = [] if is_missing else list(forecast.forecast(found))
    faults = [("templates", fault) for fault in found.template_faults()] if is_missing else []
    faults += [] if is_missing else [(ArtifactId("key", name), one) for name, one in project.key_faults().items()]
    return PlanOutput(
        at=project.now,
        to_do=[Due(name=one.name, reasons=[ReasonOutput.of(reason) for reason in reasons]) for one, reasons in coming],
        up_to_date=0 if is_missing else len(found.artifacts) - len(coming),
        failed=[Remark(subject=name, text=one.message, remedy=one.hint) for name, one in faults],
        actions_required=_remarks(forecast.notes(project, found)),
        remarks=[] if is_missing else _remarks(found.notices()),
        services=[
            Observed(subject=one.subject, level=one.level.word, text=one.message, remedy=str(one.remedy))
            for one in ([] if is_missing else _services(project, found))
        ],
    )


def _remarks(notes: Iterable[Notice]) -> list[Remark]:
    return [Remark(subject=note.subject, text=note.text, remedy=str(note.remedy)) for note in notes]


def _say_missing(project: Project, plan: Plan, screen: Screen) -> None:
    """The faults of all templates, then the missing root: until it is back, nothing else can be planned."""
    for fault in plan.template_faults():
        screen.failed("templates", fault.message, fault.hint)
    for note in forecast.notes(project, plan):
        screen.failed(note.subject, note.text, note.remedy)


@command
def show_status(context: Context, json: bool = False) -> None:
    """Every authority, certificate, CRL and host: its state, days left, what comes next and through whom.

    --json is for programs.
    """
    project, screen = project_as_it_is(context), Screen()
    found = pipeline_plan.plan(project)
    if json:
        rows = [
            StatusRow(name=row.name, state=row.state, days_left=row.left, next=row.next, by=row.by)
            for row in status_table.rows(project, found)
        ]
        notes, said = _remarks(forecast.notes(project, found)), project.inventory
        StatusOutput(
            at=project.now, organisation=said.organisation, sandbox=said.sandbox, rows=rows, actions_required=notes
        ).show()
        return
    title = f"{project.inventory.organisation}{' (sandbox)' if project.inventory.sandbox else ''}, {project.now:%Y-%m-%d %H:%M} UTC"
    columns = ("name", "state", "days left", "next", "by")
    screen.table(title, columns, [row.cells() for row in status_table.rows(project, found)])
    for note in forecast.notes(project, found):
        screen.note(note.subject, note.text, note.remedy)


@command
def renew(context: Context, name: str) -> None:
    """Renew a certificate now, with a new key unless pki.yaml says rekey: keep, and deliver it.

    NAME is a certificate, a client, a service, a host, or a DNS name.
    """
    with held_project_of(context) as project:
        leaves = pipeline_plan.plan(project).leaves
        leaf = leaves[Names(project.inventory, leaves).leaf(name, "renew")]
        project.clock.check()
        reason = Why.BY_HAND()
        if leaf.artifact in project.replacement_stopped:
            project.ledger.record_decision(leaf.artifact, "released", str(reason), project.now)
        certificates.issue(project, leaf, [reason])
    Screen().made(leaf.artifact, str(reason))
    run_doit(context)


@command_with(may_lack="of")
def schema(context: Context, of: str | None = None, output: str = "") -> None:
    """Write the JSON Schema of pki.yaml, for editors, or of what the command OF prints with --json, such as plan.

    It goes to standard output, or to --output FILE.
    """
    text = models.schema(known(of, models.MODELS, "output")) if of else loader.json_schema()
    if not output:
        print(text, end="")
        return
    path = path_of(context, output)
    if not _is_ours(filesystem.read(path)):
        raise PkiError(
            f"{output}: is there already, and is no JSON Schema that this program wrote",
            "take it away, or name another file: --output",
        )
    filesystem.write(path, text.encode())


def _is_ours(data: bytes | None) -> bool:
    """Return whether a file is a schema that this program wrote, which a newer one may replace, or is not there."""
    if data is None:
        return True
    try:
        tree = loads(data)
    except (ValueError, RecursionError):
        return False
    ours = [loads(one)["title"] for one in (loader.json_schema(), *map(models.schema, models.MODELS))]
    return isinstance(tree, dict) and "$schema" in tree and tree.get("title") in ours


def known(name: str, names: Iterable[str], what: str) -> str:
    known = sorted(names)
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
    raise PkiError(f"{name}: no such {what}", hint)


def run_doit(context: Context) -> None:
    """Let doit bring everything up to date that follows."""
    if code := Run(home_of(context), now_of(context), evidence_of(context)).main([]):
        raise Exit(code=code)
