"""The timeline against the years themselves: on every day that it names doit does what it said, and the day before nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pki.monitor import forecast
from pki.monitor.timeline.events import Timeline, timeline
from tests.integration.years import quick_years
from tests.support.ceremonies import RealHome, real_home
from tests.support.projects import START, Home

FORETOLD = ("cert:", "crl:root", "ceremony:")
LAST = 1900  # days: the first root ends on day 1825


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_years():
        yield


def foretell(home: Home, years: int, days: float = 0) -> Timeline:
    project = home.project(days)
    found = timeline(project, home.plan(days), years)
    project.close(run_succeeded=False)
    return found


def day_of(moment: datetime) -> int:
    return (moment - START) // timedelta(days=1)


def announced(found: Timeline) -> dict[int, set[str]]:
    """What doit should make on each day: certificates, root CRLs, requests; intermediates' CRLs only come by date."""
    days: dict[int, set[str]] = {}
    for name, one in found.renewals.items():
        for at, _ in one.issued:
            days.setdefault(day_of(at), set()).add(f"cert:{name}")
    for event in found.events:
        if event.what == "presigned_crl":
            days.setdefault(day_of(event.at), set()).add(event.subject)
        if event.what == "request":
            days.setdefault(day_of(event.at), set()).add("ceremony:request")
    return days


def due_on(home: Home, day: int) -> set[str]:
    project = home.project(day)
    found = {artifact.id for artifact, _ in forecast.due_artifacts(home.plan(day))}
    project.close(run_succeeded=False)
    return {name for name in found if name.startswith(FORETOLD)}


def made_on(home: Home, day: int) -> set[str]:
    report = home.doit(days=day)
    assert report.status == 0, (day, report.failed)
    return {name for name in report.made if name.startswith(FORETOLD)}


def hold(home: RealHome, day: int) -> set[str]:
    """Answer the open request; the root CRLs that doit publishes then are part of the ceremony, and told with it."""
    (waiting,) = (folder for folder in home.project(day).store.ceremonies() if not (folder / "response.yaml").exists())
    home.accept(home.answer(waiting / "request.yaml", day), day)
    return {name for name in made_on(home, day) if not name.startswith("crl:")}


def test_years_come_as_they_were_foretold(tmp_path: Path) -> None:
    """Renewals on days of their own, a ceremony every 490 days at the latest, a new root, the end of the old one."""
    home = real_home(tmp_path / "real")
    # CRLs every quarter, and longer certificates, so that the years have fewer days on which something changes
    home.edit("crl: {lifetime: 21d, refresh: 7d}", "crl: {lifetime: 180d, refresh: 90d}")
    home.edit(
        "server: {lifetime: 90d, renew_before: 30d", "server: {lifetime: 180d, renew_before: 20d, renew_spread: 20d"
    )
    home.edit(
        "client: {lifetime: 180d, renew_before: 30d", "client: {lifetime: 180d, renew_before: 30d, renew_spread: 10d"
    )
    home.edit("root:   {lifetime: 10y", "root:   {lifetime: 5y")
    home.ceremony()
    assert home.doit().status == 0

    found = foretell(home, 6)
    days, held = announced(found), {day_of(one.performed): one for one in found.ceremonies}
    early = [event for event in found.problems if day_of(event.at) <= LAST]
    assert early == []
    assert sum(1 for one in held.values() if "root-2" in one.products) == 1
    for day in sorted(day for day in {*days, *held} if day <= LAST):
        assert due_on(home, day - 1) <= days.get(day - 1, set()), (
            f"on day {day - 1} something is due that was not foretold"
        )
        if day in held:
            assert hold(home, day) == days[day], f"day {day}, a ceremony"
        else:
            assert made_on(home, day) == days[day], f"day {day}"
    project = home.project(LAST)
    brought = {name for one in held.values() for name in one.products if not name.endswith(" CRLs")}
    there = {name for one in ("root", "server", "client") for name in project.store.generations(one)}
    assert {name for name in brought if day_of(born(found, name)) <= LAST} == there - {"root-1", "server-1", "client-1"}


def born(found: Timeline, generation: str) -> datetime:
    return next(one.performed for one in found.ceremonies if generation in one.products)
