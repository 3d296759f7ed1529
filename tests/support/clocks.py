"""What is said of the clock of a test."""

from __future__ import annotations

from datetime import timedelta

from pki.project.clock_guard import Evidence, HostClock
from pki.project.project import Project


def hosts(*ahead: timedelta | None, kernel_ahead: timedelta | None = None) -> Evidence:
    return Evidence(kernel_ahead, tuple(HostClock(f"host-{n}", difference) for n, difference in enumerate(ahead)))


def nobody(_project: Project) -> Evidence:
    """The kernel clock is not synchronised, and no host answers."""
    return hosts(None)
