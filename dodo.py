"""The door to doit: take the clock, plan, yield."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from doit.task import Task

from pki.pipeline import Run

run = Run(
    home=Path(os.environ.get("PKI_HOME") or Path(__file__).parent).resolve(),
    now=datetime.now(UTC).replace(microsecond=0),
)

DOIT_CONFIG = run.config


def task_pki() -> Iterator[Task]:
    """Every artifact of the house."""
    yield from run.tasks()
