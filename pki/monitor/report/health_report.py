"""Whether all is well: every look at the project, each on its own, so that one that breaks hides no other."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pki.common.errors import ErrorCode, InventoryError, PkiError
from pki.monitor import forecast
from pki.monitor import probes as probing
from pki.monitor.alerts import channels
from pki.monitor.alerts.notification_history import Record
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import (
    check_authorities,
    check_certificates,
    check_files,
    check_hosts,
    check_machine,
    check_services,
)
from pki.monitor.checks.check_context import LastRun, View
from pki.monitor.probes import Probed
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project

Look = Callable[[View], Iterator[Finding]]
CHECKS: dict[str, Look] = {
    "roots": check_authorities.roots,
    "authorities": check_authorities.authorities,
    "ceremonies": check_authorities.ceremonies,
    "keys": check_authorities.keys,
    "crls": check_authorities.crls,
    "sizes": check_authorities.sizes,
    "certificates": check_certificates.leaves,
    "files": check_files.files,
    "hosts": check_hosts.hosts,
    "services": check_services.services,
    "ledger": check_machine.ledger,
    "clock": check_machine.clock,
    "backup": check_machine.backup,
    "permissions": check_machine.permissions,
    "project": check_machine.project,
    "disk": check_machine.disk,
    "metrics": check_machine.textfile,
    "alerts": lambda view: channels.checks(view.record),
}
WITHOUT_ROOT = {name: CHECKS[name] for name in ("roots", "permissions", "project", "disk", "metrics", "alerts")}
BROKEN = "broken"  # the topic of a look that could not be held
SILENCE = timedelta(days=2)


def checks(
    project: Project,
    plan: Plan,
    run: LastRun,
    notes: Sequence[Notice] | None = None,
    probes: Sequence[Probed] = (),
    broken: Sequence[Finding] = (),
    *,
    thorough: bool = True,
) -> list[Finding]:
    """Everything that there is to say of a project, worst first; changes nothing.

    `run` is what the last run said of itself (`LastRun.load`), `notes` what needs a person, where that was asked for
    already, `probes` and `broken` what `sweep` found. `thorough` also opens keys and verifies the whole ledger.
    """
    found = list(broken)
    if notes is None:
        try:
            notes = list(forecast.notes(project, plan))
        except Exception as error:  # noqa: BLE001 - as below
            notes = ()
            found.append(_broken("notes", error))
    view = View(project, plan, run, notes, Record.load(project.store.ca, project.now), probes, thorough)
    for topic, look in CHECKS.items() if not project.missing_roots else WITHOUT_ROOT.items():
        found += _held(topic, look, view)
    found += _held("notes", lambda view: _notes(view, found), view)
    found += _held("run", lambda view: _rest_of_run(view, found), view)
    return sorted((_dated(check, view.record) for check in found), key=lambda check: -check.level)


def unusable(error: PkiError, until: datetime | None = None) -> Finding:
    """What there is to say of a project that no run can open: pki.yaml is wrong, or something that each of them reads."""
    if isinstance(error, InventoryError):
        more = f", and {len(error.faults) - 1} more" if len(error.faults) > 1 else ""
        text = f"is wrong, and nothing is run or renewed: {error.faults[0]}{more}"
        return Finding(
            "pki.yaml", Level.CRITICAL, text, "fix pki.yaml, then: ./run invoke plan", until=until, topic="run"
        )
    text = f"cannot run, and nothing is renewed: {error.message}"
    return Finding("doit", Level.CRITICAL, text, error.hint or "./run invoke plan", until=until, topic="run")


def sweep(
    project: Project, plan: Plan, hosts: Container[str] | None = None
) -> tuple[Sequence[Probed], Sequence[Finding]]:
    """What is seen of every service, or of those of some hosts; where the look itself breaks, nothing, and a check that says so."""
    try:
        return probing.sweep(project, plan, hosts), ()
    except Exception as error:  # noqa: BLE001 - as with every other look
        return (), (_broken("services", error),)


def _dated(check: Finding, record: Record) -> Finding:
    """A check with the day since which it is so, where only those who were told of it know."""
    since = record.since(check.key) if check.level and check.since is None and not check.passing else None
    return replace(check, since=since) if since else check


def _held(topic: str, look: Look, view: View) -> list[Finding]:
    """What a look found, up to where it broke."""
    found = list[Finding]()
    try:
        for check in look(view):
            found.append(replace(check, topic=topic))
    except Exception as error:  # noqa: BLE001 - a bug in one look must not hide what the others see
        found.append(_broken(topic, error))
    return found


def _broken(topic: str, error: Exception) -> Finding:
    what, remedy = (error.message, error.hint) if isinstance(error, PkiError) else (repr(error), "")
    text = f"could not check {topic}: {what}"
    return Finding(topic, Level.WARNING, text, remedy or "./run invoke health", topic=BROKEN)


def _notes(view: View, found: Sequence[Finding]) -> Iterator[Finding]:
    """What needs a person and is not said yet."""
    said = {(check.subject, check.message) for check in found}
    for note in view.notes:
        if note.subject != "ceremony" and (note.subject, note.text) not in said:
            yield Finding(note.subject, Level.NOTICE, note.text, note.remedy)


def _rest_of_run(view: View, found: Sequence[Finding]) -> Iterator[Finding]:
    """What the last run failed at and nobody has spoken of, and whether runs still come."""
    said = {check.subject for check in found if check.level}
    run = view.run
    for name, failure in run.failed.items():
        if name not in said and not (failure.code is ErrorCode.EXPOSED and failure.about in said):
            yield Finding(name, Level.WARNING, failure.message, failure.hint or "./run doit")
    if not view.thorough:
        return
    if run.is_damaged:
        text = "build/report/status.json is damaged: what the last run did is unknown"
        yield Finding("doit", Level.NOTICE, text, "./run doit")
    elif run.at is None:
        yield Finding("doit", Level.NOTICE, "has not run yet", "./run doit")
    elif abs(view.now - run.at) > SILENCE:
        text = f"last ran on {run.at:%Y-%m-%d}: is its cron job or timer still there?"
        yield Finding("doit", Level.WARNING, text, "./run doit, and look at crontab -l", since=run.at)
    else:
        yield Finding("doit", Level.OK, f"ran on {run.at:%Y-%m-%d %H:%M}, {run.result}")
