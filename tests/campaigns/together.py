"""Two to eight commands at once on one project: nothing is lost or issued twice, and none waits for ever.

The ledger is in SQLite, or in a PostgreSQL server that each process of the campaign starts for itself.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from tests.campaigns import consistency, projects
from tests.campaigns.campaign import Campaign, CampaignError, Step
from tests.campaigns.consistency import Rows
from tests.campaigns.scenes import SECRET, CheckContext, Command, insist
from tests.campaigns.works import importing, is_imported
from tests.integration import postgres
from tests.integration.conftest import LiveRealHome
from tests.support import judges

GUESTS = ("ann@x", "ben@x", "cat@x")
LEAVES = ("media", "admin", "forge-mtls")
TABLES = ("certificates", "revocations", "crls", "decisions", "events", "head")
REFUSED = (1,)
"""Refused because something else changed meanwhile; a sentence says what to type."""


@dataclass
class Shared(CheckContext):
    """A project on which several commands work; `database` is the address of its ledger, empty for SQLite."""

    database: str = ""
    started: list[str] = field(default_factory=list)

    def rows(self) -> Rows:
        if not self.database:
            return super().rows()
        text = "; ".join(f"SELECT coalesce(json_agg(t), '[]') FROM {table} t" for table in TABLES)  # noqa: S608
        parts = [server().sql(self.database, one).replace("\n", "") for one in text.split("; ")]
        return {table: json.loads(part) for table, part in zip(TABLES, parts, strict=True)}


@cache
def server() -> postgres.Postgres:
    """The server of this process, ended with it."""
    stack = ExitStack()
    found = stack.enter_context(postgres.running())
    Finalize(None, stack.close, exitpriority=10)
    return found


def draw(chance: random.Random) -> list[Step]:
    """Where the ledger is, how far the clock is, and what is started when."""
    names = list(STARTS)
    steps: list[Step] = [["project", chance.choice(["sqlite", "postgresql"]), chance.choice([0, 61])]]
    for _ in range(chance.randint(2, 8)):
        name = chance.choice(names)
        steps.append(["start", round(chance.random() ** 3 * 2, 3), name, chance.randrange(1 << 30)])
    return steps


def draw_small(chance: random.Random) -> list[Step]:
    """Three commands that write, on PostgreSQL."""
    names = chance.sample(["doit", "renew", "revoke", "client.add", "client.revoke"], 3)
    return [["project", "postgresql", 0], *(["start", 0, name, chance.randrange(1 << 30)] for name in names)]


# -- what is started --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """A command, the exit statuses that make sense, and those with which it says that it did what was asked."""

    command: Callable[[Shared, random.Random, int], Command]
    statuses: tuple[int, ...] = (0,)
    done: tuple[int, ...] = (0,)
    issues: bool = False
    """Whether it may give a certificate to any leaf once more."""


def _run(_: Shared, chance: random.Random, _number: int) -> Command:
    return ("doit", "-n", str(chance.randint(2, 4))) if chance.random() < 0.4 else ("doit",)


def _renew(_: Shared, chance: random.Random, _number: int) -> Command:
    return ("invoke", "renew", chance.choice(LEAVES))


def _revoke(_: Shared, chance: random.Random, _number: int) -> Command:
    more = ("--no-replace",) if chance.random() < 0.2 else ()
    return ("invoke", "revoke", chance.choice(LEAVES), "--reason", "superseded", *more, "--yes")


def _add(_: Shared, _chance: random.Random, number: int) -> Command:
    return ("invoke", "client.add", f"new{number}@x", "--email", "new@lab.internal")


def _remove(_: Shared, chance: random.Random, _number: int) -> Command:
    return ("invoke", "client.revoke", chance.choice(GUESTS), "--reason", "key-compromise", "--yes")


def _backup(_: Shared, _chance: random.Random, number: int) -> Command:
    return ("invoke", "backup", f"backup-{number}.age", *SECRET)


def _restore(_: Shared, _chance: random.Random, _number: int) -> Command:
    return ("invoke", "restore", "before.age", "--yes", *SECRET)


def _import(_: Shared, _chance: random.Random, _number: int) -> Command:
    return ("invoke", "ledger.import", "issuance_records")


def _looks(_: Shared, chance: random.Random, _number: int) -> Command:
    return chance.choice([("invoke", "plan"), ("invoke", "status"), ("invoke", "health"), ("invoke", "ledger.verify")])


STARTS = {
    "doit": Start(_run, (0,), issues=True),
    "renew": Start(_renew, (0, *REFUSED), issues=True),
    "revoke": Start(_revoke, (0, 2, *REFUSED), (0, 2), issues=True),
    "client.add": Start(_add, (0, *REFUSED), issues=True),
    "client.revoke": Start(_remove, (0, 2, *REFUSED), (0, 2), issues=True),
    "backup": Start(_backup),
    "restore": Start(_restore, (0, *REFUSED)),
    "import": Start(_import),
    "looks": Start(_looks, (0, 1, 2, 3, 4)),  # 61 days after the last run, `health` warns until one has ended
}


# -- a trial ----------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A command that was started."""

    name: str
    command: Command
    process: subprocess.Popen[bytes]
    log: Path
    status: int = 0

    @property
    def said(self) -> str:
        return f"{' '.join(self.command)}: exit {self.status}\n{self.log.read_text(errors='replace')}"

    @property
    def is_done(self) -> bool:
        return self.status in STARTS[self.name].done


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    chosen: Step = next((step for step in steps if step[0] == "project"), ["project", "sqlite", 0])
    _, ledger, days = chosen
    is_whole = any(step[0] == "start" and step[2] in {"import", "restore"} for step in steps)
    shared = prepared(place / "desk", ledger, int(days), is_whole=is_whole)
    before = shared.rows()
    begun = started(shared, [step for step in steps if step[0] == "start"])
    for one in begun:
        one.status = projects.ended(one.process, one.name)
        projects.insist_on_none_left(one.process.pid)
        figures[f"{one.name}: exit {one.status}"] += 1
    figures[f"on {ledger}"] += len(begun)
    for one in begun:
        projects.insist_on_sentences(one.said, one.name)
        if one.status not in STARTS[one.name].statuses:
            raise CampaignError(f"{one.name}: exit {one.status}", "\n".join(other.said for other in begun))
        if one.status == 1 and one.name != "looks" and "→" not in one.said:
            raise CampaignError(f"{one.name}: no remedy", one.said)
    try:
        judge(shared, before, begun)
    except CampaignError as fault:
        raise CampaignError(fault.kind, f"{fault}\n" + "\n".join(one.said for one in begun)) from None


@cache
def original(ledger: str, *, is_whole: bool) -> tuple[Shared, str]:
    """The example with guests, after a run, and its database as a dump; if whole, with an adopted CA and a backup."""
    desk = projects.scratch() / f"{ledger}-{is_whole}"
    shared = Shared(desk, projects.copied("new", desk))
    if ledger == "postgresql":
        shared.database = server().database()
        shared.home.edit("ledger: sqlite", f"ledger: {shared.database}")
    lines = "".join(f"  {name}: {{email: guest@lab.internal}}\n" for name in GUESTS)
    shared.home.edit("clients:\n", f"clients:\n{lines}")
    projects.in_process(shared.home)
    if is_whole:
        chance = random.Random(0)  # noqa: S311 - no secret hangs on it
        shared.run(*importing(shared, chance))
        projects.in_process(shared.home)
        shared.run("invoke", "backup", "before.age", *SECRET)
        importing(shared, chance)  # its books grew since then
    return shared, server().dump(shared.database) if shared.database else ""


def prepared(desk: Path, ledger: str, days: int, *, is_whole: bool) -> Shared:
    """A copy of it, on a database of its own."""
    first, dump = original(ledger, is_whole=is_whole)
    shutil.copytree(first.desk, desk, symlinks=True)
    shared = Shared(desk, LiveRealHome(desk / projects.FOLDER), days, adopted=first.adopted)
    if dump:
        shared.database = server().database()
        server().load(shared.database, dump)
        shared.home.edit(first.database, shared.database)
    return shared


def started(shared: Shared, steps: Sequence[Step]) -> list[Running]:
    given = projects.environment(shared.home, shared.days)
    begin, begun = time.monotonic(), []
    for number, (_, delay, name, seed) in enumerate(sorted(steps, key=lambda step: float(step[1]))):
        chance = random.Random(seed)  # noqa: S311 - no secret hangs on it
        command = STARTS[name].command(shared, chance, number)
        time.sleep(max(0.0, begin + float(delay) - time.monotonic()))
        log = shared.desk / f"log-{number}"
        begun.append(Running(name, command, projects.started(command, given, log), log))
    return begun


def judge(shared: Shared, before: Rows, begun: Sequence[Running]) -> None:
    """What each command said it did is there; one more run settles all, and nothing was issued too often."""
    was_restored = any(one.name == "restore" and one.is_done for one in begun)
    insist(consistency.ledger_faults(shared.rows()), "after all ended")
    projects.in_process(shared.home, days=shared.days)
    if was_restored:
        _renew_unknown(shared)
    rows = shared.settle()
    if not was_restored:
        if lost := consistency.lost_events(before, rows):
            raise CampaignError("lost events", str(lost))
        insist(_issued_too_often(before, rows, begun), "in what was issued")
    insist(_undone(shared, before, rows, begun, was_restored=was_restored), "with what a command said")


def _renew_unknown(shared: Shared) -> None:
    """As `restore` says: certificates that were issued after the backup are replaced by ones that the ledger knows."""
    known = {int(row["serial"], 16) for row in shared.rows()["certificates"]}
    for pattern in consistency.LEAVES:
        for folder in sorted(shared.home.path.glob(pattern)):
            if judges.certificate(folder / "cert.pem").serial_number not in known:
                shared.run("invoke", "renew", folder.name)


def _issued_too_often(before: Rows, after: Rows, begun: Sequence[Running]) -> Iterator[str]:
    """One for the clock, and one for each command that names the leaf."""
    for artifact, number in (consistency.issued(after) - consistency.issued(before)).items():
        name = artifact.partition(":")[2].removeprefix("client-")
        asked = sum(name in one.command for one in begun)
        if number > 1 + asked and not artifact.startswith("legacy:"):
            yield f"{artifact} was given {number} certificates, and {asked} commands name it"


def _undone(shared: Shared, before: Rows, rows: Rows, begun: Sequence[Running], *, was_restored: bool) -> Iterator[str]:
    """What a command said that it did, and what is not so."""
    there = (shared.home.path / "pki.yaml").read_text()
    revoked = {row["serial"] for row in rows["revocations"]}
    for one in (one for one in begun if one.is_done):
        subject = one.command[2] if len(one.command) > 2 else ""
        if one.name == "client.add" and f"\n  {subject}:" not in there:
            yield f"{subject} was added, and is not in pki.yaml"
        if one.name == "client.revoke" and f"\n  {subject}:" in there:
            yield f"{subject} was removed, and is in pki.yaml"
        if one.name in {"revoke", "client.revoke"}:
            client = f"cert:client-{subject}"
            old = {row["serial"] for row in before["certificates"] if row["artifact"] in {client, f"cert:{subject}"}}
            if not old & revoked and not _is_renewed(begun, subject):
                yield f"{subject} was revoked, and its certificate is not"
        if one.name == "backup":
            shared.run("invoke", "restore", f"{subject}", "--to", f"{subject}.restored", *SECRET)
            yield from consistency.ledger_faults(consistency.ledger_rows(shared.desk / f"{subject}.restored"))
            shutil.rmtree(shared.desk / f"{subject}.restored")
    if not was_restored and any(one.name == "import" for one in begun):
        is_imported(shared)


def _is_renewed(begun: Sequence[Running], subject: str) -> bool:
    """Whether a newer certificate of the same leaf may be the one that was revoked."""
    return any(
        one.name in {"renew", "doit", "revoke"} and (one.name == "doit" or subject in one.command) for one in begun
    )


CAMPAIGN = Campaign("together", draw, run, 1, draw_small)
