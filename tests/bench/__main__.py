"""python -m tests.bench [NAMES] [--hosts N] [--quick] [--ansible DIR]: see README.md beside this file."""

from __future__ import annotations

import argparse
import signal
import tempfile
from pathlib import Path

from tests.bench.cases import CASES, Bench
from tests.bench.measure import Broken
from tests.bench.table import console, show

HOSTS, QUICK = 1000, 10


def main() -> None:
    """Run the benchmarks that were asked for, each with its own table; the exit status is 0 whatever they find."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all when none is named")
    parser.add_argument("--hosts", type=int, default=HOSTS, help="hosts of a first build; ten times as many to scale")
    parser.add_argument("--ansible", type=Path, metavar="DIR", help="an environment that has ansible and pyinfra")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - CASES.keys():
        parser.error(f"{', '.join(sorted(unknown))}: expected one of {', '.join(CASES)}")
    hosts = max(wanted.hosts // QUICK if wanted.quick else wanted.hosts, QUICK)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder is removed then, too
    out = console()
    with tempfile.TemporaryDirectory(prefix="doit-pki-bench-") as folder:
        bench = Bench(Path(folder), hosts, lambda text: out.print(f"... {text}", style="dim"), wanted.ansible)
        for name in wanted.names or CASES:
            bench.say(name)
            try:
                show(CASES[name](bench), out)
            except Broken as failure:
                out.print(f"{name}: no figures: {failure}", markup=False)


if __name__ == "__main__":
    main()
