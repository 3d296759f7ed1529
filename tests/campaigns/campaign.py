"""What a campaign is, how its trials are run at once, and how a failing one is made small.

A trial is a list of steps. A step is plain data (a word and its arguments), so that a failing trial can be stored,
replayed and shortened. `draw` chooses the steps from a seeded source and does nothing else; `run` carries them out and
judges. A step that makes no sense any more because an earlier one was taken away must do nothing.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Step = list[Any]
"""A word and its arguments, as JSON has them: `["flip", "ca/ledger.db", 812, 3]`."""

SHRINKING = 40
"""The most trials that are spent to make one failing trial smaller."""
SHRINKING_SECONDS = 900
"""After so long no further one is started: where a trial takes minutes, those of the campaign are worth more."""

NAMES = ("years", "kills", "inputs", "together", "surroundings", "growth")


class CampaignError(AssertionError):
    """A trial found a fault. `kind` tells two faults apart: a smaller trial must fail with the same kind."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(f"{kind}: {said}")
        self.kind = kind


@dataclass(frozen=True)
class Campaign:
    """A stream of trials. `run` gets the steps, an empty folder, and a counter for the figures that it wants printed."""

    name: str
    draw: Callable[[random.Random], list[Step]]
    run: Callable[[Sequence[Step], Path, Counter[str]], None]
    small: int
    """Trials of the size that continuous integration runs."""
    draw_small: Callable[[random.Random], list[Step]] | None = None
    """Draws the trials of that size, where those of `draw` take too long."""


@dataclass
class Outcome:
    """What one trial showed: its figures, and how it failed, if it did."""

    number: int
    steps: list[Step]
    figures: Counter[str] = field(default_factory=Counter)
    kind: str = ""
    said: str = ""


@dataclass
class Result:
    """All trials of one campaign: how many, their figures, and the smallest form of each failing one."""

    seed: int
    tried: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)


def load(name: str) -> Campaign:
    """The campaign of that name (NAMES lists them)."""
    campaign = import_module(f"tests.campaigns.{name}").CAMPAIGN
    assert isinstance(campaign, Campaign)
    return campaign


def drawn(campaign: Campaign, seed: int, number: int, *, is_small: bool = False) -> list[Step]:
    """The steps of one trial: the same for the same seed, number and size, on every machine."""
    draw = (campaign.draw_small if is_small else None) or campaign.draw
    return draw(random.Random(f"{campaign.name}/{seed}/{number}"))  # noqa: S311 - no secret hangs on it


def tried(campaign: Campaign, steps: list[Step], number: int = 0) -> Outcome:
    """Carry out one trial in a folder of its own, which is removed afterwards."""
    outcome = Outcome(number, steps)
    place = Path(tempfile.mkdtemp(prefix=f"campaign-{campaign.name}-"))
    try:
        campaign.run(steps, place, outcome.figures)
    except CampaignError as failure:
        outcome.kind, outcome.said = failure.kind, str(failure)
    except Exception as error:  # noqa: BLE001 - a fault that the campaign did not expect is a finding too
        outcome.kind, outcome.said = f"{type(error).__name__} in the trial", traceback.format_exc()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return outcome


def parts(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """The steps without each stretch of that size, in turn."""
    for start in range(0, len(steps), size):
        yield [*steps[:start], *steps[start + size :]]


def shrunk(failed: Outcome, attempt: Callable[[list[Step]], Outcome], budget: int = SHRINKING) -> Outcome:
    """A trial with fewer steps that fails in the same way, by taking away halves, quarters, and so on.

    >>> def attempt(steps): return Outcome(0, steps, kind="bad" if ["b"] in steps else "")
    >>> shrunk(attempt([["a"], ["b"], ["c"], ["d"]]), attempt).steps
    [['b']]
    """
    size, end = max(1, len(failed.steps) // 2), time.monotonic() + SHRINKING_SECONDS
    while budget and failed.steps:
        for fewer in parts(failed.steps, size):
            if not budget or time.monotonic() > end:
                return failed
            budget -= 1
            if (outcome := attempt(fewer)).kind == failed.kind:
                outcome.number, failed = failed.number, outcome
                break
        else:
            if size == 1:
                break
            size //= 2
        size = max(1, min(size, len(failed.steps) // 2))
    return failed


def _trial(name: str, seed: int, number: int, is_small: bool) -> Outcome:
    """One trial in a process of the pool; a failing one comes back as small as it got."""
    campaign = load(name)
    outcome = tried(campaign, drawn(campaign, seed, number, is_small=is_small), number)
    if outcome.kind:
        return shrunk(outcome, lambda steps: tried(campaign, steps, number))
    return outcome


def trials(
    name: str, seed: int, processes: int, *, seconds: float, at_most: int = 0, is_small: bool = False
) -> Iterator[Outcome]:
    """Trials of a campaign, several at once, until the time is over or `at_most` are done (0: no such limit)."""
    end, numbers = time.monotonic() + seconds, iter(range(at_most) if at_most else count())
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running: set[Future[Outcome]] = set()
        while True:
            while len(running) < processes and time.monotonic() < end and (number := next(numbers, None)) is not None:
                running.add(pool.submit(_trial, name, seed, number, is_small))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def summed(seed: int, outcomes: Iterable[Outcome], told: Callable[[Outcome], None] = lambda _: None) -> Result:
    """The figures of all trials together; `told` hears of each trial as it ends."""
    result = Result(seed)
    for outcome in outcomes:
        result.tried += 1
        result.figures += outcome.figures
        if outcome.kind:
            result.failed.append(outcome)
        told(outcome)
    return result


def replayed(name: str, case: Path) -> Outcome:
    """Carry out the steps of a stored case (a JSON list of steps) once."""
    return tried(load(name), json.loads(case.read_text(encoding="utf-8")))
