"""Ten years of daily runs, in which much goes wrong: no day on which somebody is refused, no revocation lost."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns import mounts
from tests.campaigns.campaign import Campaign, Step
from tests.campaigns.simulation import FRAME, Simulation, quick

DAYS = 3650
SMALL_DAYS, EVENTFUL = 190, 55
RARE = {  # what happens how often in ten years, on the average
    "miss": 40,
    "kill": 40,
    "full": 20,
    "readonly": 20,
    "clock": 12,
    "build": 10,
    "flip": 80,
    "copy": 30,
    "old": 10,
    "down": 15,
    "host": 12,
    "service": 20,
    "revoke": 25,
}
SPELLS = {"miss", "down", "clock"}  # which last: more of them leave no day on which a run could do its work
JUMPS = (-4000, -400, -30, -1, 1, 20, 100, 400, 4000)
REASONS = ("key-compromise", "superseded", "unspecified")
FOLDERS = ("", "ca", "build", "build/certs", "build/crl", "build/report", "build/hosts", "ca/clients")


Draw = Callable[[random.Random], list[Any]]
WITH: dict[str, Draw] = {  # what a step has behind its day
    "miss": lambda chance: [chance.randint(1, 25)],
    "kill": lambda chance: [chance.randint(1, 120)],
    "full": lambda chance: [chance.randint(1, 4), chance.randrange(0, 300_000)],
    "readonly": lambda chance: [chance.randint(1, 4), chance.choice(FOLDERS)],
    "clock": lambda chance: [chance.randint(1, 3), chance.choice(JUMPS)],
    "flip": lambda chance: [chance.random(), chance.random(), chance.randint(0, 1)],
    "down": lambda chance: [chance.randint(5, 60), chance.randrange(100)],
    "host": lambda chance: [chance.randrange(4)],
    "service": lambda chance: [chance.randrange(4)],
    "revoke": lambda chance: [chance.randrange(100), chance.choice(REASONS)],
}


def draw(chance: random.Random, days: int = DAYS, often: float = 1.0) -> list[Step]:
    """Ten years: how long a person takes to act, and the days on which something happens."""
    steps: list[Step] = [
        ["days", days],
        ["every", chance.choice((1, 2, 3))],
        ["delays", [chance.randint(1, 5) for _ in range(7)]],
        ["late", [chance.randint(0, 55) for _ in range(5)]],
    ]
    events = [
        [what, chance.randrange(2, days), *(WITH[what](chance) if what in WITH else [])]
        for what, count in RARE.items()
        for _ in range(round(count * (1.0 if what in SPELLS else often) * days / DAYS * chance.uniform(0.5, 1.5)))
    ]
    return steps + sorted(events, key=lambda step: int(step[1]))


def draw_small(chance: random.Random) -> list[Step]:
    """Weeks in which six times as much happens."""
    steps = draw(chance, SMALL_DAYS, often=6.0)
    return [
        ["short", 1],
        ["days", EVENTFUL],
        *(step for step in steps if step[0] in FRAME - {"days"} or step[1] < EVENTFUL),
    ]


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    folder = place / "disk"
    folder.mkdir()
    with mounts.small(folder, 96 << 20), quick():
        try:
            Simulation(steps, folder, figures).live()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


CAMPAIGN = Campaign("years", draw, run, 1, draw_small)
