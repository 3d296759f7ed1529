"""What health looks at: the project, its plan, and what the last run said."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.errors import ErrorCode, joined_lines
from pki.common.reasons import Outcome
from pki.config.identifiers import ArtifactId
from pki.deploy.receipt import moment
from pki.monitor.alerts.notification_history import Record
from pki.monitor.check_result import Finding
from pki.monitor.probes import Probed
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Failure:
    message: str
    hint: str
    code: ErrorCode = ErrorCode.OTHER
    about: str = ""


@dataclass(frozen=True, slots=True)
class LastRun:
    """What a run of doit did, by its own report; nothing is in it when there was none.

    `asked` are the tasks that it was asked for; none when that was everything.
    """

    at: datetime | None = None
    result: str = ""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    unmet: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, Outcome] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    is_damaged: bool = False

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> LastRun:
        return cls(
            at=moment(report["at"]),
            result=report["result"],
            failed={
                one["name"]: Failure(joined_lines(one["message"]), one["hint"], ErrorCode(one["code"]), one["about"])
                for one in report["failed"]
            },
            unmet={one["name"]: one["by"] for one in report["blocked"]},
            made={one["name"]: Outcome.from_json(one) for one in report["changed"]},
            asked=frozenset(report["requested"]),
        )

    @classmethod
    def load(cls, place: Store) -> LastRun:
        """Return what the last run's report tells; of a damaged one, that it is damaged."""
        path = place.report("status.json")
        try:
            return cls.of(sealed_records.decode_sealed(filesystem.read_if_possible(path)) or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(is_damaged=os.path.lexists(path))

    def covers(self, artifact: str) -> bool:
        """Whether the run was to look at an artifact."""
        kind = ArtifactId.parse(artifact).kind
        return not self.asked or bool({artifact, kind} & self.asked) or artifact in self.failed or artifact in self.made

    def failure(self, artifact: str) -> Failure | None:
        """Why an artifact could not be made: its own failure, or that of what it needs."""
        if artifact in self.failed:
            return self.failed[artifact]
        for name in self.unmet.get(artifact, "").split():
            if found := self.failure(name):
                return Failure(f"{name}: {found.message}", found.hint, found.code)
        return None


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a look may need. `thorough` looks also at what takes time: keys, the whole ledger."""

    project: Project
    plan: Plan
    run: LastRun
    notes: Sequence[Notice]
    record: Record
    probes: Sequence[Probed]
    thorough: bool

    @property
    def now(self) -> datetime:
        return self.project.now

    def failure_of_key(self, generation: str) -> Failure | None:
        """Why a generation cannot sign; None where it can, as far as that was seen."""
        error = self.project.cached_key_faults.get(generation)
        return Failure(error.message, error.hint, error.code) if error else None


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a run saw when it looked at the whole project at its end; `head` is the ledger's."""

    project: Project
    plan: Plan
    run: LastRun
    checks: Sequence[Finding]
    probes: Sequence[Probed]
    head: str
