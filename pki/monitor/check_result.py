"""What a check reports: a finding with its level, dates and remedy; grouping and counting of findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, Protocol

from pki.common.reasons import Reason, Why
from pki.common.remedies import Remedy, for_this_project, here
from pki.common.timestamps import instant
from pki.config.identifiers import ArtifactId


class Level(IntEnum):
    """How urgent a finding is: `notice` needs action some day, `warning` soon, `critical` now."""

    OK = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """Return the level in lower case, as messages and JSON show it."""
        return self.name.lower()


STATUS = {Level.OK: 0, Level.NOTICE: 2, Level.WARNING: 3, Level.CRITICAL: 4}  # exit status of health and doctor


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    `subject` is what the finding is about, `topic` is the check; both together identify the finding from run to run.
    `what` is a reason, or text from elsewhere. `remedy` is the command to type. `since` is when the problem began, `until`
    is the deadline, such as the expiry of a certificate. `is_over` means that the finding reports an event that has
    passed: it is sent once, and never as solved. `headline` summarises subject and message for the subject of a mail.
    `consequence` is a sentence for the text of a mail: what the problem means for hosts.
    """

    subject: str
    level: Level
    what: Reason | str
    remedy: Remedy | str = ""
    since: datetime | None = None
    until: datetime | None = None
    topic: str = ""
    is_over: bool = False
    headline: str = ""
    consequence: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.remedy, str):
            object.__setattr__(self, "remedy", for_this_project(self.remedy))
        if not self.headline:
            object.__setattr__(self, "headline", f"{self.subject}: {self.message}")

    @property
    def about(self) -> ArtifactId:
        """Return the subject as kind and name: `deploy`, `media`."""
        return ArtifactId.parse(self.subject)

    @property
    def message(self) -> str:
        """Return the finding as text."""
        return str(self.what)

    @property
    def code(self) -> Why:
        """Return the code of the reason; `STATED` for plain text."""
        return self.what.code if isinstance(self.what, Reason) else Why.STATED

    @property
    def key(self) -> str:
        """Return what identifies the finding from run to run."""
        return f"{self.subject} {self.topic}"

    @property
    def artifact(self) -> ArtifactId:
        """Return the artifact that the finding is about; for the services of a host, the deployment of the host."""
        kind, host = self.about.kind, self.about.name.partition("/")[0]
        return ArtifactId("deploy", host) if kind in {"service", "verification", "drift", "pinned"} else self.about

    def as_json(self) -> dict[str, Any]:
        """Return the finding as `invoke health --json` prints it."""
        return {
            "subject": self.subject,
            "topic": self.topic,
            "level": self.level.word,
            "message": self.message,
            "code": self.code.name,
            "remedy": str(self.remedy),
            "since": instant(self.since) if self.since else None,
            "until": instant(self.until) if self.until else None,
        }


def rerun(artifact: str) -> Remedy:
    """Return the remedy to run doit again for one artifact."""
    return here("doit", artifact)


def level_by_time_left(left: timedelta, warning: timedelta, critical: timedelta) -> Level:
    """Return the level of something that expires: a notice, or more if at most `warning` or `critical` is left."""
    if left <= critical:
        return Level.CRITICAL
    return Level.WARNING if left <= warning else Level.NOTICE


def worst_level(findings: list[Finding]) -> Level:
    """Return the highest level among the findings; OK without any."""
    return max((finding.level for finding in findings), default=Level.OK)


class HasLevel(Protocol):
    """A result of a check, such as a finding."""

    @property
    def level(self) -> Level:
        """Return how urgent it is."""


def count_by_level(findings: Iterable[HasLevel]) -> str:
    """Return `1 critical, 2 warnings`; empty if there is no problem."""
    levels = [finding.level for finding in findings]
    counts = {level.word: levels.count(level) for level in sorted(Level, reverse=True) if level}
    return ", ".join(
        f"{count} {word}{'s' if count > 1 and word != 'critical' else ''}" for word, count in counts.items() if count
    )


def worst_by_subject(findings: Iterable[Finding]) -> dict[str, Level]:
    """Return the highest level of each subject."""
    worst: dict[str, Level] = {}
    for finding in findings:
        worst[finding.subject] = max(finding.level, worst.get(finding.subject, Level.OK))
    return worst


def group_alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Group findings that differ in their subject only, or in nothing but which artifact to run again."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        remedy = str(here("doit") if _is_rerun(finding) else finding.remedy)
        groups.setdefault((finding.level, finding.topic, finding.message, finding.until, remedy), []).append(finding)
    return list(groups.values())


def shared_remedy(group: Sequence[Finding]) -> str:
    """Return one remedy for a group of findings: plain `doit` where each has its own `doit` command."""
    return str(here("doit") if len(group) > 1 and _is_rerun(group[0]) else group[0].remedy)


def _is_rerun(finding: Finding) -> bool:
    return finding.remedy == rerun(finding.subject)
