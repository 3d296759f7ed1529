"""Before the first root ceremony every screen shows one thing: the next step."""

from __future__ import annotations

import pytest

from pki.monitor.check_result import Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report
from tests.support.commands import Invoke
from tests.support.invoked import invoke
from tests.support.projects import Home

__all__ = ["invoke"]

STEP = (
    "the next step is the root ceremony, which creates root-1, server-1 and client-1; nothing can be issued before it"
)


@pytest.fixture
def production(fresh: Home) -> Home:
    fresh.edit("sandbox: true", "sandbox: false")
    return fresh


def lines(out: str, home: Home) -> list[str]:
    """The words of each line; the project's place is left out."""
    return [" ".join(line.replace(f"PKI_HOME={home.path} ", "").split()) for line in out.splitlines()]


NEXT = [f"action ceremony {STEP}", "→ ./run invoke ceremony.request"]


def test_doit_prints_the_request_once_and_then_only_the_next_step(
    production: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    report = production.doit()
    assert report.status in {1, 2}
    first = lines(capsys.readouterr().out, production)
    assert first[0].startswith("created ceremony:request for root-1")
    assert first[1:3] == NEXT
    assert first[3].startswith("21 tasks: 1 changed, ")
    assert len(first) == 4
    production.doit()
    again = lines(capsys.readouterr().out, production)
    assert again[:2] == NEXT
    assert again[2].startswith("19 tasks waiting for the root ceremony (")
    assert len(again) == 3


def test_plan_status_and_health_show_the_next_step_alone(production: Home, invoke: Invoke) -> None:
    production.doit()
    plan = lines(invoke(production, "plan").out, production)
    assert plan == [*NEXT, "19 tasks waiting for the root ceremony"]
    title, *status = lines(invoke(production, "status").out, production)
    assert title.endswith("no certificate exists yet")
    assert status == NEXT
    health = invoke(production, "health")
    assert health.status == 2
    assert lines(health.out, production)[:2] == [f"notice ceremony {STEP}", NEXT[1]]
    assert lines(health.out, production)[-1] == "1 notice"
    assert "its failures" not in health.out


def test_the_request_says_why_it_permits_more_addresses_than_the_networks(production: Home, invoke: Invoke) -> None:
    why = "addresses: the private block around each of the networks; permit_addresses in pki.yaml names others"
    assert why not in lines(invoke(production, "ceremony.request").out, production)
    production.edit("permit_addresses: [10.0.0.0/8] ", "# none: ")
    assert why in lines(invoke(production, "ceremony.request").out, production)


def test_a_sandbox_with_an_open_request_does_not_claim_that_a_ceremony_began(production: Home, invoke: Invoke) -> None:
    production.doit()
    production.edit("sandbox: false", "sandbox: true")
    assert "to do authority:root its last request has no response" in lines(invoke(production, "plan").out, production)


def test_there_is_one_finding_for_mails_and_the_page(production: Home) -> None:
    production.doit()
    project = production.project()
    findings = health_report.run_checks(project, production.plan(), LastRun.load(project.store))
    assert [(one.subject, one.level) for one in findings if one.level] == [("ceremony", Level.NOTICE)]


def test_a_fault_that_is_not_the_missing_ceremony_is_printed(
    production: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    production.write("templates/odd.conf", "# deploy-hosts: [\n")
    production.doit()
    assert "failed" in {line.split(maxsplit=1)[0] for line in lines(capsys.readouterr().out, production)}
