"""The code that depends on features of doit 0.37 that its documentation does not describe.

tests/pipeline/test_doit_features.py has a test for each of these features, which fails when a new doit lacks it:

- `Run._execute`: doit passes the options that its signature names;
- `Runner`, `TaskControl` and its dispatcher, which the parallel runner drives step by step;
- `Task`: its checks of types, its groups of subtasks, and its state as a dictionary;
- the keys under which doit looks for the state of a task in its database;
- `CmdParseError`, raised while doit handles the error that says what is wrong with the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from getopt import GetoptError
from typing import Any

from doit.cmd_base import Command
from doit.cmd_run import Run
from doit.cmdparse import CmdParseError
from doit.control import TaskControl
from doit.dependency import FileChangedChecker
from doit.exceptions import InvalidDodoFile, TaskFailed
from doit.runner import Runner
from doit.task import Stream, Task

from pki.common.child_processes import enable_interrupts
from pki.common.errors import ErrorCode, PkiError
from pki.config.identifiers import ArtifactId
from pki.pipeline.worker_processes import Workers


class Failed(TaskFailed):
    """The failure of a task: messages and hints, one per line, the code of the error, and what the error is about."""

    def __init__(self, message: str, hint: str = "", code: ErrorCode = ErrorCode.OTHER, about: str = "") -> None:
        super().__init__(message)
        self.hint, self.code, self.about = hint, code, about

    @classmethod
    def of(cls, error: PkiError) -> Failed:
        """Return the failure for an error."""
        return cls(error.message, error.hint, error.code, error.about)


CLOCK_IS_RIGHT = {
    "name": "clock_is_right",
    "short": "",
    "long": "clock-is-right",
    "type": bool,
    "default": False,
    "help": "confirm at a terminal that the clock is right, where neither hosts nor the kernel confirm it",
}


TAKE_OVER = {
    "name": "take_over",
    "short": "",
    "long": "take-over",
    "type": bool,
    "default": False,
    "help": "let this machine run doit from now on, instead of the machine of the last run (ledger on PostgreSQL)",
}


class NoDatabaseCommand(Command):
    """A placeholder for the commands of doit that use its database, which this program does not have."""

    doc_purpose = "not available: there is no database"
    doc_usage = ""
    doc_description = None

    def execute(self, _options: Any, _arguments: Any) -> int:
        """Raise InvalidDodoFile, for which doit exits with status 3."""
        hint = "./run doit info NAME shows what is out of date; ./run invoke renew NAME issues a certificate again"
        raise InvalidDodoFile(f"there is no database: doit compares each file with pki.yaml whenever it runs\n→ {hint}")


class RunCommand(Run):
    """The command `run` of doit.

    In its configuration, `lock` locks the project, `confirm_clock` asks about the clock, and `take_over` makes this
    machine the one that runs doit. Where the program is
    installed, doit uses this class for every dodo.py of the environment: without a `lock` it is doit's own command.
    """

    name = "run"
    cmd_options = (*Run.cmd_options, CLOCK_IS_RIGHT, TAKE_OVER)

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse the arguments and run. Raises CmdParseError in one sentence: that of doit lists all its option objects."""
        try:
            return super().parse_execute(in_args)
        except CmdParseError as error:
            cause = error.__context__
            what = f"{cause}" if isinstance(cause, GetoptError) else f"an option has a wrong value: {cause}"
            raise CmdParseError(f"{what}\n→ {self.bin_name} --help") from None

    def execute(self, params: Any, args: Any) -> Any:
        """Run the tasks under the lock of the project."""
        enable_interrupts()
        self.loader.setup(params)  # doit does it later too, but the lock is needed before it reads pki.yaml
        config = self.loader.load_doit_config()
        self.is_ours = "lock" in config
        if not self.is_ours:
            return super().execute(params, args)
        if params["clock_is_right"]:
            config["confirm_clock"]()
        if params["take_over"]:
            config["take_over"]()
        with config["lock"]():
            return super().execute(params, args)

    @wraps(Run._execute)  # noqa: SLF001 - doit lets commands override it, and reads the options it needs from its signature
    def _execute(self, **options: Any) -> int:
        if not self.is_ours:
            return int(super()._execute(**options))
        is_sequential = not options["num_process"] or options["single"]
        if is_sequential:
            status: int = super()._execute(**{**options, "num_process": 0})
            return status
        self.control = TaskControl(self.task_list)
        self.control.process(self.sel_tasks)
        stream = Stream(options["verbosity"], options["force_verbosity"])
        runner = ParallelRunner(self.dep_manager, options["reporter"], options["continue_"], options["always"], stream)
        runner.process_limit = options["num_process"]
        return int(runner.run_all(self.control.task_dispatcher()))


class ParallelRunner(Runner):
    """A runner that executes up to `process_limit` tasks at once, each in a worker process.

    doit's own parallel runner shares two queues among its processes. The semaphores of these queues need /dev/shm, and
    the runner waits forever for a process that was killed.
    """

    process_limit = 1

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Execute every task that is out of date, each after the tasks that it depends on."""
        self._tasks = task_dispatcher.tasks
        workers = Workers(self._execute_named, self.reporter.before_fork, self.reporter.join_current_run)
        nodes: dict[str, Any] = {}  # of the tasks that are being executed
        ended_node = None
        try:
            while True:
                while len(nodes) < self.process_limit:
                    node, ended_node = self._next(task_dispatcher.generator, ended_node), None
                    if node is None:
                        break
                    nodes[node.task.name] = node
                    workers.assign(node.task.name)
                if not nodes:
                    break
                name, result, exit_description = workers.next_result()
                ended_node = nodes.pop(name)
                self._report(ended_node, result, exit_description)
        finally:
            workers.end_all()

    def _next(self, dispatcher: Generator[Any, Any, Any], ended_node: Any) -> Any:
        """Return the next node whose task must be executed; None when there is none until another task ends.

        The dispatcher receives the node that has ended, or None, and yields the next one. A node that needs no execution
        has ended at once.
        """
        while not self._stop_running:
            try:
                node = dispatcher.send(ended_node)
            except StopIteration:
                return None
            if node == "hold on":  # every other task waits for one that is being executed
                return None
            if self.select_task(node, self._tasks):
                if not node.task.has_subtask:
                    return node
                self.process_task_result(node, None)  # a group task has no actions
            ended_node = node
        return None

    def _execute_named(self, name: str) -> tuple[dict[str, Any], Any]:
        """Execute a task in a worker; return its changed state, and its failure or None."""
        task = self._tasks[name]
        failure = task.execute(self.stream)
        return task.pickle_safe_dict(), failure

    def _report(self, node: Any, result: tuple[dict[str, Any], Any] | None, exit_description: str) -> None:
        """Report a task that ended; `result` is None if its worker ended first, which fails only this task."""
        if result is None:
            failure = Failed(f"its worker process {exit_description}", "./run doit, with fewer processes (-n 2)")
        else:
            changed, failure = result
            node.task.update_from_pickle(changed)
        self.reporter.discard_cached(node.task.name)
        self.process_task_result(node, failure)


class ArtifactTask(Task):
    """A doit task without its type checks: mypy has checked the types."""

    @staticmethod
    def check_attr(*_: object) -> None:
        """Check nothing: doit would do 19 checks for each of the tasks of ten thousand hosts."""


def group_task(name: str, doc: str) -> Task:
    """Return a task without actions, for the artifacts of one kind; each is added to its `task_dep`."""
    return Task(name, None, doc=doc, has_subtask=True)


def artifact_task(
    artifact: ArtifactId,
    action: Callable[[], object],
    is_up_to_date: Callable[[], bool],
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    doc: str,
) -> Task:
    """Return the task that makes an artifact, as a subtask of the group task of its kind."""
    task = ArtifactTask(artifact, [action], file_dep=sources, targets=targets, uptodate=[is_up_to_date], doc=doc)
    task.subtask_of = artifact.kind
    return task


class NoDatabase:
    """A doit backend without storage: every source counts as known, and the artifact decides."""

    def __init__(self, name: str, **_options: object) -> None:
        self.name = name

    def get(self, _task: str, key: str) -> Any:
        """Return the value for which doit considers every source unchanged.

        Under a key that ends in a colon doit looks for other things, for example the values of a task, which are not kept.
        """
        return None if key.endswith(":") else True

    def set(self, _task: str, _key: str, _value: Any) -> None:
        """Store nothing."""

    def in_(self, _task: str) -> bool:
        """Return that no task is stored."""
        return False

    def remove(self, _task: str) -> None:
        """Remove nothing."""

    def remove_all(self) -> None:
        """Remove nothing."""

    def dump(self) -> None:
        """Write nothing."""


class NoFileChecks(FileChangedChecker):
    """A doit checker that never reads sources or targets: the artifact checks them."""

    def exists(self, _path: str) -> bool:
        """Return that the file exists."""
        return True

    def info(self, _path: str) -> None:
        """Return no information about the file."""
        return

    def check_modified(self, _path: str, _stat: Any, _state: Any) -> bool:
        """Return that the file is unchanged."""
        return False

    def get_state(self, _path: str, _current: Any) -> None:
        """Return no state to store."""
        return
