"""Metrics in Prometheus' text format: `build/report/pki.prom`, and the textfile that node_exporter reads.

A metric that a run does not collect keeps its last value: a run for some tasks only, or one that could not check the
project, resets nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pki import __version__
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.errors import PkiError
from pki.common.timestamps import moment
from pki.common.visible import visible_line
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory
from pki.monitor.alerts.notification_history import NotificationHistory
from pki.monitor.checks import check_machine
from pki.monitor.checks.check_context import CheckedProject
from pki.monitor.report import metrics_collect
from pki.monitor.report.metric_definitions import METRICS, PREFIX
from pki.monitor.report.metrics_collect import Labels, Samples
from pki.pipeline.plan import Plan
from pki.project.layout import Store

FILE = "pki.prom"
HEAD = re.compile(rf"^# HELP {PREFIX}(\w+) ", re.MULTILINE)
Blocks = dict[str, str]  # the lines of each metric, by its name without the prefix


def collect(context: CheckedProject) -> Blocks:
    """Return the metrics of the project. The lines of the certificates, which are most, are cached as text."""
    samples, cache = metrics_collect.certificates(context), context.project.cache
    home = context.project.store.home
    key = digest_of(METRICS, str(home), samples)
    text = cache.cached("metrics certificates", key, [], lambda: render(home, samples))
    return blocks(text) | blocks(render(home, metrics_collect.samples_of_project(context)))


def write(
    inventory: Inventory,
    store: Store,
    now: datetime,
    plan: Plan,
    collected: Mapping[str, str],
    report: Mapping[str, Any],
) -> None:
    """Write the collected metrics and those of the run itself. Raises PkiError if one of the two files cannot be written."""
    history = NotificationHistory.load(store.ca, now)
    samples_of_run: Samples = {"build_info": {(__version__,): 1}, **_of_run(plan, report), **_of_channels(history)}
    lines = {**collected, **blocks(render(store.home, samples_of_run))}
    if not lines.keys() >= METRICS.keys():  # a metric that this run did not collect keeps its last value
        lines = blocks((filesystem.read(store.report(FILE)) or b"").decode(errors="replace")) | lines
    _write(store, inventory.metrics.textfile, lines)


def nothing_was_run(store: Store, textfile: str | None, now: datetime) -> None:
    """Set `inventory_valid` to 0 in the metrics of the last run, whose other values are still true."""
    last_metrics = filesystem.read(store.report(FILE))
    if last_metrics is not None:
        samples: Samples = {"metrics_timestamp_seconds": {(): now.timestamp()}, "inventory_valid": {(): 0}}
        _write(store, textfile, blocks(last_metrics.decode(errors="replace")) | blocks(render(store.home, samples)))


def _write(store: Store, textfile: str | None, lines: Mapping[str, str]) -> None:
    """Write both files; a failure of the first does not prevent the second."""
    data = "".join(lines[name] for name in METRICS if name in lines).encode()
    errors = [_write_fault(store.report(FILE), data)]
    if textfile:
        fault = check_machine.textfile_fault(textfile)  # no folder is created: node_exporter would not read it
        errors.append(PkiError(*fault) if fault else _write_fault(Path(textfile), data))
    if faults := [error for error in errors if error]:
        raise PkiError("; ".join(error.message for error in faults), faults[-1].hint)


def _write_fault(path: Path, data: bytes) -> PkiError | None:
    """Write a file; return the error if that fails."""
    try:
        filesystem.write(path, data)
    except PkiError as error:
        return error
    return None


# -- the run ----------------------------------------------------------------------------------------------------------


def _of_run(plan: Plan, report: Mapping[str, Any]) -> Samples:
    """Return the metrics of the run itself; of a run for some tasks, only its time."""
    at = moment(report["at"]).timestamp()
    samples: Samples = {"metrics_timestamp_seconds": {(): at}, "inventory_valid": {(): 1}}
    if report["requested"]:
        return samples
    is_well = report["result"] == "ok"
    return {
        **samples,
        "last_run_timestamp_seconds": {(): at},
        **({"last_success_timestamp_seconds": {(): at}} if is_well else {}),
        "last_run_success": {(): is_well},
        "last_run_duration_seconds": {(): report["seconds"]},
        "last_run_tasks": _tasks(plan, report),
    }


def _tasks(plan: Plan, report: Mapping[str, Any]) -> dict[Labels, float]:
    """Count the tasks of each group by result; failures outside tasks count as the group `run`."""
    groups = Counter(artifact.id.kind for artifact in plan.artifacts)
    counts = dict[Labels, float]()
    for result in ("changed", "failed", "blocked"):
        ended = Counter(ArtifactId.parse(row["name"]).kind or row["name"] for row in report[result])
        counts |= {(group, result): ended[group] for group in groups}
        if result == "failed":
            counts["run", "failed"] = sum(ended.values()) - sum(ended[group] for group in groups)
    up_to_date = {
        group: total - sum(counts[group, result] for result in ("changed", "failed", "blocked"))
        for group, total in groups.items()
    }
    if report["result"] != "interrupted":
        counts |= {(group, "up_to_date"): total for group, total in up_to_date.items()}
    return counts


def _of_channels(history: NotificationHistory) -> Samples:
    """Return for each alert channel whether sending fails, and since when."""
    failing_since = {name: channel.failing_since for name, channel in history.channels.items()}
    since: dict[Labels, float] = {
        (name,): datetime.fromisoformat(at).timestamp() for name, at in failing_since.items() if at
    }
    return {
        "alerts_channel_failing": {(name,): float(bool(at)) for name, at in failing_since.items()},
        "alerts_channel_failing_since_timestamp_seconds": since,
    }


# -- the text format --------------------------------------------------------------------------------------------------


class _Samples(Collector):
    def __init__(self, project: str, samples: Samples) -> None:
        self._project = project
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for name, values in self._samples.items():
            spec = METRICS[name]
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(PREFIX + name, spec.doc, labels=("project", *spec.labels))
            for labels, value in values.items():
                metric.add_metric((self._project, *labels), float(value))
            yield metric


def render(home: Path, samples: Samples) -> str:
    """Return samples in the text format; each has the label `project`, since node_exporter may read several projects."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(visible_line(str(home)), samples))
    return generate_latest(registry).decode()


def blocks(text: str) -> Blocks:
    """Split rendered text into the lines of each metric."""
    heads = list(HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {head[1]: text[head.start() : end] for head, end in zip(heads, ends, strict=False)}
