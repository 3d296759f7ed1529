"""Of long lists of cases, a sample: the same in each process, and all of them with PKI_SAMPLES."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

SEED = 20261129


def leave_out(config: pytest.Config, items: list[pytest.Item], share: Callable[[pytest.Item], int]) -> None:
    """Keep one case in so many of each test function; `share` says how many, 1 keeps all.

    A case is left out only where another case of the same function is run. With PKI_SAMPLES in the environment, and
    where tests are named on the command line, nothing is left out.
    """
    if os.environ.get("PKI_SAMPLES") or any("::" in name for name in config.args):
        return
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        cases.setdefault((item.path, function_of(item)), []).append(item)
    left = set[pytest.Item]()
    for (_, name), those in cases.items():
        number = -(-len(those) // share(those[0]))
        left |= {*those}.difference(random.Random(f"{SEED}-{name}").sample(those, number))  # noqa: S311 - no secret
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = [item for item in items if item not in left]


def function_of(item: pytest.Item) -> str:
    """Return the name of the test function of a case."""
    return str(getattr(item, "originalname", item.name))
