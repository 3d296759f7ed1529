"""The command line of doit, as `./run doit` and `doit-pki doit` start it."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from runpy import run_path

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from pki.common.program_files import PROGRAM
from pki.common.remedies import as_started
from pki.pipeline.doit_tasks import PLUGINS

PRINTING = {"help", "list", "info", "tabcompletion"}  # commands of doit that only print


def main(arguments: list[str]) -> int:
    """Run doit with the program's dodo.py, wherever the project is; return the exit status."""
    name = next(iter(arguments), "")
    if {"-h", "--help"} & set(arguments):
        arguments = ["help", name if name in {*PRINTING, *PLUGINS["COMMAND"]} else "run"]
    # The output of printing commands is collected first: doit prints a traceback if it cannot write to standard output.
    output = io.StringIO() if arguments and arguments[0] in PRINTING else sys.stdout
    with redirect_stdout(output):
        status: int = _Doit(ModuleTaskLoader(run_path(str(PROGRAM / "dodo.py"))), (), PLUGINS).run(arguments)
    if isinstance(output, io.StringIO):
        print(output.getvalue(), end="", flush=True)
    return status


class _Doit(DoitMain):  # type: ignore[misc]
    BIN_NAME = as_started("./run doit")
