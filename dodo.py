"""Entry point of doit: take the time, yield the tasks."""

from datetime import UTC, datetime

from pki.cli.entry_points import doit_run

run = doit_run(__file__, datetime.now(UTC).replace(microsecond=0))
DOIT_CONFIG, task_pki = run.config, run.tasks
