"""`python -m tests.campaigns NAME`: run one campaign, print its figures, and exit with 1 if a trial failed."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from pathlib import Path

from pki.common.child_processes import STOPPED
from tests.campaigns import campaign


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="invoke campaign", allow_abbrev=False)
    parser.add_argument("name", choices=campaign.NAMES)
    parser.add_argument("--seed", type=int, default=None, help="the seed of an earlier run, to repeat it")
    parser.add_argument(
        "--hours", type=float, default=0.0, help="how long new trials are started (default: the small size)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="trials at once")
    parser.add_argument("--case", type=Path, default=None, help="carry out the steps of this JSON file once")
    parser.add_argument("--failures", type=Path, default=None, help="a folder in which failing cases are stored")
    return parser.parse_args()


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
    except KeyboardInterrupt:
        print("stopped; the same trials again: the same command with --seed and the number above", file=sys.stderr)
        sys.exit(STOPPED)
