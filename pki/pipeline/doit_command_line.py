"""The command line `./run doit`."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout

from doit.doit_cmd import DoitMain

from pki.pipeline.doit_tasks import PLUGINS

PRINTING = {"help", "list", "info", "tabcompletion"}  # commands of doit that only print


def main(arguments: list[str]) -> int:
    """Run doit with the dodo.py in the current folder; return its exit status."""
    name = next(iter(arguments), "")
    if {"-h", "--help"} & set(arguments):
        arguments = ["help", name if name in {*PRINTING, *PLUGINS["COMMAND"]} else "run"]
    output = io.StringIO() if arguments and arguments[0] in PRINTING else sys.stdout
    with redirect_stdout(output):  # doit prints a traceback when standard output is closed or the disk full
        status: int = _Doit(extra_config=PLUGINS).run(arguments)
    if isinstance(output, io.StringIO):
        print(output.getvalue(), end="", flush=True)
    return status


class _Doit(DoitMain):  # type: ignore[misc]
    BIN_NAME = "./run doit"
