"""What happens at the end of a run, also after failures: checks, alerts, metrics and the status page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pki.common.cache import Cache
from pki.common.errors import ErrorCode, InventoryError, PkiError
from pki.common.notice import Notice
from pki.common.timestamps import moment
from pki.config import loader
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.monitor import probes
from pki.monitor.alerts import channels
from pki.monitor.alerts.channels import RunFindings, SentMessage
from pki.monitor.alerts.notification_history import Addresses, NotificationHistory
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import check_machine, check_services
from pki.monitor.checks.check_context import CheckedProject, LastRun
from pki.monitor.probes import ProbeResult
from pki.monitor.report import health_report
from pki.monitor.report.health_report import BROKEN
from pki.monitor.status_page import update_page
from pki.monitor.status_page.update_page import StatusPage
from pki.pipeline.plan import Plan
from pki.pipeline.reporter import FindingCounts, count_tasks
from pki.project import layout
from pki.project.layout import Store
from pki.project.project import Project


class RunMonitor:
    """Check the project at the end of a run, then send alerts and write the reports.

    The reporter calls `check` while the project is open, and `send_alerts`, `writers` and `findings` after it was closed.
    """

    def __init__(self, project: Callable[[], Project], plan: Callable[[], Plan]) -> None:
        self._project = project
        self._plan = plan
        self._findings: list[Finding] = []
        self._probes: Sequence[ProbeResult] = ()
        self._is_probed = False
        self._head = ""
        self._metrics: Mapping[str, str] = {}
        self._metrics_error: Exception | None = None
        self._page = StatusPage()

    def check(self, report: Mapping[str, Any], actions_required: Sequence[Notice]) -> None:
        """Run all checks on the project as this run leaves it, and collect what the reports need."""
        project, run = self._project(), LastRun.of(report)
        broken: Sequence[Finding] = ()
        hosts = _hosts_to_probe(run, self._plan())
        stored = probes.load(project.inventory, project.store)
        if run.result == "interrupted" or hosts == frozenset():
            self._probes = stored
        else:
            results, broken = health_report.probe_all(project.store, project.now, self._plan(), hosts)
            self._probes = results if hosts is None else probes.merge(stored, results)
            self._is_probed = not broken
        self._findings = health_report.run_checks(
            project, self._plan(), run, actions_required, self._probes, broken, thorough=False
        )
        with suppress(PkiError):  # the ledger check reports it
            self._head = check_machine.ledger_head(project.ledger_view)
        checked_project = CheckedProject(project, self._plan(), run, self._findings, self._probes, self._head)
        try:
            from pki.monitor.report import metrics_export  # noqa: PLC0415 - loads prometheus_client, which most commands do not need

            self._metrics = metrics_export.collect(checked_project)
        except Exception as error:  # noqa: BLE001 - reported when the metrics are written; the page is still made
            self._metrics_error = error
        self._page.collect(checked_project)

    def writers(self) -> Mapping[str, Callable[[Mapping[str, Any]], None]]:
        """Return the writers of the reports by name; the reporter calls each of them, whatever failed before."""
        probes = {"probe results": self._save_probes} if self._is_probed else {}
        return {**probes, "metrics": self._write_metrics, "the status page": self._write_page}

    def _save_probes(self, _report: Mapping[str, Any]) -> None:
        project = self._project()
        probes.save(project.store, self._probes, project.now)

    def _write_metrics(self, report: Mapping[str, Any]) -> None:
        if self._metrics_error:
            raise self._metrics_error
        project = self._project()
        from pki.monitor.report import metrics_export  # noqa: PLC0415 - loads prometheus_client, which most commands do not need

        metrics_export.write(project.inventory, project.store, project.now, self._plan(), self._metrics, report)

    def _write_page(self, report: Mapping[str, Any]) -> None:
        later_findings = [*self._later_failures(LastRun.of(report)), *self._unsent(report)]
        self._page.write(self._project().store, report, later_findings)

    def _unsent(self, report: Mapping[str, Any]) -> Iterator[Finding]:
        """Yield a warning for each channel that failed in this run; the earlier check knows since when."""
        since = {finding.subject: finding.since for finding in self._findings if finding.level}
        for alert in report["alerts"]:
            if alert["error"]:
                subject, text = ArtifactId("alerts", alert["channel"]), f"messages cannot be sent: {alert['error']}"
                yield Finding(subject, Level.WARNING, text, alert["hint"], since=since.get(subject))

    def send_alerts(self, report: Mapping[str, Any]) -> list[dict[str, str]]:
        """Send alerts and return one entry for each message, for the report.

        An interrupted run sends none: it checked too little.
        """
        project, run = self._project(), LastRun.of(report)
        addresses = Addresses.of(project.inventory)
        if not addresses.any_configured:
            _forget(project.store)
            return []
        if run.result == "interrupted":
            return []
        is_checked = _is_checked(run, self._findings, check_services.failing_subjects(self._probes))
        findings = RunFindings([*self._findings, *self._later_failures(run)], is_checked, _summary(report), self._head)
        return [_entry(message) for message in channels.send_alerts(project.store, addresses, findings, project.now)]

    def findings(self, report: Mapping[str, Any]) -> FindingCounts:
        """Count critical findings and warnings.

        Tells whether a critical finding affects a requested task, and how many findings report a failed task.
        """
        run = LastRun.of(report)
        findings = [*self._findings, *self._later_failures(run), *self._unsent(report)]
        critical = [finding for finding in findings if finding.level is Level.CRITICAL]
        warnings = {finding.key for finding in findings if finding.level is Level.WARNING}
        culprits = {*run.failed, *(failure.about for failure in run.failed.values() if failure.about)}
        of_failed_tasks = [
            finding for finding in findings if finding.level >= Level.WARNING and finding.subject in culprits
        ]
        return FindingCounts(
            len(critical),
            len(warnings),
            is_failure=any(run.covers(finding.artifact) for finding in critical),
            of_failed_tasks=len({finding.key for finding in of_failed_tasks}),
        )

    def _later_failures(self, run: LastRun) -> list[Finding]:
        """Return findings for failures that came after the checks, such as a page that could not be written."""
        reported = {finding.subject for finding in self._findings if finding.level}
        return [
            Finding(name, Level.WARNING, failure.message, failure.hint, topic="run")
            for name, failure in run.failed.items()
            if name not in reported and ArtifactId("deploy", name) not in reported
            if failure.code is not ErrorCode.AWAITS_CEREMONY  # check_ceremonies reports it
            if not (failure.code is ErrorCode.EXPOSED and failure.about in reported)
        ]


def _hosts_to_probe(run: LastRun, plan: Plan) -> frozenset[str] | None:
    """Return the hosts whose services this run probes: those of its requested deliveries, or None for all."""
    if not run.requested:
        return None
    return frozenset(name for name in plan.deliveries if {"deploy", ArtifactId("deploy", name)} & run.requested)


def _is_checked(run: LastRun, findings: Sequence[Finding], failing: Collection[str]) -> Callable[[str], bool]:
    """Return a function that returns whether this run would have reported the finding with a key again.

    The function returns False if the check failed, or if its artifact was not requested. Services count as checked only in
    a run without requested tasks, and never if their subject is in `failing`: another check may report their fault now.
    """
    broken = {finding.subject for finding in findings if finding.topic == BROKEN}

    def is_checked(key: str) -> bool:
        subject, _, topic = key.rpartition(" ")
        if topic == "services" and (run.requested or subject in failing):
            return False
        is_artifact = topic in {"certificates", "crls", "hosts", "run"} and ":" in subject
        return topic not in broken and (not is_artifact or run.covers(subject))

    return is_checked


def nothing_was_run(
    home: Path, now: datetime, error: PkiError, config: Inventory | None = None, *, is_read: bool = False
) -> list[dict[str, str]]:
    """Report on the status page, in the metrics and by alert that nothing was run, for example because pki.yaml is invalid.

    `config` is the valid configuration if another file is the cause; without it, the alerts go to the stored addresses.
    `is_read` means that the error is shown at a terminal: then no alert is sent. The deadline of the finding is the first
    expiry of a certificate or CRL that the last successful run cached. Returns one entry for each message.
    """
    store = Store(home)
    faults = error.faults if isinstance(error, InventoryError) else [error.message]
    text = f"{faults[0]}{f', and {len(faults) - 1} more' if len(faults) > 1 else ''}"
    remedy = error.hint or "fix pki.yaml, then: ./run invoke plan"
    with suppress(PkiError):  # for example on a full disk: the error of the run matters more
        update_page.nothing_was_run(store, now, text, remedy, is_new=config is not None)
    if is_read:
        return []
    metrics_errors = _mark_metrics_invalid(store, now)
    addresses = Addresses.of(config) if config else NotificationHistory.load(store.notification_folder, now).addresses
    if addresses is None or not addresses.any_configured:
        return metrics_errors
    expiries = [
        datetime.fromtimestamp(not_after, UTC)
        for kind in ("cert", "crl")
        for _, not_after, *_ in Cache(home, now).findings_of(kind)
    ]
    finding = health_report.unusable_project(error, min(expiries, default=None))
    run = f"The run of {now:%Y-%m-%d %H:%M} UTC did nothing."
    findings = RunFindings([finding], lambda key: key == finding.key, run, "")
    return metrics_errors + [_entry(row) for row in channels.send_alerts(store, addresses, findings, now)]


def _mark_metrics_invalid(store: Store, now: datetime) -> list[dict[str, str]]:
    """Set the metric `inventory_valid` to 0 in the files that the last valid pki.yaml names; return an entry if that failed."""
    configs = [loader.parse_valid(tree) for tree in Cache(store.home, now).findings("pki.yaml")]
    textfile = next((config.metrics.textfile for config in configs if config), None)
    try:
        from pki.monitor.report import metrics_export  # noqa: PLC0415 - loads prometheus_client, which most commands do not need

        metrics_export.nothing_was_run(store, textfile, now)
    except PkiError as error:
        return [_entry(SentMessage("metrics", "", error))]
    return []


def _forget(store: Store) -> None:
    """Delete the notification history: alerts were removed from pki.yaml, so its addresses must not be used later either."""
    if (store.ca / layout.ALERTS).exists():
        (store.ca / layout.ALERTS).unlink()


def _entry(message: SentMessage) -> dict[str, str]:
    """Return a sent message as the run report stores it."""
    error = message.error
    return {
        "channel": message.channel,
        "subject": message.subject,
        "error": error.message if error else "",
        "hint": error.hint if error else "",
    }


def _summary(report: Mapping[str, Any]) -> str:
    """Return one sentence about the run for the mail: its time, and the counts of its tasks."""
    changed, failed, blocked = (len(report[key]) for key in ("changed", "failed", "blocked"))
    counts = count_tasks(changed, failed, blocked, report["up_to_date"])
    return f"Last run: {moment(report['at']):%Y-%m-%d %H:%M} UTC, {counts}."
