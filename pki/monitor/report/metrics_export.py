"""Metrics for Prometheus: what there is, in its text format, in `build/report/pki.prom` and where node_exporter reads.

What a run does not know again stays as the run before it left it: one that was asked for some tasks only, or that could
not look at the project, resets nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pki import __version__
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.errors import PkiError
from pki.common.visible import visible_line
from pki.config.identifiers import ArtifactId
from pki.deploy.receipt import moment
from pki.monitor.alerts.notification_history import Record
from pki.monitor.checks import check_machine
from pki.monitor.checks.check_context import CheckContext
from pki.monitor.report import metrics_collect
from pki.monitor.report.metrics_collect import Labels, Samples
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.project import Project

PREFIX = "doit_pki_"
FILE = "pki.prom"
HEAD = re.compile(rf"^# HELP {PREFIX}(\w+) ", re.MULTILINE)
Blocks = dict[str, str]  # each metric's lines, by its name without the prefix


class Known(NamedTuple):
    """A metric's labels, after that of the project, and what it says. What ends in `_total` is a counter, all others are gauges."""

    labels: tuple[str, ...]
    doc: str


LEAF, AUTHORITY = ("name", "profile", "host"), ("name", "authority")
SERVICE = ("host", "service", "name")
KNOWN: dict[str, Known] = {
    "build_info": Known(("version",), "The version of doit-pki that wrote this."),
    "metrics_timestamp_seconds": Known((), "When the run began that wrote this, whatever it was asked for."),
    "inventory_valid": Known(
        (), "Whether pki.yaml could be used when doit was last started; if not, nothing was done."
    ),
    "last_run_timestamp_seconds": Known((), "When the last run began that was asked for everything."),
    "last_success_timestamp_seconds": Known((), "When the last such run began in which nothing failed."),
    "last_run_success": Known((), "Whether nothing failed in the last run that was asked for everything."),
    "last_run_duration_seconds": Known((), "How long it took."),
    "last_run_tasks": Known(("group", "result"), "Its tasks: changed, failed, blocked or up_to_date."),
    "certificate_not_before_timestamp_seconds": Known(LEAF, "From when a certificate is valid."),
    "certificate_not_after_timestamp_seconds": Known(LEAF, "Until when a certificate is valid."),
    "profile_renew_before_seconds": Known(("profile",), "How long before its end a certificate is renewed."),
    "authority_not_before_timestamp_seconds": Known(AUTHORITY, "From when a live authority is valid."),
    "authority_not_after_timestamp_seconds": Known(AUTHORITY, "Until when a live authority is valid."),
    "authority_usable_until_timestamp_seconds": Known(
        AUTHORITY, "The end of the usable life of an authority that signs: then its successor is asked for."
    ),
    "ceremony_by_timestamp_seconds": Known(
        ("what",), "The last day of a root ceremony that is due, by what it brings."
    ),
    "crl_this_update_timestamp_seconds": Known(AUTHORITY, "From when a CRL is valid."),
    "crl_next_update_timestamp_seconds": Known(AUTHORITY, "Until when a CRL is valid."),
    "crl_number": Known(AUTHORITY, "The number of a CRL."),
    "crl_refresh_seconds": Known(AUTHORITY, "How often a CRL is made again."),
    "presigned_crl_end_timestamp_seconds": Known(
        AUTHORITY, "Until when the last of a root's pre-signed CRLs is valid."
    ),
    "deployments": Known(("state",), "How many hosts are well, or are in each of the other states."),
    "deployment_state": Known(("host", "state"), "1 for each state of a host that is not simply well."),
    "deployment_failing_since_timestamp_seconds": Known(("host",), "Since when a host does not take its release."),
    "deployment_runs_out_timestamp_seconds": Known(("host",), "When the first thing ends that a failing host has."),
    "probe_success": Known(SERVICE, "Whether a service was seen to be as it should be."),
    "probe_reached": Known(SERVICE, "Whether a service answered at all."),
    "probe_duration_seconds": Known(SERVICE, "How long the look at a service took."),
    "probe_not_after_timestamp_seconds": Known(SERVICE, "Until when the certificate is valid that a service serves."),
    "probe_tls_info": Known((*SERVICE, "version"), "The version of TLS that a service spoke."),
    "probe_wrong_info": Known((*SERVICE, "fault", "wrong"), "What is wrong with a service, and of which kind that is."),
    "ledger_certificates_total": Known((), "Certificates that the ledger holds."),
    "ledger_revocations_total": Known((), "Revocations that the ledger holds."),
    "checks": Known(("level",), "How many checks of the project are at each level."),
    "check_level": Known(
        ("subject", "topic", "remedy"), "What is not well: 1 is a notice, 2 a warning, 3 critical; and what to type."
    ),
    "alerts_channel_failing": Known(("channel",), "Whether messages cannot be sent that way."),
    "alerts_channel_failing_since_timestamp_seconds": Known(("channel",), "Since when they cannot be sent."),
}


def looked(context: CheckContext) -> Blocks:
    """What a run knows of the project. The certificates' lines, which are most of them, are remembered as text."""
    found, cache = metrics_collect.certificates(context), context.project.cache
    home = context.project.store.home
    known = digest_of(KNOWN, str(home), found)
    text = cache.recall("metrics certificates", known)
    if text is None:
        text = render(home, found)
        cache.remember("metrics certificates", known, [], text)
    return blocks(text) | blocks(render(home, metrics_collect.others(context)))


def leave(project: Project, plan: Plan, found: Mapping[str, str], report: Mapping[str, Any]) -> None:
    """Write what was `looked` at, and the run's own report. Raises PkiError when one of the places cannot be written."""
    place, record = project.store, Record.load(project.store.ca, project.now)
    more: Samples = {"build_info": {(__version__,): 1}, **_of_run(plan, report), **_of_channels(record)}
    said = {**found, **blocks(render(place.home, more))}
    if not said.keys() >= KNOWN.keys():
        said = blocks((filesystem.read(place.report(FILE)) or b"").decode(errors="replace")) | said
    _write(place, project.inventory.metrics.textfile, said)


def nothing_was_run(place: Store, textfile: str | None, now: datetime) -> None:
    """Say in what the last run left that pki.yaml cannot be used; all else in it is still so."""
    before = filesystem.read(place.report(FILE))
    if before is not None:
        wrong: Samples = {"metrics_timestamp_seconds": {(): now.timestamp()}, "inventory_valid": {(): 0}}
        _write(place, textfile, blocks(before.decode(errors="replace")) | blocks(render(place.home, wrong)))


def _write(place: Store, textfile: str | None, said: Mapping[str, str]) -> None:
    """To both places, whatever becomes of the first one."""
    data = "".join(said[name] for name in KNOWN if name in said).encode()
    written = [_fault(place.report(FILE), data)]
    if textfile:
        complaint = check_machine.complaint_of(
            textfile
        )  # a folder that is missing is not made: nobody would read there
        written.append(PkiError(*complaint) if complaint else _fault(Path(textfile), data))
    if faults := [fault for fault in written if fault]:
        raise PkiError("; ".join(fault.message for fault in faults), faults[-1].hint)


def _fault(path: Path, data: bytes) -> PkiError | None:
    try:
        filesystem.write(path, data)
    except PkiError as error:
        return error
    return None


# -- the run ----------------------------------------------------------------------------------------------------------


def _of_run(plan: Plan, report: Mapping[str, Any]) -> Samples:
    """What the run says of itself; of one that was asked for some tasks only, no more than when it was."""
    at = moment(report["at"]).timestamp()
    found: Samples = {"metrics_timestamp_seconds": {(): at}, "inventory_valid": {(): 1}}
    if report["requested"]:
        return found
    is_well = report["result"] == "ok"
    return {
        **found,
        "last_run_timestamp_seconds": {(): at},
        **({"last_success_timestamp_seconds": {(): at}} if is_well else {}),
        "last_run_success": {(): is_well},
        "last_run_duration_seconds": {(): report["seconds"]},
        "last_run_tasks": _tasks(plan, report),
    }


def _tasks(plan: Plan, report: Mapping[str, Any]) -> dict[Labels, float]:
    """How many tasks of each group came to which end; what failed besides the tasks counts as the group `run`."""
    groups = Counter(artifact.id.kind for artifact in plan.artifacts)
    found = dict[Labels, float]()
    for result in ("changed", "failed", "blocked"):
        ended = Counter(ArtifactId.parse(one["name"]).kind or one["name"] for one in report[result])
        found |= {(group, result): ended[group] for group in groups}
        if result == "failed":
            found["run", "failed"] = sum(ended.values()) - sum(ended[group] for group in groups)
    up_to_date = {
        group: there - sum(found[group, result] for result in ("changed", "failed", "blocked"))
        for group, there in groups.items()
    }
    if report["result"] != "interrupted":
        found |= {(group, "up_to_date"): there for group, there in up_to_date.items()}
    return found


def _of_channels(record: Record) -> Samples:
    """Whether messages can be sent: the way to each person that is told."""
    failing = {name: one.failing_since for name, one in record.channels.items()}
    since: dict[Labels, float] = {(name,): datetime.fromisoformat(at).timestamp() for name, at in failing.items() if at}
    return {
        "alerts_channel_failing": {(name,): float(bool(at)) for name, at in failing.items()},
        "alerts_channel_failing_since_timestamp_seconds": since,
    }


# -- the text format --------------------------------------------------------------------------------------------------


class _Samples(Collector):
    def __init__(self, project: str, samples: Samples) -> None:
        self._project = project
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for name, found in self._samples.items():
            known = KNOWN[name]
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(PREFIX + name, known.doc, labels=("project", *known.labels))
            for labels, value in found.items():
                metric.add_metric((self._project, *labels), float(value))
            yield metric


def render(home: Path, samples: Samples) -> str:
    """Samples in Prometheus' text format. Each names its project: one node_exporter may read what several left."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(visible_line(str(home)), samples))
    return generate_latest(registry).decode()


def blocks(text: str) -> Blocks:
    """What was rendered, taken apart: the lines of each metric."""
    heads = list(HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {head[1]: text[head.start() : end] for head, end in zip(heads, ends, strict=False)}
