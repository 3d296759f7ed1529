"""The input of the checks: the project, its plan, and the report of the last run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.errors import ErrorCode, joined_lines
from pki.common.notice import Notice
from pki.common.reasons import Outcome
from pki.common.timestamps import moment
from pki.config.identifiers import ArtifactId
from pki.monitor.alerts.notification_history import NotificationHistory
from pki.monitor.check_result import Finding
from pki.monitor.probes import ProbeResult
from pki.pipeline.plan import Plan
from pki.project.layout import Store
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an artifact failed in the last run, with the hint. `about` is the file or the key at fault, or ""."""

    message: str
    hint: str
    code: ErrorCode = ErrorCode.OTHER
    about: str = ""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The report of a run of doit; empty if there was none.

    `failed` and `changed` are by artifact; `blocked` maps an artifact that was not made to the artifacts that it waits
    for, separated by spaces. `requested` are the tasks that the run was started for; empty means all.
    """

    at: datetime | None = None
    result: str = ""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Outcome] = field(default_factory=dict)
    requested: frozenset[str] = frozenset()
    is_damaged: bool = False

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> LastRun:
        """Read the report of a run, as JSON."""
        return cls(
            at=moment(report["at"]),
            result=report["result"],
            failed={
                row["name"]: Failure(joined_lines(row["message"]), row["hint"], ErrorCode(row["code"]), row["about"])
                for row in report["failed"]
            },
            blocked={row["name"]: row["by"] for row in report["blocked"]},
            changed={row["name"]: Outcome.from_json(row) for row in report["changed"]},
            requested=frozenset(report["requested"]),
        )

    @classmethod
    def load(cls, store: Store) -> LastRun:
        """Load the report of the last run; a damaged one sets `is_damaged` and nothing else."""
        path = store.report("status.json")
        try:
            return cls.of(sealed_records.decode_sealed(filesystem.read_if_possible(path)) or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(is_damaged=os.path.lexists(path))

    def covers(self, artifact: str) -> bool:
        """Return whether the run checked an artifact: it was requested, changed, or failed."""
        kind = ArtifactId.parse(artifact).kind
        return (
            not self.requested
            or bool({artifact, kind} & self.requested)
            or artifact in self.failed
            or artifact in self.changed
        )

    def failure(self, artifact: str) -> Failure | None:
        """Return why an artifact was not made: its own failure, or the failure of an artifact that it needs.

        None if the artifact only waited for the first ceremony, which check_ceremonies reports.
        """
        if own := self.failed.get(artifact):
            return None if own.code is ErrorCode.AWAITS_CEREMONY else own
        for name in self.blocked.get(artifact, "").split():
            if failure := self.failure(name):
                return Failure(f"{name}: {failure.message}", failure.hint, failure.code)
        return None


@dataclass(frozen=True, slots=True)
class CheckContext:
    """The input of every check. `thorough` also checks what takes time: all keys, the whole ledger."""

    project: Project
    plan: Plan
    run: LastRun
    notes: Sequence[Notice]
    history: NotificationHistory
    probes: Sequence[ProbeResult]
    thorough: bool

    @property
    def now(self) -> datetime:
        """Return the time of this run."""
        return self.project.now

    def failure_of_key(self, generation: str) -> Failure | None:
        """Return why the key of a generation cannot sign; None if it can, or nobody tried."""
        error = self.project.signing_keys.cached_faults.get(generation)
        return Failure(error.message, error.hint, error.code) if error else None


@dataclass(frozen=True, slots=True)
class CheckedProject:
    """The project after the checks at the end of a run.

    `head` is the number of ledger events and the hash of the last event, as text.
    """

    project: Project
    plan: Plan
    run: LastRun
    findings: Sequence[Finding]
    probes: Sequence[ProbeResult]
    head: str
