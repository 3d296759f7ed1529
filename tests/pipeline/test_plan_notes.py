"""What plan says before it happens, and what other commands ask or say before something is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pki.common import cache
from pki.ledger.types import Pin
from pki.monitor import forecast
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import status_table
from pki.monitor.report.health_report import run_checks
from pki.monitor.report.status_table import CELL_WIDTH, TableRow
from tests.support.commands import Invoke
from tests.support.invoked import invoke, notes
from tests.support.projects import START, Home

__all__ = ["invoke"]


def test_plan_says_what_the_name_of_a_service_brings_along_until_it_is_there(fresh: Home, invoke: Invoke) -> None:
    first = invoke(fresh, "plan").out
    found = re.findall(r"^note +deploy:monitoring +(a service called .*)$", first, re.MULTILINE)
    assert len(found) == 2
    assert found[0].startswith("a service called grafana adds files: /")
    assert "then runs on the host: ! systemctl --quiet is-active grafana-server || systemctl restart" in found[0]
    assert found[1].startswith("a service called prometheus adds files: /etc/prometheus/doit-pki.rules.yml")
    assert fresh.doit().status == 0
    assert "adds files" not in invoke(fresh, "plan").out


def test_plan_says_that_nothing_serves_a_host_without_a_proxy(home: Home, invoke: Invoke) -> None:
    home.edit("    proxy: caddy\n", "")
    said = invoke(home, "plan").out
    assert re.search(r"^note +host:media +has no proxy: no managed file serves jellyfin$", said, re.MULTILINE)


def test_plan_names_a_pinned_host_once_and_as_health_does(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = {"media": Pin("ab" * 12, START), "gone": Pin("cd" * 12, START)}
    project = home.project()
    monkeypatch.setattr(type(project.host_decisions), "pins", pins)
    assert notes(home)["pinned:media"] == (forecast.PINNED, "./run invoke deploy.push media")
    assert "pinned:gone" not in notes(home)


def test_a_changed_lifetime_is_told_until_everything_was_renewed(home: Home) -> None:
    home.edit("server: {lifetime: 90d, renew_before: 30d", "server: {lifetime: 2d, renew_before: 1d")
    report = home.doit()
    assert report.made == {}
    [note] = [one for one in report.data["notes"] if one["subject"] == "profile:server"]
    assert note["text"] == (
        "the new lifetime of 2 days applies when a certificate is renewed: 3 still have the old one, "
        "the last until 2027-02-20"
    )
    assert note["remedy"] == "./run invoke renew NAME, for each that should change now"
    assert len(home.doit(days=89.5).made) >= 3
    assert "profile:server" not in {one["subject"] for one in home.doit(days=89.5).data["notes"]}


def test_a_lifetime_that_its_authority_cuts_short_is_no_change(home: Home) -> None:
    home.edit("server: {lifetime: 2y, ", "server: {lifetime: 60d, ")
    assert not [one for one in home.doit().data["notes"] if one["subject"].startswith("profile:")]


def test_what_failed_is_called_failing_and_no_cell_is_wider_than_a_line(home: Home) -> None:
    home.write("templates/broken.conf", "# deploy-target: /etc/x\n# deploy-hosts: media\n{{ nothing.at.all }}\n")
    assert home.doit().status
    found = {row.name: row for row in status_table.StatusTable(home.project()).rows(home.plan())}
    assert found["deploy:media"].state == "failing"
    assert len(TableRow("x", "ok", "", "y" * 345, "doit").cells()[3]) == CELL_WIDTH
    assert {len(cell) <= CELL_WIDTH for row in found.values() for cell in row.cells()} == {True}


def test_a_failed_row_names_its_fault_once(home: Home) -> None:
    home.write("templates/broken.conf", "# deploy-target: /etc/x\n# deploy-hosts: media\n# deploy-nonsense: x\ny\n")
    assert home.doit().status
    found = {row.name: row for row in status_table.StatusTable(home.project()).rows(home.plan())}
    assert found["deploy:media"].state == "failing"
    assert found["deploy:media"].next.count("unknown header") == 1
    assert "the last run failed: " in found["deploy:media"].next


def test_a_damaged_certificate_is_told_and_missed_in_the_count(home: Home) -> None:
    """Before the next run makes it again: what a count leaves out is a finding."""
    for path in ("build/certs/media/cert.pem", "build/crl/client-1.crl"):
        data = (home.path / path).read_bytes()
        (home.path / path).write_bytes(data[:100])
    for thorough in (True, False):
        found = run_checks(home.project(), home.plan(), LastRun(), thorough=thorough)
        said = {one.subject: one.message for one in found}
        assert said["certificates"].startswith("3 of 4 valid; ")
        assert said["crls"].startswith("2 of 3 valid; ")
        assert {one.subject for one in found if one.level} >= {"cert:media", "crl:client-1"}


def test_a_backup_says_when_it_shares_the_fate_of_the_project(home: Home, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("correct horse battery staple and more of them\n")
    for target, said in (
        (home.path / "b.age", "is in the project's folder: both are lost together"),
        (tmp_path / "b.age", "is on the disk of the project: both are lost together"),
    ):
        done = invoke(home, "backup", str(target), "--passphrase-file", str(tmp_path / "words"))
        assert done.status == 0
        assert f"{target} {said}" in done.out


def test_the_cache_is_bound_to_code_and_pages_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        cache.code_digest.cache_clear()
        return cache.code_digest()

    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    (tmp_path / "pages").mkdir()
    found = {digest()}
    for name in ("profiles.py", "pages/status.html", "pages/status.css"):
        for text in ("a", "b"):
            (tmp_path / name).write_text(text)
            found.add(digest())
    (tmp_path / "notes.txt").write_text("x")
    assert len(found) == 7
    assert digest() in found
    monkeypatch.undo()
    cache.code_digest.cache_clear()
