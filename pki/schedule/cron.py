"""The errand as cron knows it: lines of the crontab of whoever owns the project, told from others by their end."""

from __future__ import annotations

import re
import shlex

from pki.schedule.job import Errand

LINE = re.compile(r"([0-9]{1,2}) ([0-9]{1,2}) \* \* \* ")


def lines(errand: Errand) -> list[str]:
    """One line for each time of day."""
    words = f"PKI_HOME={shlex.quote(str(errand.home))} {shlex.quote(str(errand.program))} doit"
    command = words.replace("%", r"\%")  # which cron takes for the end of a line: crontab(5)
    clock = [one.split(":") for one in errand.times]
    return [f"{int(minute)} {int(hour)} * * * {command} {_mark(errand)}" for hour, minute in clock]


def _mark(errand: Errand) -> str:
    return f"# {errand.name}"


def without(crontab: str, errand: Errand) -> list[str]:
    """The lines of a crontab that are not the errand's."""
    return [line for line in crontab.splitlines() if not line.endswith(f" {_mark(errand)}")]


def installed(crontab: str, errand: Errand) -> tuple[str, ...] | None:
    """The times at which a crontab runs the errand; None when it does not."""
    own = [LINE.match(line) for line in crontab.splitlines() if line.endswith(f" {_mark(errand)}")]
    return tuple(f"{int(hour):02}:{int(minute):02}" for minute, hour in (one.groups() for one in own if one)) or None
