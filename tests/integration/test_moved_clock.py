"""The whole process under a moved clock: doit as cron would run it weeks and months later."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import LiveHome, LiveRealHome, built, moved_clock, run
from tests.support.ceremonies import real_home
from tests.support.projects import PROJECT

DOIT = (sys.executable, "-m", "doit")
INVOKE = (sys.executable, "-m", "invoke")
SERVERS = {"cert:monitoring-mtls", "cert:forge-mtls", "cert:media"}


def made_by_a_run(home: LiveHome, days: int) -> set[str]:
    report = home.faked_doit(days)
    assert report.status == 0, report.failed
    return set(report.made)


def leaves(made: set[str]) -> set[str]:
    return {name for name in made if name.startswith("cert:")}


def lived(home: LiveHome, *days: int) -> None:
    """Let runs come on these days: a clock is believed up to 180 days after the last of them."""
    for day in days:
        made_by_a_run(home, day)


def test_first_months_of_a_project(home: LiveHome) -> None:
    made = made_by_a_run(home, 29)
    assert {"crl:server-1", "crl:client-1", "bundle:client-crls"} <= made
    assert leaves(made) == set()
    assert leaves(made_by_a_run(home, 61)) == SERVERS
    assert leaves(made_by_a_run(home, 62)) == set()
    assert made_by_a_run(home, 62) == set()
    assert home.project().ledger.verify() == []


def test_three_weeks_without_a_run_cost_new_crls_and_nothing_else(home: LiveHome) -> None:
    """The CRLs ended after 21 days: hosts refused clients until this run, and accept them after it."""
    made = made_by_a_run(home, 22)
    assert {name for name in made if not name.startswith(("release:", "deploy:"))} == {
        "crl:server-1",
        "crl:client-1",
        "bundle:client-crls",
        "page:trust",
    }


def test_client_certificates_are_renewed_on_day_one_hundred_and_fifty(home: LiveHome) -> None:
    assert leaves(made_by_a_run(home, 151)) == {*SERVERS, "cert:client-admin"}


def test_root_crl_changes_to_its_next_rung_without_a_ceremony(home: LiveHome) -> None:
    before = home.read("build/crl/root-1.crl")
    lived(home, 170, 340)
    assert "crl:root-1" in made_by_a_run(home, 380)
    assert home.read("build/crl/root-1.crl") != before


@pytest.fixture
def real(tmp_path: Path) -> LiveRealHome:
    """A project outside the sandbox, after its first ceremony and run."""
    home = LiveRealHome(real_home(tmp_path / "real").path)
    home.ceremony()
    built(home)
    return home


def test_project_outside_the_sandbox_asks_for_its_next_ceremony(real: LiveRealHome) -> None:
    """A request is a success: that somebody must act stands in the summary, in `invoke plan` and in `invoke status`."""
    lived(real, 170, 340)
    ahead = {**real.environment, **moved_clock(500)}
    said = run(*DOIT, cwd=PROJECT, env=ahead)
    assert "ceremony:request" in said
    assert said.endswith(f"\n1 action required: see PKI_HOME={real.path} ./run invoke plan\n"), said
    request = real.read("ca/ceremonies/0002/request.yaml").decode()
    assert "client-2: client-1 can issue certificates of full lifetime until " in request
    assert re.search(r"^\d+ tasks up to date .*\n1 warning.*\n1 action required", run(*DOIT, cwd=PROJECT, env=ahead))
    assert "a root ceremony is due by " in run(*INVOKE, "plan", cwd=PROJECT, env=ahead)
    assert re.search(
        r"authority:client-1 +due .*a successor is requested on \S+, and must exist by ",
        run(*INVOKE, "status", cwd=PROJECT, env=ahead),
    )
    assert real.project().ledger.verify() == []
