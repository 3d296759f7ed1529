"""The maintenance window of a host (`window` in pki.yaml), in which deliveries may change the host."""

from __future__ import annotations

from datetime import time
from typing import Annotated

from pki.config.fields import json_pattern, matching
from pki.config.time_fields import TIME

PATTERN = f"{TIME}-{TIME}"

Window = Annotated[str, matching(PATTERN, "hours such as 22:00-05:00"), json_pattern(PATTERN)]


def is_in_window(moment: time, window: str) -> bool:
    """Return whether a time of day is in a window such as 22:00-05:00; the end is excluded."""
    start, end = (time.fromisoformat(part) for part in window.split("-"))
    if start <= end:
        return start <= moment < end
    return moment >= start or moment < end  # the window contains midnight
