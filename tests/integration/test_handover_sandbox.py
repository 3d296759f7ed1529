"""The sandbox, left to cron: it holds its own ceremonies, and nobody has to look after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.years import Years, quick_years
from tests.support.projects import Home, bare_home

ASKED = 490  # as in test_handover.py
SECOND = ASKED + 490
ROOT_ASKED = 2740


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_years():
        yield


@pytest.fixture
def sandbox(tmp_path: Path) -> Home:
    home = bare_home(tmp_path / "home")
    assert home.doit().status == 0
    return home


def held(home: Home) -> int:
    """How many ceremonies were held."""
    return len(list(home.path.glob("ca/ceremonies/*/response.yaml")))


def test_weekly_runs_keep_a_sandbox_sound_for_two_and_a_half_years(sandbox: Home, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    root = sandbox.read("ca/root/root-1/cert.pem")
    years = Years(sandbox, tmp_path / "work", lambda _: {"root-1": root})
    years.run(0)
    ceremonies = []
    for day in range(7, 1000, 7):
        before = held(sandbox)
        years.look(day)
        report = years.run(day)
        assert not report.data["notes"], day
        if held(sandbox) > before:
            ceremonies.append((day, held(sandbox) - before))
            years.look(day)
            assert years.run(day).made == {}, "one run held the ceremony and did all that follows from it"
    assert ceremonies == [(ASKED, 1), (SECOND, 1)]
    assert years.faults == []


@pytest.mark.parametrize(
    ("day", "generations"),
    [
        (ASKED, {"root-1", "server-1", "server-2", "client-1", "client-2"}),
        (1200, {"root-1", "server-2", "client-2"}),
        (ROOT_ASKED, {"root-1", "root-2", "server-2", "client-2"}),
        (4015, {"root-2", "server-2", "client-2"}),
    ],
    ids=["in time", "after its intermediates", "when its root hands over", "after its root"],
)
def test_run_after_a_long_sleep_holds_one_ceremony_and_all_that_follows(
    sandbox: Home, day: int, generations: set[str]
) -> None:
    report = sandbox.doit(days=day)
    assert (report.status, held(sandbox), report.data["notes"]) == (0, 2, [])
    assert {path.stem for path in sandbox.path.glob("build/crl/*-[0-9].crl")} == generations
    assert sandbox.doit(days=day).made == {}


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_parallel_run_holds_one_ceremony_and_the_third_has_nothing_to_do(sandbox: Home, kind: str) -> None:
    for _ in range(2):
        report = sandbox.doit("-n", "2", "-P", kind, days=ASKED)
        assert (report.status, report.failed, held(sandbox)) == (0, {}, 2)
    assert sandbox.doit("-n", "2", "-P", kind, days=ASKED).made == {}
