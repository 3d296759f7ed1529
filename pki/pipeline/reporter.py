"""Doit's reporter: the lines for each task and at the end of a run, and the run's report, which is written in any case."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pki import __version__
from pki.common import filesystem, sealed_records
from pki.common.errors import ErrorCode, PkiError, as_pki_error
from pki.common.notice import Notice
from pki.common.reasons import UNCHANGED, Outcome
from pki.common.remedies import run_for
from pki.common.terminal import Screen
from pki.common.timestamps import instant
from pki.config.fields import SANDBOX
from pki.config.identifiers import ArtifactId
from pki.project import version_change
from pki.project.project import Project

BANNER = """\
SANDBOX: a trial project. Its root key is created on this machine and stays in
offline/. In a project for production, the root key never reaches the machine
that runs doit.
"""


def count_tasks(
    changed: int, failed: int, blocked: int, up_to_date: int, *, awaited: int = 0, is_interrupted: bool = False
) -> str:
    """Return the counts of the tasks of a run as text; `awaited` is the number of tasks that wait for the first ceremony.

    Examples: `20 tasks up to date`, `20 tasks: 17 changed, 3 had nothing to do`.
    """
    total = changed + failed + blocked + up_to_date + awaited
    tasks = f"{total} task{'' if total == 1 else 's'}"
    if awaited and not (changed or failed):
        return f"{awaited} task{'' if awaited == 1 else 's'} waiting for the root ceremony"
    if up_to_date == total and not is_interrupted:
        return f"{tasks} up to date"
    counts = {
        "changed": changed,
        "failed": failed,
        "blocked": blocked,
        "waiting for the root ceremony": awaited,
        "had nothing to do": up_to_date,
    }
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{tasks}: {', '.join([*parts, *(['interrupted'] if is_interrupted else [])])}"


@dataclass(frozen=True, slots=True)
class FindingCounts:
    """The number of findings at the end of a run.

    `is_failure` means that a critical finding affects what the run was requested to do, so that its exit status is 1.
    `of_failed_tasks` is how many of the findings report a task that failed in this run, which the summary counts too.
    """

    critical: int = 0
    warnings: int = 0
    is_failure: bool = False
    of_failed_tasks: int = 0

    def __bool__(self) -> bool:
        return bool(self.critical or self.warnings)

    def __str__(self) -> str:
        counts = [f"{self.critical} critical"] if self.critical else []
        counts += [f"{self.warnings} warning{'s' if self.warnings > 1 else ''}"] if self.warnings else []
        text = ", ".join(counts)
        if not self.of_failed_tasks:
            return text
        if self.of_failed_tasks < self.critical + self.warnings:
            return f"{text} ({self.of_failed_tasks} of them for failed tasks)"
        return f"{text} (for the failed task{'s' if self.of_failed_tasks > 1 else ''})"


class Monitor(Protocol):
    """What checks the whole project at the end of a run, sends alerts, and writes pages and metrics.

    The reporter calls the methods in this order, each with the run's report up to then.
    """

    def check(self, report: Mapping[str, Any], actions_required: Sequence[Notice]) -> None:
        """Check the project, while its ledger and cache are open."""

    def send_alerts(self, report: Mapping[str, Any]) -> list[dict[str, str]]:
        """Send the messages that are due; return the channel, subject, error and hint of each for the report."""

    def writers(self) -> Mapping[str, Callable[[Mapping[str, Any]], None]]:
        """Return the functions that write the page, the metrics and so on, each under the name for its failure."""

    def findings(self, report: Mapping[str, Any]) -> FindingCounts:
        """Return the number of findings."""


class Reporter:
    """doit's reporter: one line for each task that changed something or failed, a summary, one report file.

    It holds the project's lock from the first check of the run to its last line: two runs never overlap.
    """

    desc = "what was done and why, one line for each task"

    def __init__(
        self,
        project: Callable[[], Project],
        actions_required: Callable[[], Iterable[Notice]],
        write_calendar: Callable[[], object],
        monitor: Monitor,
        is_locked: Callable[[], bool],
        *,
        is_part: bool = False,
    ) -> None:
        """Create a reporter.

        `write_calendar` is called after a complete run. `is_locked` returns whether this process holds the project's lock
        already. With `is_part`, the reporter prints no summary if nothing changed.
        """
        self._project = project
        self._actions_required = actions_required
        self._write_calendar = write_calendar
        self._monitor = monitor
        self._is_locked = is_locked
        self._is_part = is_part
        self.report: Mapping[str, Any] = {}  # complete once the run has ended
        self._messages: list[dict[str, str]] = []
        self._faults: list[Exception] = []  # exceptions of the steps at the end of the run
        self._actions: list[Notice] = []
        self._findings = FindingCounts()
        self._stack = ExitStack()
        self._changed: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = []
        self._blocked: list[dict[str, str]] = []
        self._causes: dict[str, set[str]] = {}  # of each blocked task: the tasks that failed
        self._up_to_date = 0
        self._is_full = False
        self._awaits_ceremony = False
        self._total = 0
        self._started = time.monotonic()
        self._advance: Callable[[str], None] = lambda _name: None
        self._screen = Screen(drops_unwritable=True)  # the report contains everything that cannot be printed

    # -- called by doit during the run --

    def initialize(self, tasks: dict[str, Any], selected: Sequence[str]) -> None:
        """Lock the project and start the progress display. `selected` are the names of the requested tasks."""
        project = self._project()
        if not self._is_locked():  # the first run: ca/, which contains the lock file, does not exist before it
            self._stack.enter_context(project.store.lock())
        if version_change.record(project.inventory, project.store):
            from pki.config import editor_schemas  # noqa: PLC0415 - slow, and needed after an upgrade only

            editor_schemas.refresh(project.store.home)
        project.run.select(selected)
        self._started = time.monotonic()
        self._is_full = len(selected) == len(tasks)
        self._total = sum(1 for task in tasks.values() if not task.has_subtask)
        self._awaits_ceremony = project.roots.awaits_first_ceremony
        if project.inventory.sandbox and project.authorities.issuing("root") is None:
            self._screen.line(BANNER)
        self._advance = self._stack.enter_context(self._screen.progress(self._total))

    def before_fork(self) -> None:
        """Close the ledger, because a child process must not inherit an open database of SQLite.

        The child could delete the log of the database: https://www.sqlite.org/howtocorrupt.html §2.6
        """
        self._project().ledger_view.close()

    def discard_cached(self, name: str) -> None:
        """Drop what this process cached about an artifact, because a worker process has changed it."""
        self._project().cache.remove(name)

    def join_current_run(self) -> bool:
        """Return, in a worker process, whether the run that started it still goes on."""
        return self._project().store.join_current_run()

    def get_status(self, task: Any) -> None:
        """Advance the progress display to a task that doit begins."""
        if not task.has_subtask:
            self._advance(task.name)

    def execute_task(self, _task: Any) -> None:
        """Print nothing: the line of an artifact is printed when it is made."""

    def skip_uptodate(self, _task: Any) -> None:
        """Count a task that was up to date."""
        self._up_to_date += 1

    def skip_ignore(self, _task: Any) -> None:
        """Print nothing: no task is ever ignored."""

    def add_success(self, task: Any) -> None:
        """Print what a task did; a task that had nothing to do counts as up to date."""
        if task.has_subtask:
            return
        outcome: Outcome = task.values.get("outcome", UNCHANGED)
        if outcome.is_change:
            self._changed.append({"name": task.name, **outcome.as_json()})
            self._screen.done(outcome.verb, task.name, str(outcome))
        else:
            self._up_to_date += 1

    def add_failure(self, task: Any, fail: Any) -> None:
        """Print why a task failed, or by which tasks it is blocked."""
        if task.has_subtask:
            return
        if type(fail).__name__ == "UnmetDependency":  # the message consists of the names of the prerequisites
            self._blocked.append({"name": task.name, "by": fail.get_msg().strip()})
            prerequisites = fail.get_msg().split()
            # The cause is never a task that is blocked itself, but the tasks that failed and block it.
            causes = {cause for name in prerequisites for cause in self._causes.get(name, {name})}
            self._causes[task.name] = causes
            if not self._awaits_ceremony:  # its cause is printed once, at the end
                self._screen.blocked(task.name, " ".join(sorted(causes)))
            return
        if hasattr(fail, "hint"):  # Failed, by an artifact; doit's own failures have only a message
            self._fail(task.name, PkiError(fail.message, fail.hint, fail.code, about=fail.about))
        else:
            self._fail(task.name, PkiError(fail.get_msg().strip()))

    def runtime_error(self, message: str) -> None:
        """Print an error of doit itself."""
        self._fail("doit", PkiError(message))

    def _fail(self, name: str, error: PkiError) -> None:
        texts = {"message": error.message, "hint": error.hint}
        self._failed.append({"name": name, **texts, "code": error.code.value, "about": error.about})
        if error.code is not ErrorCode.AWAITS_CEREMONY:  # the required action is printed at the end
            self._screen.failed(name, error.message, error.hint)

    def cleanup_error(self, exception: Any) -> None:
        """Print an error of doit after the tasks."""
        self.runtime_error(exception.get_msg())

    def teardown_task(self, _task: Any) -> None:
        """Do nothing: no task has a teardown."""

    def complete_run(self) -> None:
        """Carry out the steps at the end of a run, each of them even when another fails, and print the summary.

        Raises SystemExit with 1 if one of them failed (a full disk) or a finding is critical: doit counts only its tasks.
        Raises an unexpected exception (a bug) unchanged.
        """
        # The order matters: the checks need the ledger and the cache open; messages, pages and the report contain what the
        # steps before them found; the report is last, because it contains also the failures of the other steps.
        project = self._project()
        with self._step("actions required"):
            self._actions = list(self._actions_required())
            for action in self._actions if self._awaits_ceremony else ():
                self._screen.note(action.subject, action.text, action.remedy)
        is_complete = self._is_full and self._result() == "ok"
        if is_complete:  # a part of the tasks, or an error, says nothing about all planned actions
            with self._step("calendar"):
                self._write_calendar()
        with self._step("checks"):
            self._monitor.check(self._report(project), self._actions)
        self._check_keys(project)
        with self._step("ledger"):
            project.ledger_view.check()
            # the result again, because a check above may have failed
            project.close(run_succeeded=self._is_full and self._result() == "ok")
        with self._step("cache"):
            project.cache.save(whole=self._is_full)
        with self._step("alerts"):
            self._messages = self._monitor.send_alerts(self._report(project))
        for message in self._unsent():
            self._screen.failed(ArtifactId("alerts", message["channel"]), message["error"], message["hint"])
        for name, write in self._monitor.writers().items():
            with self._step(name):
                write(self._report(project))
        with self._step("findings"):
            self._findings = self._monitor.findings(self._report(project))
        with self._step("report"):
            filesystem.write(
                project.store.report("status.json"), sealed_records.encode_sealed(self._report(project), indent=1)
            )
        self.report = self._report(project)
        self._stack.close()
        self._print_summary()
        gc.freeze()  # the process ends now: collecting its objects would only take time
        self._raise_failure()

    def _print_summary(self) -> None:
        is_idle = not self._changed and self._result() == "ok"
        if not (self._is_part and is_idle) and (self._screen.is_terminal or self._has_news):
            self._screen.line("\n".join(self._summary(self._project())))

    def _check_keys(self, project: Project) -> None:
        """Report each CA key that cannot be used, unless a task failed because of it."""
        faults: dict[str, PkiError] = {}
        with self._step("keys"):
            faults = project.signing_keys.faults()
        reported = {failure["about"] for failure in self._failed}
        for name, fault in faults.items():
            with self._step(ArtifactId("key", name)):
                if (fault.about or name) not in reported:
                    raise fault

    def _raise_failure(self) -> None:
        # doit takes the exit status from its tasks alone; SystemExit is the way to change it from here.
        if self._faults:
            raise next((fault for fault in self._faults if not isinstance(fault, PkiError | OSError)), SystemExit(1))
        if self._findings.is_failure and self._result() == "ok":
            raise SystemExit(1)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Carry out one step at the end of the run, and report its error under `name`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a bug in one step must not prevent the others
            self._faults.append(error)
            self._fail(name, as_pki_error(error))

    # -- the summary and the report --

    def _unsent(self) -> list[dict[str, str]]:
        """Return the messages that could not be sent."""
        return [message for message in self._messages if message["error"]]

    @property
    def _has_news(self) -> bool:
        """Return whether the run has anything to print. Without output, cron sends no mail."""
        return bool(self._changed or self._result() != "ok" or self._actions or self._findings or self._unsent())

    def _summary(self, project: Project) -> list[str]:
        """Return the last lines of a run: the counts of its tasks, then a line for each thing to look at or to do."""
        command = run_for(project.store.home)
        prefix = f"{SANDBOX}  " if project.inventory.sandbox else ""
        lines = [f"{prefix}{self._counts()} ({time.monotonic() - self._started:.1f} s)"]
        if self._findings:
            lines.append(f"{self._findings}: see {command} invoke health")
        if (number := len(self._actions)) and not self._awaits_ceremony:
            lines.append(f"{number} action{'s' if number > 1 else ''} required: see {command} invoke plan")
        if number := len(self._unsent()):
            lines.append(
                f"{number} {'messages' if number > 1 else 'message'} could not be sent; the next run tries again"
            )
        return lines

    def _counts(self) -> str:
        awaiting_ceremony = sum(row["code"] == ErrorCode.AWAITS_CEREMONY.value for row in self._failed)
        return count_tasks(
            len(self._changed),
            len(self._failed) - awaiting_ceremony,
            0 if self._awaits_ceremony else len(self._blocked),
            self._up_to_date,
            awaited=awaiting_ceremony + len(self._blocked) if self._awaits_ceremony else 0,
            is_interrupted=self._result() == "interrupted",
        )

    def _result(self) -> str:
        if self._failed or self._blocked:
            return "failed"
        is_interrupted = self._is_full and len(self._changed) + self._up_to_date < self._total
        return "interrupted" if is_interrupted else "ok"

    def _report(self, project: Project) -> dict[str, Any]:
        return {
            "at": instant(project.now),
            "program": __version__,
            "result": self._result(),
            "seconds": round(time.monotonic() - self._started, 3),
            "requested": [] if self._is_full else sorted(project.run.requested),
            "changed": self._changed,
            "failed": self._failed,
            "blocked": self._blocked,
            "up_to_date": self._up_to_date,
            "critical": self._findings.critical,
            "warnings": self._findings.warnings,
            "notes": [{"subject": note.subject, "text": note.text, "remedy": note.remedy} for note in self._actions],
            "alerts": self._messages,
        }
