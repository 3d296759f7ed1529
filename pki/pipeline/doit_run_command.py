"""doit's own command `run`, with our processes behind `-n` and the confirmation of the clock."""

from __future__ import annotations

from functools import wraps
from typing import Any

from doit.cmd_base import Command
from doit.cmd_run import Run
from doit.control import TaskControl
from doit.exceptions import InvalidDodoFile
from doit.task import Stream

from pki.common.child_processes import hear_interrupts
from pki.pipeline.doit_workers import ParallelRunner

CLOCK_IS_RIGHT = {
    "name": "clock_is_right",
    "short": "",
    "long": "clock-is-right",
    "type": bool,
    "default": False,
    "help": "confirm at a terminal that the clock is right, where the ledger, the hosts and the kernel leave it in doubt",
}


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
