"""Entry point for doit: take the time, plan, yield the tasks."""

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
    """Print no traceback after Ctrl-C: the last line of the run is enough."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = end


def task_pki() -> Iterator[Task]:
    """Yield a task for each artifact of the project."""
    yield from run.tasks()
