"""Convert artifacts to doit tasks, one task for each artifact, and run doit.

The code that builds the artifacts does not know about doit. This module uses the documented features of doit; code that
depends on its internals is in doit_internals.py. doit orders the tasks (`file_dep`, `targets`), runs them, also in
parallel, and reports. The artifact alone decides whether its task must run, so `invoke plan` and `doit` always agree,
and there is no database that can be lost.
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
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile
from doit.task import Task

from pki.common import state_format
from pki.common.errors import InventoryError, PkiError, as_pki_error
from pki.common.notice import Notice
from pki.common.reasons import UNCHANGED, Outcome, Reason, Verb, joined
from pki.common.terminal import Screen
from pki.config.model import Inventory
from pki.pipeline import clock_confirmation, delivery_targets, plan
from pki.pipeline.artifact import Artifact
from pki.pipeline.doit_internals import Failed, NoFileChecks, artifact_task, group_task
from pki.pipeline.plan import Plan
from pki.pipeline.reporter import Monitor, Reporter
from pki.project import machine_guard
from pki.project.clock_guard import Evidence
from pki.project.layout import Store
from pki.project.project import Project
from pki.project.project_templates import record_unrecorded
from pki.project.safe_directories import check_owner

PLUGINS = {  # also in pyproject.toml, for a doit that is not started by `./run`
    "BACKEND": {"artifacts": "pki.pipeline.doit_internals:NoDatabase"},
    "COMMAND": {
        "run": "pki.pipeline.doit_internals:RunCommand",
        **dict.fromkeys(
            ("forget", "ignore", "dumpdb", "reset-dep", "strace"), "pki.pipeline.doit_internals:NoDatabaseCommand"
        ),
    },
}

GROUPS = {
    "authority": "root, server and client authority",
    "ceremony": "the request for the next root ceremony",
    "crl": "certificate revocation lists",
    "bundle": "trust and CRL bundles",
    "page": "the trust page at the publishing address",
    "cert": "certificates with their keys and chains",
    "p12": "PKCS#12 files that managed files deliver",
    "p12-legacy": "PKCS#12 files in the old format",
    "template": "files below templates/ that cannot be read",
    "release": "all files of a host",
    "deploy": "releases deployed to their hosts",
    "cleanup": "removal of files that are no longer in pki.yaml",
}


class NotifyNothingDone(Protocol):
    """A function that notifies the recipients of alerts that the run did nothing because of an error.

    `is_read` means that a user reads the error at a terminal, so that no mail is necessary. The result has `channel` and
    `error` for each notification.
    """

    def __call__(
        self, home: Path, now: datetime, error: PkiError, inventory: Inventory | None, /, *, is_read: bool
    ) -> list[dict[str, str]]: ...


@dataclass(frozen=True, slots=True)
class EndOfRun:
    """What happens at the end of a run. The entry points pass it in, so that the pipeline imports no pages and no mail.

    `actions_required` returns the actions that are required of the user. `calendar` writes the calendar of planned
    actions and returns the files that it wrote. `monitor` checks the whole project.
    """

    actions_required: Callable[[Project, Plan], Iterable[Notice]]
    calendar: Callable[[Project, Plan], list[str]]
    monitor: Callable[[Callable[[], Project], Callable[[], Plan]], Monitor]
    notify_nothing_done: NotifyNothingDone


class DoitRun:
    """One run of doit in one project. A dodo.py passes `config` and `tasks` to doit.

    `is_part` means that the run is part of another command: then it prints nothing if there was nothing to do.
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
        gc.disable()  # collecting among tens of thousands of live tasks takes a fifth of a run
        self._home = home
        self._now = now
        self._end = end
        self._evidence = evidence
        self._is_locked = False
        self._may_change_files = False  # True for `doit run`; `doit list` and `doit info` change nothing
        self._reporter = Reporter(
            lambda: self.project,
            lambda: end.actions_required(self.project, self.plan),
            lambda: end.calendar(self.project, self.plan),
            end.monitor(lambda: self.project, lambda: self.plan),
            lambda: self._is_locked,
            is_part=is_part,
        )
        self.config: dict[str, Any] = {
            "backend": "artifacts",  # NoDatabase, by the plugin entry in pyproject.toml
            "check_file_uptodate": NoFileChecks,
            "dep_file": str(home / "build" / ".doit.db"),
            "continue": True,
            "confirm_clock": self.confirm_clock,
            "take_over": self.take_over,
            "lock": self.lock,
            "verbosity": 0,
            "reporter": self._reporter,
        }

    @property
    def report(self) -> Mapping[str, Any]:
        """Return what this run did, as in build/report/status.json; empty when nothing was done."""
        return self._reporter.report

    @cached_property
    def project(self) -> Project:
        """Return the project, opened once."""
        return Project.open(self._home, self._now, self._evidence, upgrades_ledger=True)

    @cached_property
    def plan(self) -> Plan:
        """Return the plan of the project, computed once."""
        return plan.plan(self.project)

    def tasks(self) -> Iterator[Task]:
        """Yield a group task for each kind of artifact, and a task for each artifact.

        Raises InvalidDodoFile, for which doit exits with status 3, before anything is run.
        """
        try:
            check_owner(self._home)
            state_format.check(self._home / "ca")
        except PkiError as error:  # no message and no status page: such a project is neither read nor written
            raise InvalidDodoFile(_refusal(error)) from None
        try:
            self.project.roots.check()
            self.project.store.check_locks()
            if self._may_change_files:
                machine_guard.guard_of(self.project.ledger_view, self._now).check()
            self._list_new_templates()
            artifacts = self.plan.artifacts
        except InventoryError as error:
            raise self._nothing_was_done(error, f"pki.yaml is invalid; nothing was done:\n{error}") from None
        except Exception as error:  # noqa: BLE001 - a bug in planning is reported like any other error
            planning_error = as_pki_error(error)
            raise self._nothing_was_done(planning_error, _refusal(planning_error)) from None
        tasks = {name: group_task(name, doc) for name, doc in GROUPS.items()}
        for artifact in artifacts:
            task = tasks[artifact.id] = _task(artifact)
            tasks[task.subtask_of].task_dep.append(task.name)
        # Never freed: the operating system frees the tasks of ten thousand hosts at once, Python one by one.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(tasks))
        yield from tasks.values()

    def _list_new_templates(self) -> None:
        """List in pki.yaml the program's new templates that this project does not use. Raises PkiError."""
        if not self._may_change_files:
            return
        if names := record_unrecorded(self.project.inventory, self.project.store):
            text = f"lists {len(names)} templates of the program that this project does not use: templates.without"
            Screen(drops_unwritable=True).done(Verb.UPDATED, "pki.yaml", text)
            self.project.ledger_view.close()
            del self.project  # cached property: the project is opened again, with the new pki.yaml

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the project from before pki.yaml is read, so that earlier changes of it count.

        A project without `ca/`, which contains the lock file, is locked later, by the reporter.
        """
        with ExitStack() as stack:
            with suppress(PkiError):  # `tasks`, which is called next, reports the same fault
                check_owner(self._home)
                if (store := Store(self._home)).ca.is_dir():
                    stack.enter_context(store.lock())
                    self._is_locked = True
            self._may_change_files = True
            yield

    def confirm_clock(self) -> None:
        """Ask the user whether the clock is right.

        Raises InvalidDodoFile, for which doit exits with status 3, if the user does not confirm the clock.
        """
        with suppress(PkiError):  # `tasks`, which is called next, reports why the project cannot be opened
            self.project  # noqa: B018 - opens it
        if "project" in vars(self):
            try:
                clock_confirmation.confirm(
                    self.project.store, self.project.now, self.project.ledger_view, self.project.clock
                )
            except PkiError as error:
                raise InvalidDodoFile(str(error)) from None
            del self.project  # cached property: the project is opened again under the lock

    def take_over(self) -> None:
        """Let this machine run doit from now on.

        Raises InvalidDodoFile, for which doit exits with status 3, if that cannot be recorded.
        """
        with suppress(PkiError):  # `tasks`, which is called next, reports why the project cannot be opened
            self.project  # noqa: B018 - opens it
        if "project" in vars(self):
            try:
                with self.project.store.lock():
                    is_new = machine_guard.guard_of(self.project.ledger_view, self._now).take_over()
                    self.project.ledger_view.close()
            except PkiError as error:
                raise InvalidDodoFile(_refusal(error)) from None
            text = "this machine runs doit from now on; recorded in the ledger"
            Screen().line(text if is_new else "no other machine runs doit; nothing to take over")
            del self.project  # cached property: the project is opened again under the lock

    def _nothing_was_done(self, error: PkiError, message: str) -> InvalidDodoFile:
        """Return the error for doit when nothing can be run, after writing the status page and sending the messages."""
        inventory = None
        if "project" in vars(self):
            with suppress(PkiError):  # an unreadable file is the error itself
                inventory = self.project.inventory if self.project.roots.missing else None
            self.project.ledger_view.close()
        try:
            notifications = self._end.notify_nothing_done(
                self._home, self._now, error, inventory, is_read=sys.stderr.isatty()
            )
        except PkiError as notification_error:  # for example on a read-only file system
            notifications = [{"channel": "all", "error": notification_error.message}]
        message += "".join(
            f"\nalerts:{notification['channel']}: {notification['error']}"
            for notification in notifications
            if notification["error"]
        )
        return InvalidDodoFile(message)

    def main(self, arguments: Sequence[str]) -> int:
        """Run doit in this process with these command-line arguments; return its exit status."""
        definitions = {"DOIT_CONFIG": self.config, "task_pki": self.tasks}
        try:
            status: int = DoitMain(ModuleTaskLoader(definitions), (), PLUGINS).run(list(arguments))
        except SystemExit:  # raised by the reporter
            return 1
        return status


def _refusal(error: PkiError) -> str:
    return f"nothing was done: {error.message}" + (f"\n→ {error.hint}" if error.hint else "")


def _task(artifact: Artifact) -> Task:
    action = ArtifactAction(artifact)
    return artifact_task(artifact.id, action.act, action, artifact.sources, artifact.targets, artifact.doc)


class ArtifactAction:
    """The callable that doit uses for one artifact, as `uptodate` and as action.

    Its `repr`, which `doit info` prints, is the list of reasons to run.
    """

    __slots__ = ("_artifact", "_reasons")
    __signature__: ClassVar = inspect.Signature()  # doit would compute it for each artifact

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._reasons: list[Reason] = []

    def __call__(self) -> bool:
        self._reasons = self._artifact.reasons()
        return not self._reasons

    def __repr__(self) -> str:
        return joined(self._reasons) or "up to date"

    def act(self) -> dict[str, Outcome] | Failed:
        """Make the artifact, then check that it is up to date."""
        # `_reasons` is empty where doit skipped the check (`doit -a`), or did it in another process (`doit -n`).
        reasons = self._reasons or self._artifact.reasons()
        if not reasons:
            return {"outcome": UNCHANGED}
        if not gc.isenabled():  # making may need much memory; the tasks themselves stay excluded from collection
            gc.freeze()
            gc.enable()
        try:
            outcome = self._artifact.make()
        except Exception as error:  # noqa: BLE001 - fails this task and those that depend on it
            return Failed.of(as_pki_error(error))
        remaining = self._artifact.reasons()
        if remaining:
            return Failed(f"still out of date after it was made: {remaining[0]}")
        return {"outcome": outcome.because(reasons)}
