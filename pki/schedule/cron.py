"""The job as lines of the project owner's crontab; a comment at the end of a line identifies it."""

from __future__ import annotations

import re
import shlex

from pki.schedule.job import Job

LINE = re.compile(r"([0-9]{1,2}) ([0-9]{1,2}) \* \* \* ")


def lines(job: Job) -> list[str]:
    """Return the lines of a job, one for each time of day."""
    line = f"PKI_HOME={shlex.quote(str(job.home))} {shlex.quote(str(job.program))} doit"
    command = line.replace("%", r"\%")  # an unescaped % ends the command: crontab(5)
    clock = [start.split(":") for start in job.times]
    return [f"{int(minute)} {int(hour)} * * * {command} {_comment(job)}" for hour, minute in clock]


def _comment(job: Job) -> str:
    return f"# {job.name}"


def without(crontab: str, job: Job) -> list[str]:
    """Return the lines of a crontab that do not belong to the job."""
    return [line for line in crontab.splitlines() if not line.endswith(f" {_comment(job)}")]


def installed(crontab: str, job: Job) -> tuple[str, ...] | None:
    """Return the times at which a crontab runs the job; None if it does not run the job."""
    own_lines = [line for line in crontab.splitlines() if line.endswith(f" {_comment(job)}")]
    starts = [match.groups() for match in map(LINE.match, own_lines) if match]
    return tuple(f"{int(hour):02}:{int(minute):02}" for minute, hour in starts) or None
