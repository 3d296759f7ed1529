"""What a run says at its end agrees with what it found: its last lines, its exit status, and the commands that follow."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from pki.monitor import probes
from pki.monitor.probes import ProbeFault, ProbeResult
from tests.support.commands import Invoke
from tests.support.invoked import invoke
from tests.support.projects import START, Home

__all__ = ["invoke"]

See = Callable[..., None]
WELL = ProbeResult("monitoring", "grafana", "grafana.lab.internal", 443, "mtls", at=START)
FOREIGN = replace(
    WELL, fault=str(ProbeFault.UNVERIFIED), wrong="serves a certificate that does not verify: self-signed certificate"
)
DEAD = replace(WELL, fault=str(ProbeFault.SILENT), wrong="does not answer: Connection refused", reached=False)
SUBJECT = "service:monitoring/grafana"


@pytest.fixture
def see(home: Home, monkeypatch: pytest.MonkeyPatch) -> See:
    """Say what every look at the services of monitoring sees from now on."""
    home.edit("    proxy: nginx\n", "    proxy: nginx\n    probe: direct\n")

    def see(*found: ProbeResult) -> None:
        monkeypatch.setattr(probes, "probe_services", lambda *_: found)

    see(WELL)
    home.doit()
    return see


def said(home: Home, capsys: pytest.CaptureFixture[str], *tasks: str, days: float = 0) -> tuple[int, str]:
    """The exit status of a run without a terminal, and its output."""
    capsys.readouterr()
    status = home.doit(*tasks, days=days).status
    return status, capsys.readouterr().out


def test_a_run_that_changed_nothing_and_found_nothing_prints_nothing(
    home: Home, see: See, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(home, capsys) == (0, "")
    see(DEAD)
    assert said(home, capsys)[1] != ""


def test_the_last_lines_count_what_was_found_and_name_health(
    home: Home, see: See, capsys: pytest.CaptureFixture[str]
) -> None:
    see(DEAD)
    status, printed = said(home, capsys)
    assert status == 0
    assert re.search(r"22 tasks up to date \(\S+ s\)\n1 warning: see PKI_HOME=\S+ ./run invoke health\n\Z", printed)
    assert "nothing to do" not in printed
    see(FOREIGN)
    status, printed = said(home, capsys)
    assert (status, "\n1 critical: " in printed) == (1, True)
    data = home.doit().data
    assert (data["critical"], data["warnings"], data["result"]) == (1, 0, "ok")


def test_the_status_of_a_run_for_some_tasks_covers_these_and_counts_the_rest(
    home: Home, see: See, capsys: pytest.CaptureFixture[str]
) -> None:
    see(FOREIGN)
    assert home.doit().status == 1
    status, printed = said(home, capsys, "cert:media")
    assert (status, "\n1 critical: " in printed) == (0, True)
    assert said(home, capsys, "deploy:media")[0] == 0
    assert said(home, capsys, "deploy:monitoring")[0] == 1


def test_a_run_for_one_host_looks_at_its_services_and_keeps_what_is_known_of_others(home: Home, see: See) -> None:
    other = replace(FOREIGN, service="loki")
    see(FOREIGN, other)
    home.doit()
    see(WELL)
    home.doit("deploy:monitoring")
    project = home.project()
    assert [(one.service, one.fault) for one in probes.load(project.inventory, project.store)] == [
        ("grafana", ""),
        ("loki", ProbeFault.UNVERIFIED),
    ]


def test_every_command_knows_what_the_last_one_saw(home: Home, see: See, invoke: Invoke) -> None:
    """Status and plan open no connection: what they show is health's look, with its time."""
    see(FOREIGN)
    assert invoke(home, "health").status == 4
    see()  # nobody is asked any more
    status, plan = invoke(home, "status"), invoke(home, "plan")
    when = "2026-11-23 06:00"
    assert re.search(
        rf"^{SUBJECT} +failing +serves a certificate that does not verify: .*, probed {when}", status.out, re.MULTILINE
    )
    assert re.search(
        rf"^critical +{SUBJECT} +serves a certificate that does not verify: .*\(probed {when}\)$",
        plan.out,
        re.MULTILINE,
    )
    assert re.search(r"\n22 tasks up to date\n1 critical: see .* invoke health\n\Z", plan.out)
    see(WELL)
    home.doit()
    assert re.search(
        rf"^{SUBJECT} +ok +serves what was deployed, probed {when}", invoke(home, "status").out, re.MULTILINE
    )
    assert f"1 service serves what was deployed (probed {when})" in invoke(home, "plan").out


def test_status_says_which_services_nobody_looked_at(home: Home, see: See, invoke: Invoke) -> None:
    see(WELL)
    home.doit()
    home.add_service("new")
    assert re.search(r"^service:monitoring/new +unknown +not probed yet", invoke(home, "status").out, re.MULTILINE)
