"""Commands in odd surroundings: each ends well or is refused in a sentence, and the next one, started as usual, ends well.

A step names a command and what is odd about the place where it is started. What `ODD` calls harmless must end well there.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.campaigns import consistency, projects
from tests.campaigns.campaign import Campaign, CampaignError, Step
from tests.campaigns.odd import ODD, Start
from tests.campaigns.scenes import SECRET, CheckContext, Command, insist
from tests.integration.conftest import LiveRealHome
from tests.support.projects import PROJECT

COMMANDS: dict[str, Command] = {
    "doit": ("doit",),
    "doit -n": ("doit", "-n", "3"),
    "plan": ("invoke", "plan"),
    "status": ("invoke", "status"),
    "health": ("invoke", "health"),
    "renew": ("invoke", "renew", "media"),
    "revoke": ("invoke", "revoke", "admin", "--reason", "superseded", "--yes"),
    "client.add": ("invoke", "client.add", "guest@x", "--email", "guest@lab.internal"),
    "backup": ("invoke", "backup", "{desk}/backup.age", *SECRET[:1], "{desk}/words"),
    "ledger.verify": ("invoke", "ledger.verify"),
}
WELL = {"health": (0, 1, 2), "revoke": (0, 2), "status": (0, 1), "plan": (0, 2)}
SECONDS = 3.0
"""What a command takes, about: signals and hang-ups come within this time."""


def draw(chance: random.Random) -> list[Step]:
    """A few commands, each with one or two oddities."""
    steps: list[Step] = []
    for _ in range(3):
        odd = chance.sample(list(ODD), chance.choice([1, 1, 2]))
        steps.append(
            ["start", chance.choice(list(COMMANDS)), odd, round(chance.random(), 4), chance.randrange(1 << 30)]
        )
    return steps


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    for number, (_, name, odd, fraction, seed) in enumerate(steps):
        desk = place / f"desk-{number}"
        context = CheckContext(desk, projects.copied("built", desk))
        context.home.add_service(f"extra{number}")
        _one(context, name, odd, float(fraction), random.Random(seed), figures)  # noqa: S311 - no secret hangs on it
        shutil.rmtree(desk, ignore_errors=True)


def _one(
    context: CheckContext, name: str, odd: Sequence[str], fraction: float, chance: random.Random, figures: Counter[str]
) -> None:
    start = Start(
        command=tuple(word.format(desk=context.desk) for word in COMMANDS[name]),
        home=context.home.path,
        environment={**os.environ, "PKI_CALLED_FROM": str(context.desk)},
        cwd=PROJECT,
        log=context.log,
    )
    before = context.rows()
    for one in odd:
        if not ODD[one].apply(start, chance):
            figures["not possible here"] += 1
            return
    status, said = _carried_out(start, fraction)
    context.home = LiveRealHome(start.home)
    what = f"{name}, {', '.join(odd)}: exit {status}\n{said}"
    figures["ended well" if status in WELL.get(name, (0,)) else "refused or stopped"] += 1
    projects.insist_on_sentences(said, what)
    if all(ODD[one].is_harmless for one in odd) and status not in WELL.get(name, (0,)):
        raise CampaignError(f"fails with {', '.join(odd)}", what)
    if status not in {0, 2} and not said.strip() and not any(ODD[one].is_silent for one in odd):
        raise CampaignError("ends without a word", what)
    for undo in reversed(start.undo):
        undo()
    try:
        insist(consistency.believable(context.home.path, context.rows()), "right after it")
        rows = context.settle()
    except CampaignError as fault:
        raise CampaignError(fault.kind, f"{fault}\n{what}") from None
    if lost := consistency.lost_events(before, rows):
        raise CampaignError("lost events", f"{lost}\n{what}")


def _carried_out(start: Start, fraction: float) -> tuple[int, str]:
    """Start it, send what is to be sent at a fraction of its time, and wait; its exit status, and what it said."""
    process = start.begin()
    if start.signal is not None or start.hangs_up:
        with suppress(subprocess.TimeoutExpired):
            process.wait(fraction * SECONDS)
        if start.signal is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                (os.killpg if start.is_to_group else os.kill)(process.pid, start.signal)
        start.close()
    status = projects.ended(process, " ".join(start.command))
    projects.insist_on_none_left(process.pid)
    start.close()
    return (128 - status if status < 0 and -status in {signal.SIGINT, signal.SIGTERM} else status), start.said()


CAMPAIGN = Campaign("surroundings", draw, run, 1)
