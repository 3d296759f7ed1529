"""A run of doit together with the monitor: the entry points build this class."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pki.monitor import forecast
from pki.monitor.report import end_of_run
from pki.monitor.report.end_of_run import RunMonitor
from pki.monitor.timeline import calendar
from pki.pipeline.delivery_targets import clock_evidence
from pki.pipeline.doit_tasks import DoitRun, EndOfRun
from pki.project.clock_guard import Evidence
from pki.project.project import Project

END_OF_RUN = EndOfRun(forecast.required_actions, calendar.write, RunMonitor, end_of_run.nothing_was_run)


class Run(DoitRun):
    """A run of doit that ends with checks, alerts, metrics, the status page and the calendar."""

    def __init__(
        self,
        home: Path,
        now: datetime,
        evidence: Callable[[Project], Evidence] = clock_evidence,
        *,
        is_part: bool = False,
    ) -> None:
        super().__init__(home, now, END_OF_RUN, evidence, is_part=is_part)
