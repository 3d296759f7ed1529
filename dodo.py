"""The door to doit: take the clock, plan, yield."""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from doit.task import Task

from pki.monitor.report.run import Run

run = Run(
    home=Path(os.environ.get("PKI_HOME") or Path(__file__).parent).resolve(),
    now=datetime.now(UTC).replace(microsecond=0),
)

DOIT_CONFIG = run.config


def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """After Ctrl-C the run's own last line is enough: a traceback is for faults of ours."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = end


def task_pki() -> Iterator[Task]:
    """Every artifact of the project."""
    yield from run.tasks()
