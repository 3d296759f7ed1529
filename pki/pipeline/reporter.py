"""What a run says while it runs and at its end, and the report that it leaves, whatever failed."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pki.common import filesystem, sealed_records
from pki.common.errors import PkiError, of_any
from pki.common.reasons import UNCHANGED, Outcome, joined
from pki.common.remedies import run_for
from pki.common.terminal import Screen
from pki.config.fields import SANDBOX
from pki.config.identifiers import ArtifactId
from pki.pipeline.desired_state import Notice
from pki.project.project import Project

BANNER = """\
SANDBOX: a try-out. The root key is made here and stays on this machine, in offline/; a real one never sees the machine
that runs doit: ./run invoke init, and docs/ceremony.md
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """How many findings a run ends with; `is_failure`: a critical one concerns what the run was asked for."""

    critical: int = 0
    warnings: int = 0
    is_failure: bool = False

    def __bool__(self) -> bool:
        return bool(self.critical or self.warnings)

    def __str__(self) -> str:
        counts = [f"{self.critical} critical"] if self.critical else []
        counts += [f"{self.warnings} warning{'s' if self.warnings > 1 else ''}"] if self.warnings else []
        return ", ".join(counts)


class Monitor(Protocol):
    """Who looks at the whole project at a run's end, tells people, and leaves what can be looked at later.

    `look` comes while project and memo are open. What became of each message is for the report. `leavings` are written
    last, one by one, each under the name by which its failure is told.
    """

    def look(self, report: Mapping[str, Any], notes: Sequence[Notice]) -> None: ...

    def tell(self, report: Mapping[str, Any]) -> list[dict[str, str]]: ...

    def leavings(self) -> Mapping[str, Callable[[Mapping[str, Any]], None]]: ...

    def findings(self, report: Mapping[str, Any]) -> Findings: ...


class Reporter:
    """doit's reporter: one line for each thing made or failed, one summary line, one report file.

    The project's lock is held from the run's first look to its last word: two runs never look or act at once.
    """

    desc = "what was made and why, one line each"

    def __init__(
        self,
        project: Callable[[], Project],
        notes: Callable[[], Iterable[Notice]],
        calendar: Callable[[], object],
        monitor: Monitor,
        is_held: Callable[[], bool],
        *,
        is_part: bool = False,
    ) -> None:
        self._project = project
        self._notes = notes
        self._calendar = calendar
        self._monitor = monitor
        self._is_held = is_held
        self._is_part = is_part
        self.report: Mapping[str, Any] = {}  # of a run that came to its end
        self._told: list[dict[str, str]] = []
        self._unsaid: list[Exception] = []  # what kept one of the last words from being said
        self._found_notes: list[Notice] = []
        self._findings = Findings()
        self._stack = ExitStack()
        self._made: list[dict[str, Any]] = []
        self._failed: list[dict[str, str]] = []
        self._unmet: list[dict[str, str]] = []
        self._fresh = 0
        self._whole = False
        self._total = 0
        self._started = time.monotonic()
        self._screen = Screen(may_be_deaf=True)  # what it cannot say is in the report all the same

    # -- what doit calls --

    def initialize(self, tasks: dict[str, Any], selected: Sequence[str]) -> None:
        project = self._project()
        if not self._is_held():  # it has no ca/ yet
            self._stack.enter_context(project.store.lock())
        project.requested = frozenset(selected)
        self._started = time.monotonic()
        self._whole = len(selected) == len(tasks)
        self._total = sum(1 for task in tasks.values() if not task.has_subtask)
        if project.inventory.sandbox and project.issuing("root") is None:
            self._screen.line(BANNER)
        self._stack.enter_context(self._screen.progress(self._total))

    def before_fork(self) -> None:
        """Close the ledger: SQLite forbids that a process inherits an open database, and may delete its log there.

        https://www.sqlite.org/howtocorrupt.html §2.6
        """
        self._project().close_ledger()

    def forget(self, name: str) -> None:
        """Drop what this process found about an artifact that another one has worked on."""
        self._project().cache.forget(name)

    def join_run(self) -> bool:
        """In a process of its own that works for this run: whether the run still goes on."""
        return self._project().store.join_run()

    def get_status(self, task: Any) -> None:
        if not task.has_subtask:
            self._screen.advance(task.name)

    def execute_task(self, _task: Any) -> None:
        """A group task has nothing to execute; an artifact's line comes when it is made."""

    def skip_uptodate(self, _task: Any) -> None:
        self._fresh += 1

    def skip_ignore(self, _task: Any) -> None:
        """Nothing is ever ignored here."""

    def add_success(self, task: Any) -> None:
        if task.has_subtask:
            return
        outcome: Outcome = task.values.get("outcome", UNCHANGED)
        if outcome.is_change:
            self._made.append({"name": task.name, **outcome.as_json()})
            self._screen.made(task.name, joined(outcome.reasons))
        else:
            self._fresh += 1

    def add_failure(self, task: Any, fail: Any) -> None:
        if task.has_subtask:
            return
        if type(fail).__name__ == "UnmetDependency":
            self._unmet.append({"name": task.name, "needs": fail.get_msg().strip()})
            self._screen.unmet(task.name, fail.get_msg().strip())
            return
        if hasattr(fail, "hint"):
            self._fail(task.name, PkiError(fail.message, fail.hint, fail.code, about=fail.about))
        else:
            self._fail(task.name, PkiError(fail.get_msg().strip()))

    def runtime_error(self, message: str) -> None:
        self._fail("doit", PkiError(message))

    def _fail(self, name: str, error: PkiError) -> None:
        texts = {"message": error.message, "hint": error.hint}
        self._failed.append({"name": name, **texts, "code": error.code.value, "about": error.about})
        self._screen.failed(name, error.message, error.hint)

    def cleanup_error(self, exception: Any) -> None:
        self.runtime_error(exception.get_msg())

    def teardown_task(self, _task: Any) -> None:
        """No task has a teardown."""

    def complete_run(self) -> None:
        """The run's last words: each is said even when another cannot be. Raises then, at the end.

        A bug as itself; otherwise SystemExit with 1: as on a full disk, or because a finding is critical. doit counts
        its tasks alone.
        """
        project = self._project()
        with self._last_word("what needs a person"):
            self._found_notes = list(self._notes())
        if self._whole and self._result() == "ok":
            with self._last_word("the calendar"):
                self._calendar()
        with self._last_word("the look at the project"):
            self._monitor.look(self._report(project), self._found_notes)
        faults: dict[str, PkiError] = {}
        with self._last_word("keys"):
            faults = project.key_faults()
        concerned = {one["about"] for one in self._failed}  # by what could not be signed
        for name, fault in faults.items():
            with self._last_word(ArtifactId("key", name)):
                if (fault.about or name) not in concerned:
                    raise fault
        with self._last_word("ledger"):
            project.check_ledger()
            project.close(settled=self._whole and self._result() == "ok")
        with self._last_word("what was found sound"):
            project.cache.save(whole=self._whole)
        with self._last_word("alerts"):
            self._told = self._monitor.tell(self._report(project))
        for told in (one for one in self._told if one["error"]):
            self._screen.failed(ArtifactId("alerts", told["channel"]), told["error"], told["hint"])
        for what, leave in self._monitor.leavings().items():
            with self._last_word(what):
                leave(self._report(project))
        with self._last_word("what was found"):
            self._findings = self._monitor.findings(self._report(project))
        with self._last_word("the run's report"):
            filesystem.write(
                project.store.report("status.json"), sealed_records.sealed(self._report(project), indent=1)
            )
        self.report = self._report(project)
        self._stack.close()
        is_idle = not self._made and self._result() == "ok"
        if not (self._is_part and is_idle) and (self._screen.is_terminal or self._has_news):
            self._screen.line(self._summary(project))
        gc.freeze()  # nothing here is garbage: spare Python its last look through it
        self._raise_what_counts()

    def _raise_what_counts(self) -> None:
        if self._unsaid:
            raise next((one for one in self._unsaid if not isinstance(one, PkiError | OSError)), SystemExit(1))
        if self._findings.is_failure and self._result() == "ok":
            raise SystemExit(1)

    @contextmanager
    def _last_word(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a bug in one of them must not keep the others from being said
            said = of_any(error)
            self._unsaid.append(error)
            self._fail(what, said)

    # -- the end --

    @property
    def _has_news(self) -> bool:
        """Whether the run changed or found anything: one that did neither writes no mail of cron's."""
        is_unsent = any(told["error"] for told in self._told)
        return bool(self._made or self._result() != "ok" or self._found_notes or self._findings or is_unsent)

    def _summary(self, project: Project) -> str:
        seconds, typed = time.monotonic() - self._started, run_for(project.store.home)
        parts = [f"{len(self._made)} made"] if self._made else []
        parts += [f"{len(self._failed)} failed"] if self._failed else []
        parts += [f"{len(self._unmet)} not reached"] if self._unmet else []
        if self._result() == "interrupted":
            parts.append("interrupted")
        parts.append(f"{self._fresh} fresh")
        idle = "" if len(parts) > 1 or self._findings else "nothing to do: "
        mark = f"{SANDBOX}  " if project.inventory.sandbox else ""
        more = [f"{mark}{idle}{', '.join(parts)} ({seconds:.1f} s)"]
        if self._findings:
            more.append(f"{self._findings}: {typed} invoke health")
        if notes := len(self._found_notes):
            more.append(f"{notes} {'things need' if notes > 1 else 'thing needs'} a person: {typed} invoke plan")
        if unsent := sum(1 for told in self._told if told["error"]):
            messages = "messages" if unsent > 1 else "message"
            more.append(f"{unsent} {messages} could not be sent, and will be tried again")
        return "; ".join(more)

    def _result(self) -> str:
        if self._failed or self._unmet:
            return "failed"
        return "interrupted" if self._whole and len(self._made) + self._fresh < self._total else "ok"

    def _report(self, project: Project) -> dict[str, Any]:
        return {
            "at": project.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "result": self._result(),
            "seconds": round(time.monotonic() - self._started, 3),
            "asked": [] if self._whole else sorted(project.requested),
            "made": self._made,
            "failed": self._failed,
            "not_reached": self._unmet,
            "fresh": self._fresh,
            "critical": self._findings.critical,
            "warnings": self._findings.warnings,
            "notes": [
                {"subject": note.subject, "text": note.text, "remedy": note.remedy} for note in self._found_notes
            ],
            "alerts": self._told,
        }
