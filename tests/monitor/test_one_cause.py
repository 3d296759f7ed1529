"""One cause is one finding, and a run, health, plan, the metrics, the page and mail count it alike."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage

import pytest

from pki.monitor import probes
from pki.monitor.check_result import Level
from pki.monitor.probes import ProbeFault, ProbeResult
from tests.support import leavings
from tests.support.commands import Invoke
from tests.support.invoked import invoke
from tests.support.live_host import Live, delivered, delivered_once, kind
from tests.support.mails import text_of
from tests.support.projects import START, Home, Report

__all__ = ["delivered", "delivered_once", "invoke", "kind"]

Levels = dict[str, str]
DEAD = ProbeResult(
    "media", "jellyfin", "jellyfin.lab.internal", 443, "tls", "does not answer: refused", False, fault=ProbeFault.SILENT
)


def wrong_passphrase(home: Home) -> None:
    text = home.read("secrets.yaml").decode()
    (home.path / "secrets.yaml").write_text(text.replace("server-1: ", "server-1: x"))


FAULTS: dict[str, tuple[Callable[[Home], object], Levels]] = {
    "secrets that others can read": (
        lambda home: (home.path / "secrets.yaml").chmod(0o644),
        {"secrets.yaml": "critical"},
    ),
    "a key that others can read": (
        lambda home: (home.path / "ca/client/client-1/key.pem").chmod(0o640),
        {"ca/client/client-1/key.pem": "critical"},
    ),
    "a wrong passphrase that nothing needs yet": (wrong_passphrase, {"key:server-1": "critical"}),
    "a folder that others can write": (
        lambda home: (home.path / "build/certs/media").chmod(0o777),
        {"build/certs/media": "critical"},
    ),
    "a lost key": (
        lambda home: (home.path / "ca/server/server-1/key.pem").unlink(),
        {"key:server-1": "critical"},
    ),
    "a lost ledger": (lambda home: (home.path / "ca/ledger.db").unlink(), {"ledger": "critical"}),
    "a broken template": (
        lambda home: home.edit("auto_https off", "{{ nothing }}", "templates/caddy/Caddyfile"),
        {"release:media": "warning"},
    ),
}


def found_by_health(home: Home, invoke: Invoke) -> Levels:
    checks = json.loads(invoke(home, "health", "--json").out)["checks"]
    found = [one for one in checks if one["level"] in {"warning", "critical"}]
    assert len(found) == len({one["subject"] for one in found}), found
    return {one["subject"]: one["level"] for one in found}


def outbox(home: Home) -> Iterator[EmailMessage]:
    for path in (home.path / "build/report/outbox").iterdir():
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        yield message


def measured(home: Home) -> Levels:
    found = leavings.checks(home.path / "build/report/pki.prom")
    return {name: level.word for name, (level, _) in found.items() if level >= Level.WARNING}


def counted(report: Report) -> tuple[int, int]:
    return report.data["critical"], report.data["warnings"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_and_health_find_the_same_of_one_cause(home: Home, invoke: Invoke, fault: str) -> None:
    home.doit()
    provoke, expected = FAULTS[fault]
    provoke(home)
    report = home.doit()
    levels = [*expected.values()]
    assert counted(report) == (levels.count("critical"), levels.count("warning"))
    assert measured(home) == found_by_health(home, invoke) == expected
    assert counted(home.doit()) == counted(report)


def test_a_key_is_opened_again_only_when_its_file_or_its_passphrase_changed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.doit()
    (home.path / "secrets.yaml").touch()
    assert home.doit().status == 0  # it opens all the same
    monkeypatch.setattr("pki.project.ca_keys.open_key", None)
    assert home.doit().status == 0


def test_a_proxy_that_is_dead_when_it_is_to_be_reloaded_is_one_finding_everywhere(
    delivered: Live, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery that failed for it tells of the services that answer nobody; another dead service is its own."""
    home = delivered.home
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    probe: direct\n")
    monkeypatch.setattr(probes, "probe_services", lambda *_: (replace(DEAD, at=START),))
    (delivered.host.root / "reload").write_text("echo caddy.service is not active; exit 5\n")
    home.edit("auto_https off", "auto_https off # still", "templates/caddy/Caddyfile")
    for _ in range(2):
        report = home.doit()
        assert counted(report) == (0, 1)
        assert measured(home) == found_by_health(home, invoke) == {"deploy:media": "warning"}
    said = "rolled back; jellyfin does not answer: refused"
    plan = invoke(home, "plan").out
    assert said in plan
    assert re.search(r"(?m)^1 warning\b", plan)
    assert "service:media" not in plan
    assert said in leavings.page(home.path)
    letters = [" ".join(text_of(one).split()) for one in outbox(home)]
    assert sum(said in one for one in letters) == 1
    assert not any("service:media" in one for one in letters)
    rows = {line.split()[0]: line.split()[1] for line in invoke(home, "status").out.splitlines() if ":" in line[:20]}
    assert (rows["deploy:media"], rows["service:media/jellyfin"]) == ("failing", "failing")
    code = next(
        one["code"] for one in json.loads(invoke(home, "health", "--json").out)["checks"] if one["level"] != "ok"
    )
    assert code == "REFUSED_BY_HOST"


def test_a_failed_test_of_the_files_hides_no_dead_service(
    delivered: Live, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = delivered.home
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    probe: direct\n")
    monkeypatch.setattr(probes, "probe_services", lambda *_: (replace(DEAD, at=START),))
    (delivered.host.root / "broken").touch()
    home.edit("auto_https off", "auto_https off # still", "templates/caddy/Caddyfile")
    home.doit()
    assert found_by_health(home, invoke).keys() == {"deploy:media", "service:media/jellyfin"}
