"""Entry point of doit: take the time, yield the tasks."""

from datetime import UTC, datetime

try:
    from pki.cli.entry_points import doit_run
except ImportError:  # not installed in this environment, or another package is called pki
    raise SystemExit("doit-pki cannot be imported here; type ./run doit, or activate its environment first") from None

run = doit_run(__file__, datetime.now(UTC).replace(microsecond=0))
DOIT_CONFIG, task_pki = run.config, run.tasks
