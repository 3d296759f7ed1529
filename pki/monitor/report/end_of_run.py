"""The end of a run: health is looked at, and whoever should know is told, whatever failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from pki.common.cache import Cache
from pki.common.errors import ErrorCode, InventoryError, PkiError
from pki.config import loader
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.deploy.receipt import moment
from pki.monitor import probes
from pki.monitor.alerts import channels
from pki.monitor.alerts.channels import News, Telling
from pki.monitor.alerts.notification_history import Addresses, Record
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks import check_machine, check_services
from pki.monitor.checks.check_context import CheckContext, LastRun
from pki.monitor.probes import Probed
from pki.monitor.report import health_report
from pki.monitor.report.health_report import BROKEN
from pki.monitor.status_page import update_page
from pki.monitor.status_page.update_page import StatusPage
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.pipeline.reporter import Findings
from pki.project import layout
from pki.project.layout import Store
from pki.project.project import Project


class RunMonitor:
    """What a run calls at its end: `look` while the project is open, `tell` when nothing else can fail any more."""

    def __init__(self, project: Callable[[], Project], plan: Callable[[], Plan]) -> None:
        self._project = project
        self._plan = plan
        self._checks: list[Finding] = []
        self._probes: Sequence[Probed] = ()
        self._swept = False
        self._head = ""
        self._metrics: Mapping[str, str] = {}
        self._unmeasured: Exception | None = None
        self._page = StatusPage()

    def look(self, report: Mapping[str, Any], notes: Sequence[Notice]) -> None:
        """Look at the project as this run leaves it."""
        project, run = self._project(), LastRun.of(report)
        broken: Sequence[Finding] = ()
        hosts = _hosts(run, self._plan())
        if run.result == "interrupted" or hosts == frozenset():
            self._probes = probes.load(project)
        else:
            found, broken = health_report.sweep(project, self._plan(), hosts)
            self._probes = found if hosts is None else probes.merged(probes.load(project), found)
            self._swept = not broken
        self._checks = health_report.checks(project, self._plan(), run, notes, self._probes, broken, thorough=False)
        with suppress(PkiError):  # said by the look at the ledger
            self._head = check_machine.head(project)
        context = CheckContext(project, self._plan(), run, self._checks, self._probes, self._head)
        try:
            self._metrics = _metrics().looked(context)
        except Exception as error:  # noqa: BLE001 - it is said when they are to be written, and the page goes on
            self._unmeasured = error
        self._page.look(context)

    def leavings(self) -> Mapping[str, Callable[[Mapping[str, Any]], None]]:
        """What a run leaves for those who look later, whatever failed."""
        kept = {"what was seen of services": self._keep_probes} if self._swept else {}
        return {**kept, "metrics": self._leave_metrics, "the status page": self._write_page}

    def _keep_probes(self, _report: Mapping[str, Any]) -> None:
        project = self._project()
        probes.keep(project.store, self._probes, project.now)

    def _leave_metrics(self, report: Mapping[str, Any]) -> None:
        if self._unmeasured:
            raise self._unmeasured
        _metrics().leave(self._project(), self._plan(), self._metrics, report)

    def _write_page(self, report: Mapping[str, Any]) -> None:
        late = [*self._late(LastRun.of(report)), *self._unsent(report)]
        self._page.write(self._project().store, report, late)

    def _unsent(self, report: Mapping[str, Any]) -> Iterator[Finding]:
        """The channels that do not work, with what this very run heard of them; since when, an earlier one may have seen."""
        since = {check.subject: check.since for check in self._checks if check.level}
        for one in report["alerts"]:
            if one["error"]:
                subject, text = ArtifactId("alerts", one["channel"]), f"messages cannot be sent: {one['error']}"
                yield Finding(subject, Level.WARNING, text, one["hint"], since=since.get(subject))

    def tell(self, report: Mapping[str, Any]) -> list[dict[str, str]]:
        """Tell people; what became of each message, for the report. An interrupted run has seen too little to tell."""
        project, run = self._project(), LastRun.of(report)
        to = Addresses.of(project.inventory)
        if not to.are_there:
            _forget(project.store)
            return []
        if run.result == "interrupted":
            return []
        looked_at = _looked_at(run, self._checks, check_services.subjects(self._probes))
        news = News([*self._checks, *self._late(run)], looked_at, _summary(report), self._head)
        return [_entry(one) for one in channels.tell(project.store, to, news, project.now)]

    def findings(self, report: Mapping[str, Any]) -> Findings:
        """How many of what was found is critical or a warning, and whether it concerns what the run was asked for."""
        run = LastRun.of(report)
        found = [*self._checks, *self._late(run), *self._unsent(report)]
        critical = [one for one in found if one.level is Level.CRITICAL]
        warnings = {one.key for one in found if one.level is Level.WARNING}
        return Findings(len(critical), len(warnings), any(run.covers(one.artifact) for one in critical))

    def _late(self, run: LastRun) -> list[Finding]:
        """What went wrong after the look."""
        said = {check.subject for check in self._checks if check.level}
        return [
            Finding(name, Level.WARNING, failure.message, failure.hint, topic="run")
            for name, failure in run.failed.items()
            if name not in said and ArtifactId("deploy", name) not in said
            if not (failure.code is ErrorCode.EXPOSED and failure.about in said)
        ]


def _hosts(run: LastRun, plan: Plan) -> frozenset[str] | None:
    """The hosts whose services a run looks at: those that it was asked to deliver to; None for all."""
    if not run.asked:
        return None
    return frozenset(name for name in plan.deliveries if {"deploy", ArtifactId("deploy", name)} & run.asked)


def _looked_at(run: LastRun, checks: Sequence[Finding], unwell: Collection[str]) -> Callable[[str], bool]:
    """Whether a run would have found a check of a key again: its look was held, and its artifact asked for.

    Services are looked at by whole runs; those that are `unwell` may be told of by another check.
    """
    broken = {check.subject for check in checks if check.topic == BROKEN}

    def looked_at(key: str) -> bool:
        subject, _, topic = key.rpartition(" ")
        if topic == "services" and (run.asked or subject in unwell):
            return False
        is_artifact = topic in {"certificates", "crls", "hosts", "run"} and ":" in subject
        return topic not in broken and (not is_artifact or run.covers(subject))

    return looked_at


def nothing_was_run(
    home: Path, now: datetime, error: PkiError, said: Inventory | None = None, *, is_read: bool = False
) -> list[dict[str, str]]:
    """Say on the status page that pki.yaml, or what is read before anything is run, is wrong.

    Metrics say it too, and those whom pki.yaml names hear of it, or, where it cannot be read, those who were told last;
    unless somebody reads it at a terminal. What that leads
    to is known from the last good look: the first certificate or CRL that will end for it.
    """
    place = Store(home)
    faults = error.faults if isinstance(error, InventoryError) else [error.message]
    text = f"{faults[0]}{f', and {len(faults) - 1} more' if len(faults) > 1 else ''}"
    remedy = error.hint or "fix pki.yaml, then: ./run invoke plan"
    with suppress(PkiError):  # a disk that is full: what matters is said by the run itself
        update_page.nothing_was_run(place, now, text, remedy, is_new=said is not None)
    if is_read:
        return []
    unsaid = _unwritten(place, now)
    to = Addresses.of(said) if said else Record.load(place.notification_folder, now).addresses
    if to is None or not to.are_there:
        return unsaid
    ends = [
        datetime.fromtimestamp(one[1], UTC) for kind in ("cert", "crl") for one in Cache(home, now).findings_of(kind)
    ]
    wrong = health_report.unusable(error, min(ends, default=None))
    run = f"The run of {now:%Y-%m-%d %H:%M} UTC did nothing."
    news = News([wrong], lambda key: key == wrong.key, run, "")
    return unsaid + [_entry(one) for one in channels.tell(place, to, news, now)]


def _unwritten(place: Store, now: datetime) -> list[dict[str, str]]:
    """Say it in the metrics, wherever the last good pki.yaml wanted them; what kept that from being said."""
    said = [loader.parse_valid(tree) for tree in Cache(place.home, now).findings("pki.yaml")]
    textfile = next((one.metrics.textfile for one in said if one), None)
    try:
        _metrics().nothing_was_run(place, textfile, now)
    except PkiError as error:
        return [_entry(Telling("metrics", "", error))]
    return []


def _metrics() -> ModuleType:
    """Return the module that writes Prometheus' format: commands that write no metrics load none of it."""
    from pki.monitor.report import metrics_export  # noqa: PLC0415

    return metrics_export


def _forget(place: Store) -> None:
    """Nobody is to be told any more: not on the day either on which pki.yaml is wrong."""
    if (place.ca / layout.ALERTS).exists():
        (place.ca / layout.ALERTS).unlink()


def _entry(telling: Telling) -> dict[str, str]:
    error = telling.error
    return {
        "channel": telling.channel,
        "subject": telling.subject,
        "error": error.message if error else "",
        "hint": error.hint if error else "",
    }


def _summary(report: Mapping[str, Any]) -> str:
    counts = [(len(report[key]), key) for key in ("changed", "failed", "blocked")]
    counts += [(report["up_to_date"], "up to date")]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"The run of {moment(report['at']):%Y-%m-%d %H:%M} UTC: {said}."
