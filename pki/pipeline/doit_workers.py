"""Run doit's tasks in several processes (`doit -n`), which end with the run.

The runner of doit shares two queues among its processes. Their semaphores need /dev/shm, and it waits forever for a
process that was killed. Here each process has its own pipe.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from doit.exceptions import TaskFailed
from doit.runner import Runner

from pki.common.child_processes import end_with_parent, exit_description
from pki.common.errors import ErrorCode, PkiError

FORK = get_context("fork")
CLEANUP_TIMEOUT = 10.0  # seconds for a worker after the run was interrupted


class Failed(TaskFailed):  # type: ignore[misc]
    """The failure of a task: messages and hints, one per line, and the code of the error."""

    def __init__(self, message: str, hint: str = "", code: ErrorCode = ErrorCode.OTHER, about: str = "") -> None:
        super().__init__(message)
        self.hint, self.code, self.about = hint, code, about

    @classmethod
    def of(cls, error: PkiError) -> Failed:
        """Return the failure for an error."""
        return cls(error.message, error.hint, error.code, error.about)


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that executes one task after the other; `pipe` is our end of its pipe."""

    process: Any
    pipe: Connection[Any, Any]


class ParallelRunner(Runner):  # type: ignore[misc]
    """A runner that executes up to `most` tasks at once, each in a process that is started when needed."""

    most = 1

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Execute every task that is out of date, each after the tasks that it depends on."""
        self._tasks = task_dispatcher.tasks
        self._idle: list[Worker] = []
        self._busy: dict[Connection[Any, Any], tuple[Worker, Any]] = {}
        done = None
        try:
            while True:
                while len(self._busy) < self.most:
                    node, done = self._next(task_dispatcher.generator, done), None
                    if node is None:
                        break
                    self._assign(node)
                if not self._busy:
                    break
                done = self._collect()
        finally:
            self._end_all()

    def _next(self, nodes: Generator[Any, Any, Any], done: Any) -> Any:
        """Return the next task to execute; None when there is none until another task ends."""
        while not self._stop_running:
            try:
                done = nodes.send(done)
            except StopIteration:
                return None
            if done == "hold on":
                return None
            if self.select_task(done, self._tasks):
                if not done.task.has_subtask:
                    return done
                self.process_task_result(done, None)  # a group task has no actions
        return None

    def _assign(self, node: Any) -> None:
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[worker.pipe] = (worker, node)
        worker.pipe.send(node.task.name)

    def _start(self) -> Worker:
        self.reporter.before_fork()
        ours, theirs = Pipe()
        others = [ours, *self._busy, *(worker.pipe for worker in self._idle)]
        arguments = (theirs, others, os.getpid(), self.reporter.join_run, self._execute_named)
        process = FORK.Process(target=_work, args=arguments)
        process.start()
        theirs.close()
        return Worker(process, ours)

    def _execute_named(self, name: str) -> tuple[dict[str, Any], Any]:
        """Execute a task in a worker; return its changed state, and its failure or None."""
        task = self._tasks[name]
        failure = task.execute(self.stream)
        return task.pickle_safe_dict(), failure

    def _collect(self) -> Any:
        """Wait until a task ends, and report it. A worker that was killed fails only its own task."""
        ready = wait(list(self._busy))
        worker, node = self._busy.pop(next(pipe for pipe in self._busy if pipe in ready))
        try:
            changed, failure = worker.pipe.recv()
        except (EOFError, OSError):
            worker.pipe.close()
            worker.process.join()
            ending = exit_description(worker.process.exitcode)
            failure = Failed(f"its worker process {ending}", "./run doit, with fewer processes (-n 2)")
        else:
            node.task.update_from_pickle(changed)
            self._idle.append(worker)
        self.reporter.forget(node.task.name)
        self.process_task_result(node, failure)
        return node

    def _end_all(self) -> None:
        """End every worker: idle ones at once, the others after they have cleaned up."""
        unfinished = [worker for worker, _ in self._busy.values()]
        for worker in unfinished:
            if worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        for worker in (*unfinished, *self._idle):
            worker.pipe.close()
            worker.process.join(CLEANUP_TIMEOUT)
            worker.process.kill()
            worker.process.join()


def _work(
    pipe: Connection[Any, Any],
    others: list[Connection[Any, Any]],
    parent: int,
    join_run: Callable[[], bool],
    execute: Callable[[str], object],
) -> None:
    """Execute in a worker each task whose name comes through the pipe, until that is closed."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, _interrupt_once)
    for other in others:
        other.close()
    if not join_run():
        return
    try:
        while True:
            pipe.send(execute(pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _interrupt_once(_number: int, _frame: object) -> None:
    """Raise KeyboardInterrupt once.

    Ctrl-C at a terminal signals the whole group, and the run signals its workers too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
