"""Whether all is well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.decorator import command, now_of, project_as_it_is
from pki.cli.json_output import Check, HealthOutput
from pki.common.errors import InventoryError, PkiError
from pki.common.terminal import Screen
from pki.monitor import probes as probing
from pki.monitor.check_result import Finding, Level, worst
from pki.monitor.checks.check_context import LastRun
from pki.monitor.probes import Probed
from pki.monitor.report import health_report
from pki.pipeline import plan as pipeline_plan
from pki.project.project import Project

STATUS = {Level.OK: 0, Level.NOTICE: 2, Level.WARNING: 3, Level.CRITICAL: 4}


@command
def check(context: Context, json: bool = False) -> None:
    """Whether all is well, worst first, each with the command that fixes it. Changes nothing; --json for programs.

    What it sees of services is known to the commands that follow.

    Exit status 0: all is well, 1: something could not be checked, 2: notice, 3: warning, 4: critical.
    """
    try:
        project = project_as_it_is(context)
        project.cache.read_all()
        plan = pipeline_plan.plan(project)
        probes, broken = health_report.sweep(project, plan)
        if not broken:
            broken = _kept(project, probes)
        found = health_report.checks(project, plan, LastRun.load(project.store), probes=probes, broken=broken)
    except PkiError as error:
        if json:
            _print_json(now_of(context), [health_report.unusable(error)])
            raise Exit(code=1) from None
        if isinstance(error, InventoryError):
            remedy = str(health_report.unusable(error).remedy)
            raise PkiError(str(error), remedy) from None  # 1, because 3 is a warning here
        raise
    if "ledger" in vars(project):
        project.ledger.close()
    if json:
        _print_json(project.now, found)
    else:
        _print(found)
    if status := _status(found):
        raise Exit(code=status)


def _kept(project: Project, probes: Sequence[Probed]) -> Sequence[Finding]:
    """Keep what was seen of services; where nothing can be written, it is told all the same, and that it is not kept."""
    try:
        probing.keep(project.store, probes, project.now)
    except PkiError as error:
        text = f"what this look saw of services is not kept for the commands that follow: {error.message}"
        return (Finding("build/report", Level.NOTICE, text, error.hint, topic="services"),)
    return ()


def _status(found: list[Finding]) -> int:
    is_broken = any(one.topic == health_report.BROKEN for one in found)
    return 1 if is_broken and worst(found) < Level.CRITICAL else STATUS[worst(found)]


def _print_json(now: datetime, found: list[Finding]) -> None:
    HealthOutput(at=now, worst=worst(found).word, checks=[Check(**one.as_json()) for one in found]).show()


def _print(found: list[Finding]) -> None:
    screen = Screen()
    for one in found:
        when = [f"since {one.since:%Y-%m-%d}"] if one.since else []
        when += [f"until {one.until:%Y-%m-%d}"] if one.until else []
        screen.check(one.level.word, one.subject, one.message, ", ".join(when), str(one.remedy))
    count = sum(1 for one in found if one.level)
    screen.line(
        f"{count} {'findings require' if count > 1 else 'finding requires'} attention" if count else "all is well"
    )
