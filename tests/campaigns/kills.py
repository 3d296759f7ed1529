"""SIGKILL and power failures at random moments of everything that writes: one more run succeeds, and nothing is lost.

A step names a work, what decides on its moment, and what follows:

- at a `call` the process kills itself before its n-th change of the disk; at a `moment` it is killed from outside;
- `alone` only that process, `group` with all that it started, `power` so that only what was flushed is still there.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from tests.campaigns import applied, consistency, projects
from tests.campaigns.campaign import Campaign, CampaignError, Step
from tests.campaigns.scenes import CheckContext, Command, insist
from tests.campaigns.storage import OPTIONS, Disk
from tests.campaigns.works import WORKS, Work

FIRST = {"new": "first build", "answered": "acceptance"}
LATER = [name for name in WORKS if name not in FIRST.values()]
AFTERMATHS = ("alone", "group", "power")


def draw(chance: random.Random) -> list[Step]:
    """Up to four kills of a project in a row, and one of pki-apply."""
    base = chance.choice(["new", "built", "built", "answered"])
    works = [FIRST[base]] if base in FIRST else []
    later = [*LATER, "acceptance"] if base == "answered" else LATER
    works += chance.sample(later, chance.randint(1, 3))
    steps: list[Step] = [
        [
            *("kill", base, work, chance.choice(["call", "moment"]), round(chance.random(), 4)),
            *(_aftermath(chance), chance.randrange(1 << 30), chance.random() < 0.2),
        ]
        for work in works
    ]
    steps.append(["apply", round(chance.random(), 4), _aftermath(chance), chance.randrange(1 << 30)])
    return steps


def draw_small(chance: random.Random) -> list[Step]:
    """One kill of a work that changes much, at a change of the disk, and one of pki-apply."""
    work = chance.choice(["first build", "renewal", "revocation"])
    base = "new" if work == "first build" else "built"
    step = [
        "kill",
        base,
        work,
        "call",
        round(chance.uniform(0.1, 0.9), 4),
        _aftermath(chance),
        chance.randrange(99),
        False,
    ]
    return [step, ["apply", round(chance.uniform(0.1, 0.7), 4), _aftermath(chance), chance.randrange(1 << 30)]]


def _aftermath(chance: random.Random) -> str:
    found = chance.choice(AFTERMATHS)
    return f"{found} {chance.choice(list(OPTIONS))}" if found == "power" else found


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    context: CheckContext | None = None
    for number, step in enumerate(steps):
        if step[0] == "apply":
            _, fraction, aftermath, seed = step
            applied.kill(place / f"host-{number}", float(fraction), aftermath, seed, figures)
        else:
            base, work, *how = step[1:]
            if context is None:
                context = CheckContext(place / "desk", projects.copied(base, place / "desk"))
            _ready(context, base, work)
            _kill(context, WORKS[work], work, how, figures)


def _ready(context: CheckContext, base: str, work: str) -> None:
    """Carry out undisturbed what a project needs first, where the trial lacks the step that does it."""
    if (context.home.path / "build/hosts").exists() or FIRST.get(base) == work:
        return
    if base == "answered":
        context.run(*WORKS["acceptance"].prepare(context, random.Random(0)))  # noqa: S311 - no secret hangs on it
    projects.in_process(context.home, days=context.days)


def _kill(context: CheckContext, work: Work, name: str, how: Sequence[object], figures: Counter[str]) -> None:
    trigger, fraction, aftermath, seed, twice = how
    command = work.prepare(context, random.Random(seed))  # type: ignore[arg-type] # noqa: S311 - no secret hangs on it
    before = context.rows()
    kills = 0
    for line in [command, ("doit",)] if twice else [command]:
        was_killed = begin_and_kill(context, work, line, str(trigger), float(fraction), str(aftermath))  # type: ignore[arg-type]
        kills += was_killed
        figures[f"{str(aftermath).split()[0]}, by {trigger}" if was_killed else "ended before"] += 1
        figures[f"{name}: killed"] += was_killed
        rows = context.rows()
        insist(consistency.believable(context.home.path, rows), f"right after {name} was killed")
        insist_on_events(before, rows, work)
    recover(context, work, command, before, kills)


def begin_and_kill(
    context: CheckContext, work: Work, command: Command, trigger: str, fraction: float, aftermath: str
) -> bool:
    """Begin a command and kill it; whether it was killed, and had not ended before."""
    what, _, options = aftermath.partition(" ")
    with Disk(context.home.path, options).failing() if what == "power" else nullcontext():
        given = projects.environment(context.home, context.days)
        fuse = ("tests.campaigns.fused", f":{max(1, round(fraction * work.calls))}") if trigger == "call" else ()
        process = projects.started((*fuse, *command), given, context.log)
        if trigger == "moment":
            with suppress(subprocess.TimeoutExpired):
                process.wait(fraction * work.seconds * 1.3)
            with suppress(ProcessLookupError):
                (os.kill if what == "alone" else os.killpg)(process.pid, signal.SIGKILL)
        status = projects.ended(process, " ".join(command))
        with suppress(ProcessLookupError, PermissionError):
            if what != "alone":
                os.killpg(process.pid, signal.SIGKILL)
        projects.insist_on_none_left(process.pid)
    projects.insist_on_sentences(context.log.read_text(errors="replace"), " ".join(command))
    return status == -signal.SIGKILL


def insist_on_events(before: consistency.Rows, after: consistency.Rows, work: Work) -> None:
    if not work.forgets and (lost := consistency.lost_events(before, after)):
        raise CampaignError("lost events", str(lost))


def recover(context: CheckContext, work: Work, command: Command, before: consistency.Rows, kills: int) -> None:
    """One more run succeeds, the next one has nothing to do, and all is as it should be."""
    if work.repeats:
        context.run(*command, statuses=work.repeats)
    rows = context.settle()
    insist_on_events(before, rows, work)
    insist(_issued_too_often(before, rows, kills), "in what was issued")
    work.check(context)


def _issued_too_often(before: consistency.Rows, after: consistency.Rows, kills: int) -> Iterator[str]:
    """Each kill may cost a certificate that was recorded and not yet visible; more is issued twice without a reason."""
    for artifact, number in (consistency.issued(after) - consistency.issued(before)).items():
        if number > kills + 1 and not artifact.startswith(("legacy:", "authority:")):
            yield f"{artifact} was given {number} certificates"


CAMPAIGN = Campaign("kills", draw, run, 3, draw_small)
