"""What `doctor` reports of one subject: the value that was seen, the verdict, and the command to type."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from pki.common.remedies import as_started
from pki.monitor.check_result import Level

SECONDS = 10  # for a program to print its version


@dataclass(frozen=True, slots=True)
class MachineObservation:
    """One line of `doctor`. `remedy` is a command or a step; it may be given for an optional part that is missing."""

    checked: str
    seen: str
    level: Level = Level.OK
    remedy: str = ""

    @property
    def typed(self) -> str:
        """Return the remedy as it is typed here: the program begins as it was started."""
        return as_started(self.remedy)


def first_line(*command: str) -> str | None:
    """Return the first line that a program prints, on either stream; None if it cannot be started or does not end."""
    if not shutil.which(command[0]):
        return None
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines and not done.returncode else None
