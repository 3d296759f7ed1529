"""Worker processes that execute tasks by name, and end with the run.

Each worker has its own pipe, so that a worker that is killed stops only its own task.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from pki.common.child_processes import end_with_parent, exit_description

FORK = get_context("fork")
CLEANUP_TIMEOUT = 10.0  # seconds for a worker after the run was interrupted


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that executes one task after the other; `pipe` is this process's end of the pipe to it."""

    process: Any
    pipe: Connection[Any, Any]


class Workers:
    """The workers of a run. A worker is forked from this process when a task needs it.

    `execute` takes the name of a task and returns its result; it runs in a worker. `before_fork` is called in this
    process before each fork. `join_current_run` is called in the new worker, which ends at once if `join_current_run` returns False.
    """

    def __init__(
        self, execute: Callable[[str], object], before_fork: Callable[[], None], join_current_run: Callable[[], bool]
    ) -> None:
        self._execute = execute
        self._before_fork = before_fork
        self._join_run = join_current_run
        self._idle: list[Worker] = []
        self._busy: dict[Connection[Any, Any], tuple[Worker, str]] = {}

    def assign(self, name: str) -> None:
        """Let an idle worker, or a new one, execute a task."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy[worker.pipe] = (worker, name)
        worker.pipe.send(name)

    def _start(self) -> Worker:
        self._before_fork()
        our_end, worker_end = Pipe()
        inherited = [our_end, *self._busy, *(worker.pipe for worker in self._idle)]
        arguments = (worker_end, inherited, os.getpid(), self._join_run, self._execute)
        process = FORK.Process(target=_work, args=arguments)
        process.start()
        worker_end.close()  # so that reading from `our_end` fails once the worker has ended
        return Worker(process, our_end)

    def next_result(self) -> tuple[str, Any, str]:
        """Wait until a task ends; return its name and result.

        If its worker was killed, the result is None, and the third value describes how the worker ended.
        """
        ready = wait(list(self._busy))
        worker, name = self._busy.pop(next(pipe for pipe in self._busy if pipe in ready))  # the one started first
        try:
            result = worker.pipe.recv()
        except (EOFError, OSError):
            worker.pipe.close()
            worker.process.join()
            return name, None, exit_description(worker.process.exitcode)
        self._idle.append(worker)
        return name, result, ""

    def end_all(self) -> None:
        """End every worker: idle ones at once, the others after they have cleaned up."""
        busy_workers = [worker for worker, _ in self._busy.values()]
        for worker in busy_workers:
            if worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        for worker in (*busy_workers, *self._idle):
            worker.pipe.close()
            worker.process.join(CLEANUP_TIMEOUT)
            worker.process.kill()
            worker.process.join()


def _work(
    pipe: Connection[Any, Any],
    inherited: list[Connection[Any, Any]],
    parent: int,
    join_current_run: Callable[[], bool],
    execute: Callable[[str], object],
) -> None:
    """Execute in a worker each task whose name comes through the pipe, until the pipe is closed.

    `inherited` are the ends of pipes that the fork copied. Open copies would keep the pipes of other workers alive.
    """
    end_with_parent(parent)
    signal.signal(signal.SIGINT, _interrupt_once)
    for connection in inherited:
        connection.close()
    if not join_current_run():
        return
    try:
        while True:
            pipe.send(execute(pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _interrupt_once(_number: int, _frame: object) -> None:
    """Raise KeyboardInterrupt, and ignore every later signal, which would interrupt the cleanup.

    A second signal is normal: Ctrl-C at a terminal reaches the whole process group, and the run signals its workers too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
