"""Running programs and weighing them: wall time and peak memory, in alternating rounds."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class Broken(Exception):  # noqa: N818 - said to a person, as the reason why a benchmark has no figures
    """A program that was to be measured failed; the message holds the end of what it said."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took: wall time, processor time, and in bytes the `peak` of its largest process."""

    seconds: float
    cpu: float
    peak: int = 0


Side = Callable[[], Cost]
Part = str | Path


def run(command: Sequence[str | Path], folder: Path, settings: Mapping[str, str | Path] | None = None) -> Cost:
    """Run a program to its end. What was written before is flushed first, so that it does not count here."""
    os.sync()
    environment = {**os.environ, **{name: str(value) for name, value in (settings or {}).items()}}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            said = output.read()[-2000:].decode(errors="replace")
            raise Broken(f"{' '.join(map(str, command))}: exit status {child.returncode}\n{said}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def in_turn(rounds: int, *sides: Side) -> list[Cost]:
    """Run every side once in each round, A B A B, and return each side's median."""
    costs: list[list[Cost]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, found in zip(sides, costs, strict=True):
            found.append(side())
    return [median(found) for found in costs]


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        int(statistics.median(cost.peak for cost in costs)),
    )


def total(costs: Sequence[Cost]) -> Cost:
    """What several runs took, one after the other."""
    return Cost(sum(c.seconds for c in costs), sum(c.cpu for c in costs), max(c.peak for c in costs))
