"""What a run does at its end to see every service, in a process of its own: python -m tests.bench.sweep HOME COUNT.

Prints the wall and the processor time of that alone, in seconds: the start of Python and the plan are not in them.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from pki.monitor import probes
from pki.pipeline import plan as pipeline_plan
from pki.project.project import Project


def main(home: str, count: str) -> None:
    """Look once; a service that is not as it was deployed, or one too few of them, ends it badly."""
    project = Project.open(Path(home), datetime.now(UTC).replace(microsecond=0))
    plan = pipeline_plan.plan(project)
    started, cpu = time.perf_counter(), time.process_time()
    found = probes.probe_services(project.store, project.now, plan)
    print(time.perf_counter() - started, time.process_time() - cpu)
    if faults := [
        f"{result.service}: {result.wrong or result.open_question}" for result in found if not result.is_well
    ]:
        sys.exit("\n".join(faults))
    if len(found) != int(count):
        sys.exit(f"saw {len(found)} services")


if __name__ == "__main__":
    main(*sys.argv[1:])
