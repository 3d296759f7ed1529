"""A project that grows old: each day with its events, its run, the person who keeps it, and those who judge."""

from __future__ import annotations

import ctypes
import gc
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pki.common import age
from pki.common.errors import PkiError
from pki.monitor.report.run import Run
from pki.project.clock_guard import Evidence, HostClock
from pki.project.project import Project
from tests.campaigns import killed, mounts, person
from tests.campaigns.campaign import CampaignError, Step
from tests.campaigns.deployed import Chain, Deployed, Fault, identity_in
from tests.campaigns.happenings import HAPPENINGS, accept_again, learn_revoked, let_hosts_be_down
from tests.campaigns.person import Person
from tests.support.ceremonies import RealHome, real_home
from tests.support.projects import START, Report, hasty, keys_opened_once

MARGIN = 13  # days for which everything stays valid after a run: CRLs of 21 days are replaced after 7
PATIENCE = 6  # times that the person types what is printed
HABIT = 30  # days after which the person makes a backup
FRAME = {"days", "short", "every", "delays", "late"}
SHORT = (
    ("root:   {lifetime: 10y", "root:   {lifetime: 400d, overlap: 60d"),
    ("server: {lifetime: 2y", "server: {lifetime: 220d"),
    ("client: {lifetime: 2y", "client: {lifetime: 220d"),
    ("client: {lifetime: 180d", "client: {lifetime: 90d"),
)
RITE = "invoke ceremony."
VERBOSE = bool(os.environ.get("PKI_CAMPAIGN_VERBOSE"))


@contextmanager
def quick() -> Iterator[None]:
    """Spare thousands of runs what does not belong to them: slow passphrases, fsync, the search for plugins."""
    with hasty(), keys_opened_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "entry_points", cache(metadata.entry_points))
        patch.setattr(ctypes.pythonapi, "Py_IncRef", lambda _: None)  # a run's tasks are held to the end of its process
        patch.setattr(age, "encrypt", lambda data, _: age.MARKS[0] + data)
        patch.setattr(age, "decrypt", lambda data, _passphrase, _name: data[len(age.MARKS[0]) :])
        yield


@dataclass
class Simulation:
    """One trial: its steps by day, and what is going on."""

    steps: Sequence[Step]
    place: Path
    figures: Counter[str]
    home: RealHome = field(init=False)
    deployed: Deployed = field(init=False)
    chain: Chain = field(init=False)
    days: int = 0
    short: int = 0  # whether authorities live for months, so that all of them are replaced in one year
    every: int = 1
    delays: list[int] = field(default_factory=lambda: [1])
    late: list[int] = field(default_factory=lambda: [0])
    able: int = 0  # the day of the last run that could do all that was due
    fault: str = ""  # what was done to the project since then
    has_changed: bool = True  # whether the last run made something, or did not end well
    is_excused: bool = False  # whether nobody could help that something is refused until the next run that ends well
    missed_until: int = 0
    kill: int = 0
    clock_until: int = 0
    clock_ahead: int = 0
    full_until: int = 0
    full_left: int = 0
    locked_until: int = 0
    locked: str = ""
    down: dict[str, int] = field(default_factory=dict)  # host → the day on which it is up again
    behind: set[str] = field(default_factory=set)  # hosts that were down, and that no run reached since
    broken: set[str] = field(default_factory=set)  # hosts whose files others damaged since a run was there
    acts_on: int = 0
    attempts: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    issued: dict[str, Any] = field(default_factory=dict)
    is_disturbed: bool = False  # whether something happened since the ledger was looked at that may make it issue early
    damage: str = ""  # what was flipped, until nothing needs a person
    backed_up: int = 0
    ledger_damaged: int = 0  # the day on which a bit of the ledger was flipped, which a backup tells
    log: list[str] = field(default_factory=list)

    # -- the frame --

    def live(self) -> None:
        by_day: dict[int, list[Step]] = {}
        for step in self.steps:
            if step[0] in FRAME:
                setattr(self, step[0], step[1])
            else:
                by_day.setdefault(int(step[1]), []).append(step)
        self.home = real_home(self.place / "project")
        for old, new in SHORT if self.short else ():
            self.home.edit(old, new)
        self.deployed = Deployed(self.home.path / "build/hosts", "monitoring")
        self.chain = Chain(self.home.path / "ca/ledger.db")
        (self.place / "desk").mkdir()
        (self.place / "work").mkdir()
        self.person = Person(self.home.path, self.place / "desk")
        with pytest.MonkeyPatch.context() as patch, person.unattended():
            let_hosts_be_down(patch, self.down)
            self.home.ceremony()
            report = self.doit(0)
            assert report.status == 0, report.failed
        with pytest.MonkeyPatch.context() as patch:
            let_hosts_be_down(patch, self.down)
            self.back_up(0)
            self.judge(0)
            for day in range(1, self.days + 1):
                self.day(day, by_day.get(day, []))
        self.figures["simulated days"] += self.days

    def day(self, day: int, events: list[Step]) -> None:
        busy = bool(events) or day % self.every == 0 or self.fault or self.acts_on == day or day in self.down.values()
        if not busy:
            return
        self.judge(day)
        for step in events:
            self.figures[f"events: {step[0]}"] += 1
            self.note(day, f"event {step}")
            HAPPENINGS[step[0]](self, day, *step[2:])
        if day < self.missed_until:
            return
        for host in [host for host, until in self.down.items() if until <= day]:
            del self.down[host]
        if day - self.backed_up >= HABIT and not self.fault:
            self.back_up(day)
        self.act(day)
        self.run(day)
        self.hold(day)
        if self.has_changed or self.is_disturbed:
            self.judge(day)
        gc.unfreeze()
        gc.enable()
        if day % 30 == 0:
            gc.collect()  # what a run leaves open ends with its process elsewhere

    def note(self, day: int, said: str) -> None:
        self.log.append(f"day {day}: {said}")
        if VERBOSE:
            print(self.log[-1], flush=True)

    def fail(self, kind: str, day: int, said: str) -> None:
        recent = "\n".join(self.log[-12:])
        raise CampaignError(kind, f"on day {day}: {said}\n{recent}")

    # -- a run --

    def evidence(self, project: Project) -> Evidence:
        """What two hosts say, whose clocks are right."""
        ahead = self.now_of(self.today) - project.now
        return Evidence(hosts=(HostClock("forge", ahead), HostClock("media", ahead)))

    def now_of(self, day: int) -> Any:
        return START + timedelta(days=day)

    today: int = 0

    def run(self, day: int) -> None:
        self.today, self.has_changed = day, True
        ahead = self.clock_ahead if day < self.clock_until else 0
        self.figures["runs"] += 1
        with ExitStack() as stack:
            if hindered := self.hinder(day, stack):
                self.fault = self.fault or hindered
            if self.kill:
                done = self.run_to_be_killed(day + ahead)
                if not done:
                    self.note(day, "killed")
                    self.figures["killed runs"] += 1
                    self.is_disturbed = True
                    return
                self.kill = done
            with person.unattended() as screen:
                report = self.doit(day + ahead)
        said, self.has_changed = (
            screen.getvalue(),
            bool(report.status or report.data.get("changed") or ahead or hindered),
        )
        if "Traceback" in said or "unexpected " in said:
            self.fail("a fault of the program", day, said)
        if ahead:
            self.fault = self.fault or "clock"
            self.is_excused = True
            self.note(day, f"clock {ahead} days ahead: status {report.status} {said[:2000]}")
            self.is_disturbed = True
            return
        if hindered:
            self.note(day, f"{hindered}: status {report.status} {said[:300]}")
            self.is_disturbed = True
            return
        self.took(day, report, said)

    def run_to_be_killed(self, day: int) -> int:
        """Run until the change of the disk that kills; returns 0 if it came so far, else the changes that are left."""
        if killed.killed_at(self.kill, lambda: self.in_fork(day)):
            self.kill = 0
            return 0
        return max(1, self.kill // 2)

    def in_fork(self, day: int) -> None:
        with person.unattended():
            self.doit(day)

    def doit(self, day: int) -> Report:
        """What a run did, as it says itself; nothing where nothing was done."""
        work = Run(self.home.path, self.now_of(day), self.evidence)
        return Report(work.main([]), dict(work.report))

    def hinder(self, day: int, stack: ExitStack) -> str:
        if day < self.full_until:
            stack.enter_context(mounts.full(self.place, self.full_left))
            return "full disk"
        if day < self.locked_until and (folder := self.home.path / self.locked).is_dir():
            stack.enter_context(mounts.read_only(folder))
            return f"read-only {self.locked or 'project'}"
        return ""

    def took(self, day: int, report: Report, said: str) -> None:
        """What follows from how a run ended."""
        failed = report.failed if report.data else {}
        others = {name for name in failed if name.partition(":")[2] not in self.down}
        nothing_run = not report.data
        if report.status and (others or nothing_run):
            self.refused(day, said)
            return
        if report.status:
            self.figures["runs that ended critical"] += 1
        self.behind &= set(self.down)
        self.broken &= set(self.down)
        if self.fault:
            self.note(day, f"healed from {self.fault}: {said.strip()[:300]}")
        self.able = day
        self.fault, self.is_excused = "", False
        notes = [
            note for note in report.data["notes"] if RITE not in note["remedy"]
        ]  # `hold` performs what is asked for
        if not notes:
            self.damage, self.acts_on, self.attempts, self.said = "", 0, 0, ""
            return
        if not self.acts_on:
            self.note(day, f"noted: {notes}")
            self.figures["notes"] += 1
            self.acts_on = day + self.delays[self.figures["notes"] % len(self.delays)]
        self.said = "".join(f"→ {note['remedy']}\n" for note in notes)
        if self.attempts > PATIENCE:
            self.fail("the printed commands do not help", day, str(notes))

    def refused(self, day: int, said: str) -> None:
        self.figures["refused runs"] += 1
        self.note(day, f"refused ({self.fault or 'no fault'}): {said.strip()}")
        if not self.fault and not self.damage:
            self.fail("refused without a fault", day, said)
        self.said = said
        if not self.acts_on:
            self.acts_on = day + self.delays[self.figures["refusals"] % len(self.delays)]
            self.figures["refusals"] += 1
        if self.attempts > PATIENCE:
            self.fail("the printed commands do not help", day, said)

    said: str = ""

    def act(self, day: int) -> None:
        """Type the next of the commands that the refusal printed."""
        if (
            not self.acts_on
            or day < self.acts_on
            or day < self.clock_until
            or day < self.full_until
            or day < self.locked_until
        ):
            return
        self.today = day
        found = person.printed(self.said)
        self.acts_on = day + 1
        if RITE in self.said and self.waiting():  # it was requested, and `hold` performs it; nothing else helps sooner
            return
        self.attempts += 1
        if not found:
            return
        words = found[(self.attempts - 1) % len(found)]
        for following in person.printed(self.typed(day, words)):
            self.typed(day, following)

    def typed(self, day: int, words: list[str]) -> str:
        """Type a command of the program; returns what it said."""
        if words[0] != "invoke" or words[1] == "backup":
            return ""
        status, said = self.person.types(words[1:], self.now_of(day), self.evidence)
        self.note(day, f"typed {words}: {status} {said}")
        self.figures["commands typed"] += 1
        self.figures[f"typed: {words[1]}"] += 1
        learn_revoked(self, said)
        self.is_disturbed = True
        return said

    def back_up(self, day: int) -> None:
        self.today = day
        status, said = self.person.types(["backup", "."], self.now_of(day), self.evidence)
        self.backed_up = day
        self.figures["backups"] += 1
        if status:
            self.note(day, f"backup: {said}")
            self.said, self.acts_on = said, day + 1
        for path in sorted((self.place / "desk").glob("*.age"))[:-2]:
            path.unlink()

    def hold(self, day: int) -> None:
        """Perform the ceremony that is asked for, so late as the person is."""
        if self.fault and RITE not in self.said:
            return
        if day < max(self.clock_until, self.full_until, self.locked_until):
            return
        waiting = self.waiting()
        if not waiting:
            self.asked.clear()
        for path in waiting:
            since = self.asked.setdefault("since", day)  # a request that is made again is no news for the person
            if day < since + self.late[self.figures["ceremonies"] % len(self.late)]:
                continue
            if self.home.vault_is_ahead_of(path / "request.yaml"):
                accept_again(self, day)
                return
            try:
                with person.unattended():
                    self.home.accept(self.home.answer(path / "request.yaml", day), day)
            except PkiError as error:
                self.note(day, f"ceremony: {error}")
                self.said, self.acts_on = f"→ {error.hint}", day + 1
                return
            self.note(day, f"ceremony {path.name}, {day - since} days late")
            self.figures["ceremonies"] += 1
            self.asked.clear()
            self.is_disturbed = True
            self.run(day)
            self.back_up(day)

    def waiting(self) -> list[Path]:
        """The newest request, if it has no response: an older one that was never answered is void."""
        newest = sorted(self.home.path.glob("ca/ceremonies/*"))[-1:]
        return [path for path in newest if not (path / "response.yaml").exists()]

    # -- judgement --

    def judge(self, day: int) -> None:
        """Let everybody judge what is deployed, as it is now."""
        now = self.now_of(day) + timedelta(minutes=1)
        self.figures["judgements"] += 1
        for path in self.home.path.glob("ca/clients/*/tls.pem"):
            data = path.read_bytes()
            if data not in self.deployed.clients and not self.fault:
                self.deployed.clients[data] = identity_in(data)
        faults = list(self.deployed.faults(now))
        if self.deployed.publisher in self.broken:
            faults = []
        elif day % 30 == 0:
            faults += list(self.deployed.openssl(now, self.place / "work"))
        if day == self.able:  # no host is broken then
            faults += list(self.deployed.unlisted(now))
        self.weigh(day, faults)
        if lost := list(self.deployed.lost(now, self.broken)):
            self.fail("lost revocation", day, str(lost))
        if not self.fault:
            self.judge_ledger(day)

    def weigh(self, day: int, faults: list[Fault]) -> None:
        faults = [(host, said) for host, said in faults if host not in self.behind | self.broken]
        if not faults:
            return
        if self.is_excused or day - self.able > MARGIN:
            self.figures["excused judgements"] += 1
            return
        self.figures["outage days"] += 1
        self.fail("outage", day, f"{faults} ({self.fault or 'no fault'}; last run on day {self.able})")

    def judge_ledger(self, day: int) -> None:
        wrong, issued = self.chain.look(whole=day % 30 == 0 or bool(self.ledger_damaged))
        self.deployed.ends |= {certificate.serial: certificate.end for certificate in issued}
        if self.ledger_damaged and day - self.ledger_damaged < 2 * HABIT:
            self.ledger_damaged = self.ledger_damaged if wrong else 0
            return
        if wrong:
            self.fail("ledger", day, str(wrong))
        for one in issued:
            before = self.issued.get(one.artifact)
            self.issued[one.artifact] = one
            self.figures["certificates"] += 1
            if before is None or before.issuer != one.issuer or self.is_disturbed:
                continue
            if one.start - before.start < (before.end - before.start) * 0.6:
                self.fail("issued twice", day, f"{before} and {one}")
        if day == self.able:
            self.is_disturbed = False
