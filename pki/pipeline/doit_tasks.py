"""Artifacts → doit tasks, one for one. Above this, nobody knows certificates; below it, nobody knows doit.

doit orders the tasks (`file_dep`, `targets`), runs them, also in parallel, and reports. Whether one must run is asked
of the artifact itself and of nothing else, so `invoke plan` and `doit` always agree, and there is no database whose
loss could matter.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from doit.cmd_base import ModuleTaskLoader
from doit.dependency import FileChangedChecker
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile
from doit.task import Task

from pki.common.errors import InventoryError, PkiError, of_any
from pki.common.reasons import UNCHANGED, Outcome, Reason, joined
from pki.config.model import Inventory
from pki.pipeline import clock_confirmation, delivery_targets, plan
from pki.pipeline.artifact import Artifact
from pki.pipeline.desired_state import Note
from pki.pipeline.doit_workers import Failed
from pki.pipeline.plan import Plan
from pki.pipeline.reporter import Monitor, Reporter
from pki.project.clock_guard import Evidence
from pki.project.layout import Store
from pki.project.project import Project
from pki.project.safe_directories import insist_on_owner

PLUGINS = {  # in pyproject.toml too, for a doit that is started itself
    "BACKEND": {"artifacts": "pki.pipeline.doit_tasks:NoDatabase"},
    "COMMAND": {
        "run": "pki.pipeline.doit_run_command:RunCommand",
        **dict.fromkeys(
            ("forget", "ignore", "dumpdb", "reset-dep", "strace"), "pki.pipeline.doit_run_command:NoDatabaseCommand"
        ),
    },
}

GROUPS = {
    "authority": "root, server and client authority",
    "ceremony": "what the next root ceremony is asked for",
    "crl": "certificate revocation lists",
    "bundle": "trust and CRL bundles",
    "page": "what people are told at the publishing address",
    "cert": "certificates with their keys and chains",
    "template": "files below templates/ that cannot be read",
    "release": "every file of a host, gathered",
    "deploy": "releases delivered to their hosts",
    "cleanup": "what left the inventory, taken away",
}


class Refused(Protocol):
    """Tells those who should know that nothing was done; returns what became of each message."""

    def __call__(
        self, home: Path, now: datetime, error: PkiError, inventory: Inventory | None, /, *, is_read: bool
    ) -> list[dict[str, str]]: ...


@dataclass(frozen=True, slots=True)
class EndOfRun:
    """What happens at the end of a run: the entry points give it to the pipeline, which knows no pages and no mail.

    `notes` are the actions that are required of people, `calendar` writes what people must do in the years to come and
    returns the files that it wrote, `monitor` looks at the whole project, `refused` tells that nothing was done.
    """

    notes: Callable[[Project, Plan], Iterable[Note]]
    calendar: Callable[[Project, Plan], list[str]]
    monitor: Callable[[Callable[[], Project], Callable[[], Plan]], Monitor]
    refused: Refused


class DoitRun:
    """One run of doit over one project: `config` and `tasks` are what a dodo.py gives to doit.

    One that `is_part` of what a command does has nothing to say where there was nothing to do.
    """

    def __init__(
        self,
        home: Path,
        now: datetime,
        end: EndOfRun,
        evidence: Callable[[Project], Evidence] = delivery_targets.clock_evidence,
        *,
        is_part: bool = False,
    ) -> None:
        gc.disable()  # tasks by the ten thousand are no garbage, and looking through them again and again costs a fifth
        self._home = home
        self._now = now
        self._end = end
        self._evidence = evidence
        self._is_held = False
        self._reporter = Reporter(
            lambda: self.project,
            lambda: end.notes(self.project, self.plan),
            lambda: end.calendar(self.project, self.plan),
            end.monitor(lambda: self.project, lambda: self.plan),
            lambda: self._is_held,
            is_part=is_part,
        )
        self.config: dict[str, Any] = {
            "backend": "artifacts",  # NoDatabase, by the plugin entry in pyproject.toml
            "check_file_uptodate": AskTheArtifact,
            "dep_file": str(home / "build" / ".doit.db"),
            "continue": True,
            "confirm_clock": self.confirm_clock,
            "hold": self.hold,
            "verbosity": 0,
            "reporter": self._reporter,
        }

    @property
    def report(self) -> Mapping[str, Any]:
        """What this run did, as it is written into build/report/status.json; empty when nothing was done."""
        return self._reporter.report

    @cached_property
    def project(self) -> Project:
        return Project.open(self._home, self._now, self._evidence)

    @cached_property
    def plan(self) -> Plan:
        return plan.plan(self.project)

    def tasks(self) -> Iterator[Task]:
        """A group task for each kind of artifact, and a task for each artifact.

        Raises InvalidDodoFile, for which doit exits with 3 before anything is run.
        """
        try:
            insist_on_owner(self._home)
        except PkiError as error:  # nothing is read there, and nothing written
            raise InvalidDodoFile(_refusal(error)) from None
        try:
            self.project.insist_on_roots()
            self.project.store.insist_on_locks()
            artifacts = self.plan.artifacts
        except InventoryError as error:
            raise self._nothing(error, f"pki.yaml is invalid; nothing was done\n{error}") from None
        except Exception as error:  # noqa: BLE001 - a bug in planning is told as everything else is
            found = of_any(error)
            raise self._nothing(found, _refusal(found)) from None
        tasks = {name: Task(name, None, doc=doc, has_subtask=True) for name, doc in GROUPS.items()}
        for artifact in artifacts:
            task = tasks[artifact.id] = _task(artifact)
            tasks[task.subtask_of].task_dep.append(task.name)
        # Held to the end: the operating system takes ten thousand hosts' tasks back at once, Python one by one.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(tasks))
        yield from tasks.values()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the project alone from before pki.yaml is read: what an edit or another command changed until then counts.

        Where it cannot be held, or was never run, `tasks` says what is wrong, or the reporter holds it.
        """
        with ExitStack() as stack:
            with suppress(PkiError):
                insist_on_owner(self._home)
                if (store := Store(self._home)).ca.is_dir():
                    stack.enter_context(store.lock())
                    self._is_held = True
            yield

    def confirm_clock(self) -> None:
        """Ask whether the clock is right. Raises InvalidDodoFile, for which doit exits with 3, if it is not confirmed.

        A project that cannot be opened is left to `tasks`, which says all that is wrong with it.
        """
        with suppress(PkiError):
            self.project  # noqa: B018 - opened
        if "project" in self.__dict__:
            try:
                clock_confirmation.confirm(self.project)
            except PkiError as error:
                raise InvalidDodoFile(str(error)) from None
            del self.project  # it is read again once it is held

    def _nothing(self, error: PkiError, said: str) -> InvalidDodoFile:
        """That nothing can be run, which the status page says, and a mail where nobody reads it at a terminal."""
        said_by = None
        if "project" in vars(self):
            with suppress(PkiError):  # what cannot be read is the error itself
                said_by = self.project.inventory if self.project.missing_roots else None
            self.project.close_ledger()
        try:
            told = self._end.refused(self._home, self._now, error, said_by, is_read=sys.stderr.isatty())
        except PkiError as unsaid:  # nobody can be told, as on a file system that is read-only
            told = [{"channel": "all", "error": unsaid.message}]
        said += "".join(f"\nalerts:{one['channel']}: {one['error']}" for one in told if one["error"])
        return InvalidDodoFile(said)

    def main(self, arguments: Sequence[str]) -> int:
        """Run doit in this process with these command-line arguments; returns its exit status."""
        doors = {"DOIT_CONFIG": self.config, "task_pki": self.tasks}
        try:
            status: int = DoitMain(ModuleTaskLoader(doors), (), PLUGINS).run(list(arguments))
        except SystemExit:  # by the reporter
            return 1
        return status


def _refusal(error: PkiError) -> str:
    return f"nothing was done: {error.message}" + (f"\n→ {error.hint}" if error.hint else "")


def _task(artifact: Artifact) -> Task:
    keeper = Keeper(artifact)
    task = ArtifactTask(
        artifact.id,
        [keeper.act],
        file_dep=artifact.sources,
        targets=artifact.targets,
        uptodate=[keeper],
        doc=artifact.doc,
    )
    task.subtask_of = artifact.id.kind
    return task


class ArtifactTask(Task):
    """A doit task whose parts are of the right types because mypy says so."""

    @staticmethod
    def check_attr(*_: object) -> None:
        """Nothing is left to check, nineteen times for each of ten thousand hosts' tasks."""


class Keeper:
    """What doit asks and calls for one artifact: as `uptodate` it answers, and reads as, the reasons to act."""

    __slots__ = ("_artifact", "_reasons")
    __signature__: ClassVar = inspect.Signature()  # spares doit the search for one, ten thousand times

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._reasons: list[Reason] = []

    def __call__(self) -> bool:
        self._reasons = self._artifact.reasons()
        return not self._reasons

    def __repr__(self) -> str:
        return joined(self._reasons) or "up to date"

    def act(self) -> dict[str, Outcome] | Failed:
        """Make, and look whether it helped; asked first where this process has not yet asked (`doit -a`, `-n`)."""
        reasons = self._reasons or self._artifact.reasons()
        if not reasons:
            return {"outcome": UNCHANGED}
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        try:
            outcome = self._artifact.make()
        except Exception as error:  # noqa: BLE001 - it fails this task, and what needs it
            return Failed.of(of_any(error))
        remaining = self._artifact.reasons()
        if remaining:
            return Failed(f"was made, and still: {remaining[0]}")
        return {"outcome": outcome.because(reasons)}


class NoDatabase:
    """A doit backend that keeps nothing: every source counts as seen, and the artifact decides."""

    def __init__(self, name: str, **_options: object) -> None:
        self.name = name

    def get(self, _task: str, key: str) -> Any:
        return None if key.endswith(":") else True

    def set(self, _task: str, _key: str, _value: Any) -> None:
        """Nothing is kept."""

    def in_(self, _task: str) -> bool:
        return False

    def remove(self, _task: str) -> None:
        """There is nothing to remove."""

    def remove_all(self) -> None:
        """There is nothing to remove."""

    def dump(self) -> None:
        """There is nothing to write."""


class AskTheArtifact(FileChangedChecker):
    """A doit checker that leaves sources and targets to the artifact's own look."""

    def exists(self, _path: str) -> bool:
        return True

    def info(self, _path: str) -> None:
        return None

    def check_modified(self, _path: str, _stat: Any, _state: Any) -> bool:
        return False

    def get_state(self, _path: str, _current: Any) -> None:
        return None
