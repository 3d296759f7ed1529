"""What health says of one thing: how it is, since and until when, and the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from pki.common.reasons import Reason, Why
from pki.common.remedies import Remedy, for_this_project, here
from pki.config.identifiers import ArtifactId
from pki.deploy.receipt import instant

NAMED = 6  # things of which the same is said


class Level(IntEnum):
    """How bad it is: `notice` wants a person some day, `warning` soon, `critical` now."""

    OK = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `topic` names the check; with the subject it tells whether it is the same as before.

    `what` is a reason, or the words of something else; `remedy` is what to type. A `passing` one happened and is over:
    it is told once and never solved.
    """

    subject: str
    level: Level
    what: Reason | str
    remedy: Remedy | str = ""
    since: datetime | None = None
    until: datetime | None = None
    topic: str = ""
    passing: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.remedy, str):
            object.__setattr__(self, "remedy", for_this_project(self.remedy))

    @property
    def about(self) -> ArtifactId:
        """The subject by its parts: `deploy`, `media`."""
        return ArtifactId.parse(self.subject)

    @property
    def message(self) -> str:
        return str(self.what)

    @property
    def code(self) -> Why:
        return self.what.code if isinstance(self.what, Reason) else Why.STATED

    @property
    def key(self) -> str:
        return f"{self.subject} {self.topic}"

    @property
    def artifact(self) -> ArtifactId:
        """The artifact that it concerns: a host's services are what its delivery has to bring about."""
        kind, host = self.about.kind, self.about.name.partition("/")[0]
        return ArtifactId("deploy", host) if kind in {"service", "verification", "drift", "pinned"} else self.about

    def as_json(self) -> dict[str, Any]:
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
    """Return the remedy that is another run for one artifact."""
    return here("doit", artifact)


def by_time_left(left: timedelta, warning: timedelta, critical: timedelta) -> Level:
    """How bad it is that something ends: a notice, unless less is left than one of the two."""
    if left <= critical:
        return Level.CRITICAL
    return Level.WARNING if left <= warning else Level.NOTICE


def worst(checks: list[Finding]) -> Level:
    return max((check.level for check in checks), default=Level.OK)


def counted(checks: Iterable[Finding]) -> str:
    """`1 critical, 2 warnings`; empty when all is well."""
    levels = [check.level for check in checks]
    counts = {level.word: levels.count(level) for level in sorted(Level, reverse=True) if level}
    return ", ".join(
        f"{count} {word}{'s' if count > 1 and word != 'critical' else ''}" for word, count in counts.items() if count
    )


def levels(checks: Iterable[Finding]) -> dict[str, Level]:
    """The worst that is said of each subject."""
    found: dict[str, Level] = {}
    for check in checks:
        found[check.subject] = max(check.level, found.get(check.subject, Level.OK))
    return found


def alike(checks: Iterable[Finding]) -> list[list[Finding]]:
    """Checks that say the same of several things, and want the same, together."""
    found: dict[tuple[object, ...], list[Finding]] = {}
    for one in checks:
        remedy = str(here("doit") if _is_again(one) else one.remedy)
        found.setdefault((one.level, one.topic, one.message, one.until, remedy), []).append(one)
    return list(found.values())


def named(names: Sequence[str]) -> str:
    """`a, b`, or some of many."""
    some = ", ".join(names[:NAMED])
    return f"{some} and {len(names) - NAMED} more" if len(names) > NAMED else some


def remedy_of(group: Sequence[Finding]) -> str:
    """What to type for checks that are alike: for all of them, where each has a command of its own."""
    return str(here("doit") if len(group) > 1 and _is_again(group[0]) else group[0].remedy)


def _is_again(check: Finding) -> bool:
    return check.remedy == rerun(check.subject)
