"""`python -m tests.mutants [MODULE …]`: change the program in one place after another, and print what no test notices."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections import defaultdict

from tests.mutants import changes, equivalent, executed, runner, shell

MODULES = (
    "x509", "authority", "ledger", "project/layout", "common/filesystem", "ceremony", "deploy",
    "monitor/checks", "config/validation", "config/fields", "config/name_fields", "config/time_fields", "config/delivery_window",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="invoke mutants", allow_abbrev=False)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="files or folders below pki/")
    parser.add_argument("--seed", type=int, default=None, help="the seed of an earlier run, to repeat it")
    parser.add_argument("--at-most", type=int, default=40, help="changes of each MODULE (0: all)")
    parser.add_argument("--stored", action="store_true", help="do not measure the test files that changed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="changes tried at once")
    return parser.parse_args()


def tell(verdict: runner.Verdict) -> None:
    """Print a change that no test noticed, past what pytest does with the output of its tests."""
    if not verdict.noticed:
        print(f"{verdict.how} ({verdict.tests} tests): {verdict.change}", flush=True, file=sys.__stdout__)


def main() -> int:
    asked = arguments()
    seed = secrets.randbelow(1 << 31) if asked.seed is None else asked.seed
    names = asked.modules or list(MODULES)
    files = {name: changes.modules([name]) for name in names}
    if not asked.stored and shell.CONFINED not in os.environ:
        executed.measure(asked.jobs)
    if any(changes.is_shell(path) for paths in files.values() for path in paths):
        shell.confine(executed.STORE / "box", sys.argv[1:])
    measured = executed.read({path for paths in files.values() for path in paths})
    print(f"seed {seed}", flush=True)
    explained: dict[str, int] = defaultdict(int)
    of_name: dict[runner.Change, str] = {}
    jobs: list[runner.Job] = []
    for name, paths in files.items():
        for change in changes.drawn(paths, seed, asked.at_most or sys.maxsize):
            if equivalent.is_explained(change):
                explained[name] += 1
            elif change not in of_name:
                of_name[change] = name
                jobs.append(runner.job(change, measured))
    started = time.monotonic()
    verdicts = runner.run(jobs, measured, asked.jobs, tell)
    for name in names:
        own = [verdict for verdict in verdicts if of_name[verdict.change] == name]
        noticed = sum(verdict.noticed for verdict in own)
        score = f"{100 * noticed / len(own):.0f} %" if own else "no changes"
        print(f"{name:20} {score:>6}  {noticed} of {len(own)} noticed, {explained[name]} equivalent")
    print(f"{len(verdicts)} changes in {time.monotonic() - started:.0f} s; again: --seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
