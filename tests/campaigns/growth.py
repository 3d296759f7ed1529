"""Years of many hosts: what grows, whether it has a bound, and how much longer a run with nothing to do and `health` take."""

from __future__ import annotations

import gc
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from tests.campaigns import person
from tests.campaigns.campaign import Campaign, CampaignError, Step
from tests.campaigns.person import Person
from tests.campaigns.simulation import quick
from tests.support.ceremonies import RealHome, real_home
from tests.support.projects import START, two_hosts_agree

STEP = 7  # days between two runs: after so many each CRL is made again
ROUNDS = 9  # of old and new project in turn, of which the quickest counts
IDLE, HEALTH = 1.2, 3.0  # times what a new project takes
EVENT = 3000  # bytes of the ledger for each of its events
BOUNDED = {  # what has a bound: as large after all years as after half of them, but for single files
    "histories": "build/history",
    "cache": "build/.seen.json",
    "reports": "build/report",
    "receipts": "build/receipts",
    "releases": "build/release",
    "certificates": "build/certs",
    "CRLs": "build/crl",
    "hosts": "build/hosts",
    "clients": "ca/clients",
}
OUTBOX, MESSAGES = "build/report/outbox", 200  # the most that are kept there
GROWING = {"outbox": OUTBOX, "ledger": "ca/ledger.db", "transcripts": "ca/ceremonies", "ca": "ca"}
HOST = (
    '  host-{0}:\n    network: dev\n    services:\n      app-{0}: {{upstream: "http://127.0.0.1:3000", access: {1}}}\n'
)


def draw(chance: random.Random) -> list[Step]:
    return [["hosts", chance.choice((50, 50, 1000))], ["years", 10]]


def draw_small(_chance: random.Random) -> list[Step]:
    return [["hosts", 5], ["years", 2]]


def run(steps: Sequence[Step], place: Path, figures: Counter[str]) -> None:
    said = {step[0]: int(step[1]) for step in steps}
    hosts, days = said.get("hosts", 5), said.get("years", 1) * 365
    with quick():
        old, new = founded(place / "old", hosts), founded(place / "new", hosts)
        middle: dict[str, int] = {}
        for day in range(STEP, days, STEP):
            live(old, day)
            if not middle and day >= days // 2:
                middle = sizes(old, BOUNDED)
        end = sizes(old, BOUNDED | GROWING)
        what = f"{hosts} hosts, {days // 365} years"
        for name, size in end.items():
            figures[f"{what}: kB of {name}"] += size // 1000
        figures[f"{what}: events in the ledger"] += (events := events_of(old))
        figures[f"{what}: trials"] += 1
        for name, size in middle.items():
            if end[name] > 1.3 * size + 64_000:
                raise CampaignError(
                    "grows without a bound", f"{name}: {size} bytes after half the time, {end[name]} now"
                )
        if (messages := len(list((old.path / OUTBOX).glob("*")))) > MESSAGES:
            raise CampaignError("grows without a bound", f"{messages} messages in the outbox")
        if end["ledger"] > events * EVENT:
            raise CampaignError("the ledger is too large", f"{end['ledger']} bytes for {events} events")
        compare(old, days, new, what, figures)


def founded(place: Path, hosts: int) -> RealHome:
    """A project with so many hosts, after its ceremony and its first run."""
    home = real_home(place)
    (place / "desk").mkdir()
    lines = "".join(HOST.format(number, "mtls" if number % 10 == 0 else "tls") for number in range(hosts))
    home.edit("\nclients:", f"{lines}\nclients:")
    with person.unattended():
        home.ceremony()
        report = home.doit()
    assert report.status == 0, report.failed
    return home


def live(home: RealHome, day: int) -> None:
    """A run, and the ceremony that is asked for."""
    with person.unattended() as screen:
        report = home.doit(days=day)
        for folder in sorted(home.path.glob("ca/ceremonies/*")):
            if not (folder / "response.yaml").exists():
                home.accept(home.answer(folder / "request.yaml", day), day)
                report = home.doit(days=day)
    gc.unfreeze()
    gc.enable()
    if report.failed:
        raise CampaignError("refused", f"day {day}: {screen.getvalue()}")


def sizes(home: RealHome, of: dict[str, str]) -> dict[str, int]:
    """Bytes by what they are for; the outbox is none of the reports."""
    found = {name: size_of(home.path / path) for name, path in of.items()}
    return found | {"reports": found["reports"] - size_of(home.path / OUTBOX)}


def size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    inodes = {(one := file.lstat()).st_ino: one.st_size for file in path.rglob("*") if file.is_file()}
    return sum(inodes.values())


def events_of(home: RealHome) -> int:
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        found: int = db.execute("SELECT count(*) FROM events").fetchone()[0]
        return found


def compare(old: RealHome, days: int, new: RealHome, what: str, figures: Counter[str]) -> None:
    """Raise CampaignError where the old project takes too much longer than a new one of the same hosts."""
    live(old, days)
    works: dict[str, tuple[float, Callable[[RealHome, int], None]]] = {
        "idle run": (IDLE, idle),
        "health": (HEALTH, health),
    }
    for name, (bound, work) in works.items():
        took: dict[RealHome, list[float]] = {old: [], new: []}
        for number in range(ROUNDS):
            for home, first in ((old, days), (new, 0)):
                started = time.process_time()
                work(home, first + number // 3)
                took[home].append(time.process_time() - started)
        ratio = min(took[old]) / min(took[new])
        figures[f"{what}: {name}, hundredths of the time of a new project"] += round(100 * ratio)
        if ratio > bound:
            raise CampaignError(f"the {name} is slower", f"{ratio:.2f} times as long as in a new project")


def idle(home: RealHome, day: int) -> None:
    with person.unattended() as screen:
        report = home.doit(days=day)
    gc.unfreeze()
    assert not report.data["changed"], screen.getvalue()


def health(home: RealHome, day: int) -> None:
    status, said = Person(home.path, home.path.parent / "desk").types(
        ["health"], START + timedelta(days=day), two_hosts_agree
    )
    assert status in {0, 1, 2, 3, 4}, said
    assert "Traceback" not in said, said


CAMPAIGN = Campaign("growth", draw, run, 1, draw_small)
