"""`python -m tests.campaigns NAME`: run one campaign, print its figures, and exit with 1 if a trial failed."""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pki.common.child_processes import STOPPED
from tests.campaigns import campaign

AGAIN = "./run invoke campaign years --hours 2 --seed 7"


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong, and what can be typed."""

    def error(self, message: str) -> NoReturn:
        print(f"{message}\n→ {AGAIN}", file=sys.stderr)
        sys.exit(2)


def hours(text: str) -> float:
    """A positive number of hours, such as 2 or 0.5."""
    with suppress(ValueError):
        if (number := float(text)) > 0 and math.isfinite(number * 3600):
            return number
    raise argparse.ArgumentTypeError(f"expected a number of hours above 0, such as 2 or 0.5, not {text!r}")


def whole(least: int) -> Callable[[str], int]:
    """What reads a whole number that is not below `least`."""

    def number(text: str) -> int:
        with suppress(ValueError):
            if (found := int(text)) >= least:
                return found
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, not {text!r}")

    return number


def stored(text: str) -> Path:
    """The file of a stored case: a JSON list of steps, each of them a list."""
    try:
        steps = json.loads(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        steps = None
    if not isinstance(steps, list) or not all(isinstance(step, list) for step in steps):
        raise argparse.ArgumentTypeError(f"{text}: expected a JSON list of steps, as a failed trial prints it")
    return Path(text)


def arguments(typed: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="invoke campaign", allow_abbrev=False)
    parser.add_argument("name", choices=campaign.NAMES)
    parser.add_argument("--seed", type=whole(0), default=None, help="the seed of an earlier run, to repeat it")
    parser.add_argument(
        "--hours", type=hours, default=0.0, help="how long new trials are started (default: the small size)"
    )
    parser.add_argument("--processes", type=whole(1), default=os.cpu_count() or 1, help="trials at once")
    parser.add_argument("--case", type=stored, default=None, help="carry out the steps of this JSON file once")
    parser.add_argument("--failures", type=Path, default=None, help="a folder in which failing cases are stored")
    return parser.parse_args(typed)


def tell(outcome: campaign.Outcome, failures: Path | None) -> None:
    if not outcome.kind:
        return
    print(f"trial {outcome.number} failed: {outcome.said}")
    print(f"  smallest case: {json.dumps(outcome.steps)}", flush=True)
    if failures:
        failures.mkdir(parents=True, exist_ok=True)
        (failures / f"{outcome.number}.json").write_text(json.dumps(outcome.steps), encoding="utf-8")


def main() -> int:
    asked = arguments()
    if asked.case:
        outcome = campaign.replayed(asked.name, asked.case)
        tell(outcome, None)
        print(f"{asked.name}: {'failed' if outcome.kind else 'passed'}; {dict(outcome.figures)}")
        return 1 if outcome.kind else 0
    seed = secrets.randbelow(1 << 31) if asked.seed is None else asked.seed
    small = 0 if asked.hours else campaign.load(asked.name).small
    seconds = asked.hours * 3600 if asked.hours else float("inf")
    print(f"{asked.name}: seed {seed}", flush=True)
    started = time.monotonic()
    stream = campaign.trials(asked.name, seed, asked.processes, seconds=seconds, at_most=small, is_small=bool(small))
    result = campaign.summed(seed, stream, lambda outcome: tell(outcome, asked.failures))
    print(f"{asked.name}: {result.tried} trials, {len(result.failed)} failed, {time.monotonic() - started:.0f} s")
    for what, number in sorted(result.figures.items()):
        print(f"  {number:>10,} {what}".replace(",", " "))
    print(
        f"again: ./run invoke campaign {asked.name} --seed {seed}"
        + (f" --hours {asked.hours:g}" if asked.hours else "")
    )
    return 1 if result.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, RuntimeError) as error:
        # a pool that is interrupted while it starts cannot join its thread, and says that instead
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        print("stopped; the same trials again: the same command with --seed and the number above", file=sys.stderr)
        sys.exit(STOPPED)
