"""doit's own command `run`, with our processes behind `-n` and the confirmation of the clock."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from functools import wraps
from typing import Any

from doit.cmd_base import Command
from doit.cmd_run import Run
from doit.control import TaskControl
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile
from doit.task import Stream

from pki.pipeline.workers import ParallelRunner
from pki.processes import hear_interrupts

CLOCK_IS_RIGHT = {
    "name": "clock_is_right",
    "short": "",
    "long": "clock-is-right",
    "type": bool,
    "default": False,
    "help": "confirm at a terminal that the clock is right, where the ledger, the hosts and the kernel leave it in doubt",
}


PLUGINS = {  # in pyproject.toml too, for a doit that is started itself
    "BACKEND": {"artifacts": "pki.pipeline:NoDatabase"},
    "COMMAND": {
        "run": "pki.pipeline.run_command:RunCommand",
        **dict.fromkeys(
            ("forget", "ignore", "dumpdb", "reset-dep", "strace"), "pki.pipeline.run_command:NoDatabaseCommand"
        ),
    },
}
PRINTING = {"help", "list", "info", "tabcompletion"}  # commands of doit that only print


def main(arguments: list[str]) -> int:
    """Run doit over the dodo.py of the present folder; returns its exit status."""
    name = next(iter(arguments), "")
    if {"-h", "--help"} & set(arguments):
        arguments = ["help", name if name in {*PRINTING, *PLUGINS["COMMAND"]} else "run"]
    output = io.StringIO() if arguments and arguments[0] in PRINTING else sys.stdout
    with redirect_stdout(output):  # doit has a traceback where standard output is closed, or a disk full
        status: int = _Doit(extra_config=PLUGINS).run(arguments)
    if isinstance(output, io.StringIO):
        print(output.getvalue(), end="", flush=True)
    return status


class _Doit(DoitMain):  # type: ignore[misc]
    BIN_NAME = "./run doit"


class NoDatabaseCommand(Command):  # type: ignore[misc]
    """Stands for the commands of doit about its database, which this program runs without."""

    doc_purpose = "not here: there is no database"
    doc_usage = ""
    doc_description = None

    def execute(self, _options: Any, _arguments: Any) -> int:
        """Raises InvalidDodoFile, for which doit exits with 3."""
        hint = "./run doit info NAME says what is out of date; ./run invoke renew NAME issues a certificate again"
        raise InvalidDodoFile(f"there is no database: doit compares each file with pki.yaml whenever it runs\n→ {hint}")


class RunCommand(Run):  # type: ignore[misc]
    """The `run` command of doit: `hold` in its configuration holds the project, `confirm_clock` asks about the clock."""

    name = "run"
    cmd_options = (*Run.cmd_options, CLOCK_IS_RIGHT)

    def execute(self, params: Any, args: Any) -> Any:
        hear_interrupts()
        self.loader.setup(params)
        config = self.loader.load_doit_config()
        if params["clock_is_right"]:
            config["confirm_clock"]()
        with config["hold"]():
            return super().execute(params, args)

    @wraps(Run._execute)  # noqa: SLF001 - which doit lets commands override; doit reads from the signature which options are wanted
    def _execute(self, **options: Any) -> int:
        if not options["num_process"] or options["single"]:
            status: int = super()._execute(**{**options, "num_process": 0})
            return status
        self.control = TaskControl(self.task_list)
        self.control.process(self.sel_tasks)
        stream = Stream(options["verbosity"], options["force_verbosity"])
        runner = ParallelRunner(self.dep_manager, options["reporter"], options["continue_"], options["always"], stream)
        runner.most = options["num_process"]
        return int(runner.run_all(self.control.task_dispatcher()))
