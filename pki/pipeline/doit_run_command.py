"""doit's own command `run`, with our processes for `-n` and the confirmation of the clock."""

from __future__ import annotations

from functools import wraps
from typing import Any

from doit.cmd_base import Command
from doit.cmd_run import Run
from doit.control import TaskControl
from doit.exceptions import InvalidDodoFile
from doit.task import Stream

from pki.common.child_processes import enable_interrupts
from pki.pipeline.doit_workers import ParallelRunner

CLOCK_IS_RIGHT = {
    "name": "clock_is_right",
    "short": "",
    "long": "clock-is-right",
    "type": bool,
    "default": False,
    "help": "confirm at a terminal that the clock is right, where neither hosts nor the kernel confirm it",
}


class NoDatabaseCommand(Command):  # type: ignore[misc]
    """A placeholder for the commands of doit that use its database, which this program does not have."""

    doc_purpose = "not available: there is no database"
    doc_usage = ""
    doc_description = None

    def execute(self, _options: Any, _arguments: Any) -> int:
        """Raise InvalidDodoFile, for which doit exits with status 3."""
        hint = "./run doit info NAME shows what is out of date; ./run invoke renew NAME issues a certificate again"
        raise InvalidDodoFile(f"there is no database: doit compares each file with pki.yaml whenever it runs\n→ {hint}")


class RunCommand(Run):  # type: ignore[misc]
    """The command `run` of doit.

    In its configuration, `lock` locks the project and `confirm_clock` asks about the clock. Where the program is
    installed, doit uses this class for every dodo.py of the environment: without a `lock` it is doit's own command.
    """

    name = "run"
    cmd_options = (*Run.cmd_options, CLOCK_IS_RIGHT)

    def execute(self, params: Any, args: Any) -> Any:
        """Run the tasks under the lock of the project."""
        enable_interrupts()
        self.loader.setup(params)
        config = self.loader.load_doit_config()
        self.is_ours = "lock" in config
        if not self.is_ours:
            return super().execute(params, args)
        if params["clock_is_right"]:
            config["confirm_clock"]()
        with config["lock"]():
            return super().execute(params, args)

    @wraps(Run._execute)  # noqa: SLF001 - doit lets commands override it, and reads the options it needs from its signature
    def _execute(self, **options: Any) -> int:
        if not self.is_ours:
            return int(super()._execute(**options))
        if not options["num_process"] or options["single"]:
            status: int = super()._execute(**{**options, "num_process": 0})
            return status
        self.control = TaskControl(self.task_list)
        self.control.process(self.sel_tasks)
        stream = Stream(options["verbosity"], options["force_verbosity"])
        runner = ParallelRunner(self.dep_manager, options["reporter"], options["continue_"], options["always"], stream)
        runner.most = options["num_process"]
        return int(runner.run_all(self.control.task_dispatcher()))
