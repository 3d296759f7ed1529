"""The end of a run: health is looked at, and whoever should know is told, whatever failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pki import store
from pki.deploy.receipt import moment
from pki.errors import InventoryError, PkiError
from pki.graph import Plan
from pki.house import House
from pki.memo import Memo
from pki.store import Store
from pki.watch import channels, health, premises, probes, services
from pki.watch.channels import News, Telling
from pki.watch.checks import Check, Level
from pki.watch.health import BROKEN
from pki.watch.probes import Probed
from pki.watch.told import Addresses, Record
from pki.watch.view import LastRun
from pki.world import Note


class Watchman:
    """What a run calls at its end: `look` while the house is open, `tell` when nothing else can fail any more."""

    def __init__(self, house: Callable[[], House], plan: Callable[[], Plan]) -> None:
        self._house = house
        self._plan = plan
        self._checks: list[Check] = []
        self._probes: Sequence[Probed] = ()
        self._swept = False
        self._head = ""

    def look(self, report: Mapping[str, Any], notes: Sequence[Note]) -> None:
        """Look at the house as this run leaves it."""
        house, run = self._house(), LastRun.of(report)
        broken: Sequence[Check] = ()
        if run.asked:
            self._probes = probes.load(house)
        elif run.result != "interrupted":
            self._probes, broken = health.sweep(house, self._plan())
            self._swept = not broken
        self._checks = health.checks(house, self._plan(), run, notes, self._probes, broken, thorough=False)
        with suppress(PkiError):  # said by the look at the ledger
            self._head = premises.head(house)

    def leavings(self) -> Mapping[str, Callable[[Mapping[str, Any]], None]]:
        """What a run leaves for those who look later, whatever failed."""
        return {"what was seen of services": self._keep_probes} if self._swept else {}

    def _keep_probes(self, _report: Mapping[str, Any]) -> None:
        house = self._house()
        probes.keep(house.store, self._probes, house.now)

    def tell(self, report: Mapping[str, Any]) -> list[dict[str, str]]:
        """Tell people; what became of each message, for the report. An interrupted run has seen too little to tell."""
        house, run = self._house(), LastRun.of(report)
        to = Addresses.of(house.inventory)
        if not to.are_there:
            _forget(house.store)
            return []
        if run.result == "interrupted":
            return []
        said = {check.subject for check in self._checks if check.level}
        late = [  # what went wrong after the look
            Check(name, Level.WARNING, failure.message, failure.hint, topic="run")
            for name, failure in run.failed.items()
            if name not in said and f"deploy:{name}" not in said
        ]
        news = News(
            [*self._checks, *late],
            _looked_at(run, self._checks, services.subjects(self._probes)),
            _summary(report),
            self._head,
        )
        return [_entry(one) for one in channels.tell(house.store, to, news, house.now)]


def _looked_at(run: LastRun, checks: Sequence[Check], unwell: Collection[str]) -> Callable[[str], bool]:
    """Whether a run would have found a check of a key again: its look was held, and its artifact asked for.

    Services are looked at by whole runs; those that are `unwell` may be told of by another check.
    """
    broken = {check.subject for check in checks if check.topic == BROKEN}

    def looked_at(key: str) -> bool:
        subject, _, topic = key.rpartition(" ")
        if topic == "services" and (run.asked or subject in unwell):
            return False
        is_artifact = topic in {"certificates", "crls", "hosts", "run"} and ":" in subject
        return topic not in broken and (not is_artifact or run.covers(subject))

    return looked_at


def nothing_was_run(home: Path, now: datetime, error: PkiError) -> list[dict[str, str]]:
    """Tell those who were told last that pki.yaml, or what is read before anything is run, is wrong.

    What that leads to is known from the last good look: the first certificate or CRL that will end for it.
    """
    place = Store(home)
    to = Record.load(place.ca, now).addresses
    if to is None:
        return []
    faults = error.faults if isinstance(error, InventoryError) else [error.message]
    ends = [datetime.fromtimestamp(one[1], UTC) for kind in ("cert:", "crl:") for one in Memo(home).findings(kind)]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    text = f"nothing was run, and nothing is renewed until that is mended: {faults[0]}{more}"
    remedy = error.hint or "mend pki.yaml, then: ./run invoke plan"
    wrong = Check("pki.yaml", Level.CRITICAL, text, remedy, until=min(ends, default=None), topic="run")
    run = f"The run of {now:%Y-%m-%d %H:%M} UTC did nothing."
    news = News([wrong], lambda key: key == wrong.key, run, "")
    return [_entry(one) for one in channels.tell(place, to, news, now)]


def _forget(place: Store) -> None:
    """Nobody is to be told any more: not on the day either on which pki.yaml is wrong."""
    if (place.ca / store.ALERTS).exists():
        (place.ca / store.ALERTS).unlink()


def _entry(telling: Telling) -> dict[str, str]:
    error = telling.error
    return {
        "channel": telling.channel,
        "subject": telling.subject,
        "error": error.message if error else "",
        "hint": error.hint if error else "",
    }


def _summary(report: Mapping[str, Any]) -> str:
    counts = [(len(report[key]), word) for key, word in (("made", "made"), ("failed", "failed"))]
    counts += [(len(report["not_reached"]), "not reached"), (report["fresh"], "fresh")]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"The run of {moment(report['at']):%Y-%m-%d %H:%M} UTC: {said}."
