"""The command health."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.decorator import command, now_of, project_as_it_is
from pki.cli.json_output import Check, HealthOutput
from pki.common.errors import InventoryError, PkiError
from pki.common.terminal import Screen
from pki.config.fields import SANDBOX
from pki.monitor import probes as probing
from pki.monitor.check_result import STATUS, Finding, Level, count_by_level, worst_level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.probes import ProbeResult
from pki.monitor.report import health_report
from pki.pipeline import plan as pipeline_plan
from pki.project.layout import Store


@command
def show_health(context: Context, json: bool = False) -> None:
    """Check the whole project; show every finding, worst first, with the command that fixes it. Changes nothing.

    The results for services are cached, and shown by plan and status. --json is for programs.
    """
    try:
        project = project_as_it_is(context)
        project.cache.read_all()
        plan = pipeline_plan.plan(project)
        probes, broken = health_report.probe_all(project.store, project.now, plan)
        if not broken:
            broken = _cache_probes(project.store, project.now, probes)
        findings = health_report.run_checks(project, plan, LastRun.load(project.store), probes=probes, broken=broken)
    except PkiError as error:
        if json:
            _print_json(now_of(context), [health_report.unusable_project(error)])
            raise Exit(code=1) from None
        if isinstance(error, InventoryError):
            remedy = str(health_report.unusable_project(error).remedy)
            raise PkiError(str(error), remedy) from None  # 1, because 3 is a warning here
        raise
    project.ledger_view.close()
    if json:
        _print_json(project.now, findings)
    else:
        _print(findings, project.now, is_sandbox=project.inventory.sandbox)
    if status := _status(findings):
        raise Exit(code=status)


def _cache_probes(store: Store, now: datetime, probes: Sequence[ProbeResult]) -> Sequence[Finding]:
    """Cache the results for services; return a finding if they cannot be written."""
    try:
        probing.save(store, probes, now)
    except PkiError as error:
        text = f"the results for services cannot be cached for later commands: {error.message}"
        return (Finding("build/report", Level.NOTICE, text, error.hint, topic="services"),)
    return ()


def _status(findings: list[Finding]) -> int:
    """Return the exit status. A check that failed gives 1, except beside a critical finding, which matters more."""
    is_incomplete = any(finding.topic == health_report.BROKEN for finding in findings)
    return 1 if is_incomplete and worst_level(findings) < Level.CRITICAL else STATUS[worst_level(findings)]


def _print_json(now: datetime, findings: list[Finding]) -> None:
    checks = [Check(**finding.as_json()) for finding in findings]
    HealthOutput(at=now, worst=worst_level(findings).word, checks=checks).show()


def _print(findings: list[Finding], now: datetime, *, is_sandbox: bool) -> None:
    screen = Screen()
    for finding in findings:
        is_earlier = finding.since and finding.since.date() < now.date()
        when = [f"since {finding.since:%Y-%m-%d}"] if finding.since and is_earlier else []
        when += [f"deadline {finding.until:%Y-%m-%d}"] if finding.until and finding.until > now else []
        screen.check(finding.level.word, finding.subject, finding.message, ", ".join(when), str(finding.remedy))
    prefix = f"{SANDBOX}  " if is_sandbox else ""
    screen.line(f"{prefix}{count_by_level(findings) or 'all OK'}")
