"""The campaign `inputs`: files and arguments are damaged with regard to what they are, and every command that reads them is judged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.campaigns.campaign import Campaign, Step
from tests.campaigns.inputs import arguments, mutations, trial, values
from tests.campaigns.inputs.readers import READERS, STRICT
from tests.campaigns.inputs.targets import TARGETS, Target
from tests.support.odd_files import ODD

ARGUMENTS = "arguments"
DAYS = (0, 0, 0, 3, 10, 45, 75)
LARGE = 1 << 30
READS = 40
ALL_READERS = sorted({**READERS, **STRICT}.items(), key=lambda one: one[0])


def draw(chance: random.Random, reads: int = READS) -> list[Step]:
    """A damaged file with two or three commands, three command lines, or damaged files for their readers alone."""
    if chance.random() < 0.12:
        return [["in", ARGUMENTS, 0], *([_way(chance, 0.2), *arguments.line(chance)] for _ in range(3))]
    if chance.random() < 0.3:
        return [_reading(chance) for _ in range(reads)]
    name = chance.choice(sorted(TARGETS))
    target = TARGETS[name]
    days = chance.choice(DAYS) if target.project == "lab" and target.fixes else 0
    steps: list[Step] = [["in", name, days]]
    steps += [_damage(chance, target) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    steps += [[_way(chance, 0.03), *chance.choice(target.commands)] for _ in range(chance.choice((2, 3)))]
    return [*steps, ["fix"]] if chance.random() < 0.4 else steps


def _reading(chance: random.Random) -> Step:
    """A damaged file for its reader alone."""
    name, reader = chance.choice(ALL_READERS)
    return ["read", name, *_change(chance, reader.kinds)]


def _change(chance: random.Random, kinds: Sequence[str]) -> list[Any]:
    """Which file, what is done to it, where, and a value."""
    mutation = chance.choice(sorted(mutations.KINDS[chance.choice(kinds)]))
    value = values.value(chance) if mutation.startswith(("json", "sqlite")) else values.text(chance)
    return [chance.randrange(LARGE), mutation, chance.randrange(LARGE), chance.randrange(LARGE), value]


def _way(chance: random.Random, share: float) -> str:
    """How a command is started: in a fork, or, for some, as a program of its own, which takes a second."""
    return "start" if chance.random() < share else "type"


def _damage(chance: random.Random, target: Target) -> Step:
    if chance.random() < 0.06:
        return ["odd", chance.randrange(LARGE), chance.choice(sorted(ODD))]
    return ["change", *_change(chance, target.kinds)]


CAMPAIGN = Campaign("inputs", draw, trial.run, small=14, draw_small=partial(draw, reads=8))
