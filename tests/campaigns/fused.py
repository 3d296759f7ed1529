"""Run `doit` or `invoke`, and kill this process before its n-th change of the disk.

`python -m tests.campaigns.fused replace,fsync:12 doit`. A forked process goes on counting by itself. With the number 0
nothing is killed, and the count is printed on standard error.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

CALLS = ("replace", "rename", "fsync", "write", "mkdir", "unlink", "rmdir", "link", "ftruncate")


class Fuse:
    """Counts calls, and blows at one of them."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counted


def main() -> None:
    names, _, number = sys.argv[1].rpartition(":")
    fuse = Fuse(int(number))
    for name in names.split(",") if names else CALLS:
        setattr(os, name, fuse.around(getattr(os, name)))
    sys.argv = sys.argv[2:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        if not fuse.last:
            os.write(2, f"\n{fuse.count} changes\n".encode())


if __name__ == "__main__":
    main()
