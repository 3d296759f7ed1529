"""All checks of `invoke health`. Each check runs on its own, so that an error in one check does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pki.common.counts import counted
from pki.common.errors import ErrorCode, InventoryError, PkiError
from pki.common.notice import Notice
from pki.config.identifiers import ArtifactId
from pki.monitor import forecast
from pki.monitor import probes as probing
from pki.monitor.alerts import channels
from pki.monitor.alerts.notification_history import NotificationHistory
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import (
    check_authorities,
    check_certificates,
    check_files,
    check_hosts,
    check_machine,
    check_services,
)
from pki.monitor.checks.check_context import CheckContext, LastRun
from pki.monitor.external_authorities import ExternalAuthorities
from pki.monitor.probes import ProbeResult
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.project import Project

Check = Callable[[CheckContext], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "roots": check_authorities.check_roots,
    "authorities": check_authorities.check_authorities,
    "external authorities": lambda context: ExternalAuthorities(context.project).findings(),
    "ceremonies": check_authorities.check_ceremonies,
    "keys": check_authorities.check_keys,
    "crls": check_authorities.check_crls,
    "sizes": check_authorities.check_crl_sizes,
    "certificates": check_certificates.check_leaves,
    "files": check_files.check_files,
    "templates": check_files.check_templates,
    "hosts": check_hosts.check_hosts,
    "services": check_services.check_services,
    "ledger": check_machine.check_ledger,
    "clock": check_machine.check_clock,
    "backup": check_machine.check_backup,
    "permissions": check_machine.check_permissions,
    "project": check_machine.check_project,
    "disk": check_machine.check_disk,
    "metrics": check_machine.check_textfile,
    "alerts": lambda context: channels.check_channels(context.history),
}
WITHOUT_ROOT = {name: CHECKS[name] for name in ("roots", "permissions", "project", "disk", "metrics", "alerts")}
BEFORE_FIRST_CEREMONY = {
    name: CHECKS[name]
    for name in ("ceremonies", "templates", "ledger", "clock", "permissions", "project", "disk", "metrics", "alerts")
}
BROKEN = "broken"  # the topic of a check that failed with an error
OVERDUE = timedelta(days=2)  # without a run


def run_checks(
    project: Project,
    plan: Plan,
    run: LastRun,
    notes: Sequence[Notice] | None = None,
    probes: Sequence[ProbeResult] = (),
    broken: Sequence[Finding] = (),
    *,
    thorough: bool = True,
) -> list[Finding]:
    """Run every check that applies to the project and return the findings, worst first; change nothing.

    - `run` is the report of the last run (`LastRun.load`).
    - `notes` are the required actions, if the caller has them already.
    - `probes` and `broken` are the results of `probe_all`.
    - `thorough` also decrypts keys, verifies the whole ledger, and reports when the last run was. A run that is just
      ending leaves that out.
    """
    findings = list(broken)
    if notes is None:
        try:
            notes = list(forecast.required_actions(project, plan))
        except Exception as error:  # noqa: BLE001 - as in _run_check
            notes = ()
            findings.append(_broken("notes", error))
    context = CheckContext(
        project, plan, run, notes, NotificationHistory.load(project.store.ca, project.now), probes, thorough
    )
    for topic, check in _checks(project).items():
        findings += _run_check(topic, check, context)
    # these two come last: they report only what no finding so far has reported
    findings += _run_check("notes", lambda context: _notes(context, findings), context)
    findings += _run_check("run", lambda context: _rest_of_run(context, findings), context)
    return sorted((_dated(finding, context.history) for finding in findings), key=lambda finding: -finding.level)


def _checks(project: Project) -> Mapping[str, Check]:
    """Return the checks for a project. Without a root, the other checks would only report the consequences of that."""
    if project.roots.missing:
        return WITHOUT_ROOT
    return BEFORE_FIRST_CEREMONY if project.roots.awaits_first_ceremony else CHECKS


def unusable_project(error: PkiError, until: datetime | None = None) -> Finding:
    """Return the finding for a project that no run can open: pki.yaml, or another file that every run reads, is invalid.

    `until` is when the first certificate or CRL expires if that stays so.
    """
    if isinstance(error, InventoryError):
        more = f", and {len(error.faults) - 1} more" if len(error.faults) > 1 else ""
        text = f"is invalid; nothing is run or renewed: {error.faults[0]}{more}"
        return Finding(
            "pki.yaml", Level.CRITICAL, text, "fix pki.yaml, then: ./run invoke plan", until=until, topic="run"
        )
    text = f"cannot run; nothing is renewed: {error.message}"
    return Finding("doit", Level.CRITICAL, text, error.hint or "./run invoke plan", until=until, topic="run")


def probe_all(
    store: Store, now: datetime, plan: Plan, hosts: Container[str] | None = None
) -> tuple[Sequence[ProbeResult], Sequence[Finding]]:
    """Probe the services of all hosts, or of `hosts`.

    Returns the results; if probing itself fails, no results and a finding that reports the failure.
    """
    try:
        return probing.probe_services(store, now, plan, hosts), ()
    except Exception as error:  # noqa: BLE001 - as with every other check
        return (), (_broken("services", error),)


def _dated(finding: Finding, history: NotificationHistory) -> Finding:
    """Return the finding with the date of its first notification, if the check itself gives no date."""
    needs_date = finding.level and finding.since is None and not finding.is_over
    since = history.since(finding.key) if needs_date else None
    return replace(finding, since=since) if since else finding


def _run_check(topic: str, check: Check, context: CheckContext) -> list[Finding]:
    """Return the findings of one check, and a finding about the error if the check fails midway."""
    findings = list[Finding]()
    try:
        for finding in check(context):
            findings.append(replace(finding, topic=topic))
    except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the others
        findings.append(_broken(topic, error))
    return findings


def _broken(topic: str, error: Exception) -> Finding:
    """Return the finding that a check failed with an error."""
    what, remedy = (error.message, error.hint) if isinstance(error, PkiError) else (repr(error), "")
    text = f"could not check {topic}: {what}"
    return Finding(topic, Level.WARNING, text, remedy or "./run invoke health", topic=BROKEN)


def _notes(context: CheckContext, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield required actions that no other check has reported.

    A check that reports a required action (such as that a host is pinned) gives its finding the same subject and text.
    """
    reported_actions = {(finding.subject, finding.message) for finding in findings}
    for note in context.notes:
        is_ceremony = note.subject == "ceremony"  # check_ceremonies reports it, with its deadline
        if not is_ceremony and (note.subject, note.text) not in reported_actions:
            yield Finding(note.subject, Level.NOTICE, note.text, note.remedy)


def _rest_of_run(context: CheckContext, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield failures of the last run that no other check has reported, and whether runs still happen."""
    reported_subjects = {finding.subject for finding in findings if finding.level}
    run = context.run
    for name, failure in run.failed.items():
        is_awaited = failure.code is ErrorCode.AWAITS_CEREMONY  # check_ceremonies reports it
        # of a secret file that others can read, check_permissions reports the file, not the task that refused it
        is_exposed_file = failure.code is ErrorCode.EXPOSED and failure.about in reported_subjects
        if not (is_awaited or is_exposed_file or name in reported_subjects):
            consequence = _consequence(context, ArtifactId.parse(name))
            yield Finding(name, Level.WARNING, failure.message, failure.hint or "./run doit", consequence=consequence)
    if not context.thorough:
        return
    if run.is_damaged:
        text = "build/report/status.json is damaged: what the last run did is unknown"
        yield Finding("doit", Level.NOTICE, text, "./run doit")
    elif run.at is None:
        yield Finding("doit", Level.NOTICE, "has not run yet", "./run doit")
    elif abs(context.now - run.at) > OVERDUE:  # a run in the future does not show that runs happen now
        text = f"last ran on {run.at:%Y-%m-%d}: is its cron job or timer still there?"
        remedy = "./run doit; then look for its line or timer: crontab -l; systemctl list-timers"
        yield Finding("doit", Level.WARNING, text, remedy, since=run.at)
    else:
        yield _run_on_time(run.at, run)


def _consequence(context: CheckContext, artifact: ArtifactId) -> str:
    """Return what the failure of a release means for its host; "" for other artifacts."""
    if artifact.kind != "release" or artifact.name not in context.plan.deliveries:
        return ""
    receipt = context.plan.deliveries[artifact.name].records.receipt
    if receipt is None:
        return f"{artifact.name} gets no files until this is solved"
    expiry = (
        f"; the first certificate or CRL on it expires on {receipt.first_expiry[:10]}" if receipt.first_expiry else ""
    )
    return f"{artifact.name} keeps its present files{expiry}"


def _run_on_time(at: datetime, run: LastRun) -> Finding:
    """Return the finding about a run that was not long ago. A task that waits for the first ceremony has not failed."""
    moment = f"{at:%Y-%m-%d %H:%M} UTC"
    if run.result == "interrupted":
        return Finding("doit", Level.NOTICE, f"the last run, on {moment}, was interrupted", "./run doit")
    count = sum(failure.code is not ErrorCode.AWAITS_CEREMONY for failure in run.failed.values())
    failures = f", with {counted(count, 'failure')}, reported above" if count else ""
    return Finding("doit", Level.OK, f"ran on time, on {moment}{failures}")
