"""An error that nobody expected is one sentence, and stops one artifact, one row, one part of what a run leaves."""

from __future__ import annotations

import json

import pytest

from pki.common.errors import PkiError, as_pki_error
from pki.config import openssl_cnf
from pki.monitor.report import metrics_export, status_table
from pki.pipeline import plan
from tests.support.commands import said_by
from tests.support.projects import Home, Report


def test_any_error_can_be_told() -> None:
    refused = as_pki_error(PermissionError(13, "Permission denied", "/x/y"))
    assert refused.message == "/x/y: cannot be used: Permission denied"
    assert as_pki_error(PkiError("a")).message == "a"


def test_a_bug_in_one_look_or_one_act_is_a_sentence_and_stops_that_artifact_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall(*_: object) -> list[str]:
        raise KeyError("an oversight")

    monkeypatch.setattr(plan.IssuedArtifacts, "_trust_page_stale", fall)
    monkeypatch.setattr(plan.IssuedArtifacts, "_trust_page_files", fall)
    report = home.doit(days=61)
    said = r"unexpected KeyError ('an oversight')"
    assert {name for name in report.failed if name != "page:trust"} == set()
    assert report.failed["page:trust"].startswith(said)
    assert "Traceback" not in json.dumps(report.data)
    assert {"cert:media", "deploy:forge"} <= report.made.keys()
    looked = said_by(capsys, "plan", pki_home=str(home.path), pki_now=home.moment())
    assert said in looked.out


def test_a_bug_in_planning_is_a_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall(*_: object) -> list[str]:
        raise KeyError("an oversight")

    monkeypatch.setattr(plan.IssuedArtifacts, "crls", fall)
    report = Report(home.doit().status, {})
    said = capsys.readouterr().err
    assert report.status == 3
    assert "nothing was done: unexpected KeyError ('an oversight')" in said
    assert "Traceback" not in said


def test_a_bug_in_one_row_of_status_leaves_the_others(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = status_table.StatusTable._leaf_row  # noqa: SLF001 - what is made to fail

    def fall(self: status_table.StatusTable, leaf: object) -> status_table.TableRow:
        if getattr(leaf, "name", "") == "media":
            raise KeyError("an oversight")
        return row(self, leaf)  # type: ignore[arg-type]

    monkeypatch.setattr(status_table.StatusTable, "_leaf_row", fall)
    said = said_by(capsys, "status", pki_home=str(home.path), pki_now=home.moment())
    assert said.status == 0
    assert (
        "could not be checked: unexpected KeyError ('an oversight') at pki/monitor/report/status_table.py:" in said.out
    )
    assert {"cert:forge-mtls", "crl:client-1", "deploy:media"} <= {
        line.split()[0] for line in said.out.splitlines() if line
    }


def test_a_bug_in_the_metrics_leaves_the_status_page_and_the_alerts(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: object) -> dict[str, str]:
        raise KeyError("an oversight")

    monkeypatch.setattr(metrics_export, "collect", fall)
    report = home.doit(days=61)
    assert report.status != 0
    assert report.failed["metrics"].startswith("unexpected KeyError")
    assert "deploy:media" in report.made
    assert "could not check the project" not in home.read("build/report/status.html").decode()
    assert "metrics" in home.read("build/report/status.html").decode()


def test_a_bug_in_reading_one_file_below_templates_stops_its_releases_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: object) -> openssl_cnf.CnfRequest:
        raise KeyError("an oversight")

    home.write("templates/x.cnf", "# deploy-target: /etc/x\n# deploy-hosts: media\n[ req ]\n")
    monkeypatch.setattr(openssl_cnf, "read_request", fall)
    report = home.doit()
    assert set(report.failed) == {"release:media"}
    assert report.failed["release:media"].startswith("templates/x.cnf: unexpected KeyError ('an oversight')")


def test_a_bug_behind_a_command_is_a_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall(*_: object) -> None:
        raise KeyError("an oversight")

    monkeypatch.setattr(plan, "plan", fall)
    said = said_by(capsys, "plan", pki_home=str(home.path), pki_now=home.moment())
    assert said.status == 1
    assert said.error.startswith("unexpected KeyError ('an oversight')")
    assert "→ this is a bug in doit-pki" in said.error
