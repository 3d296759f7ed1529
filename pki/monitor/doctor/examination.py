"""The examination of a machine by `doctor`, in the order in which it is printed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pki.monitor.doctor import machine, packages, project_folder, project_needs
from pki.monitor.doctor.observation import MachineObservation


def examine(now: datetime, place: Path, *, is_project: bool) -> Iterator[MachineObservation]:
    """Yield what was seen of the machine; `place` is the folder of the project, or where one would be."""
    yield packages.observe_python()
    yield packages.observe_venv()
    yield from packages.observe_packages()
    yield from machine.observe_programs()
    yield machine.observe_scheduler()
    yield machine.observe_clock(now)
    yield machine.observe_encoding()
    yield machine.observe_umask()
    yield machine.observe_home()
    yield project_folder.observe_space(place)
    yield from project_folder.observe_file_system(place)
    yield machine.observe_ports()
    for extra in packages.EXTRAS.values():
        yield extra.observe()
    if is_project:
        yield from project_needs.observe_project(place)
