"""Alerting, so far: what is due and why, what needs a person, what a run says and leaves behind, and with which status."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from pki import __version__
from pki.authority import crls
from pki.ceremony import request_response, words
from pki.common.errors import PkiError, from_os_error
from pki.common.reasons import joined_past
from pki.common.templating import FIX_OR_RAW
from pki.common.terminal import Screen, continued
from pki.deploy.contact import Contact
from pki.ledger.types import RESTORE_FILE
from pki.monitor import forecast
from pki.monitor.report import status_table
from pki.monitor.report.run import Run
from tests.support.commands import Invoke
from tests.support.invoked import break_template, invoke, lose_passphrase, notes
from tests.support.projects import START, Home
from tests.support.typed import typed

__all__ = ["invoke"]

PASSPHRASE = "tuna-river-cabin-moss-kettle-orbit"
REASONS = """\
  key-compromise          another person has the key, or may have it: a lost device, a stolen backup
  affiliation-changed     the person or machine has another name or affiliation now
  superseded              another certificate replaces it, and its key is not compromised
  cessation-of-operation  it is no longer used: a service was shut down, a device was returned
  privilege-withdrawn     the person may no longer do what it permits
  unspecified             none of these, or not to be published: the CRL contains no reason
"""
LOST = "there is no {0} authority in ca/{0}/"
CEREMONY = "./run invoke ceremony.request"


def digest(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time and content of everything below a folder, SQLite's own files for reading aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name in {"ledger.db-shm", "ledger.db-wal"}:
            continue
        stat, is_file = path.lstat(), path.is_file()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
        found[str(path.relative_to(folder))] = (stat.st_mode, stat.st_mtime_ns if is_file else 0, content)
    return found


def foretold(home: Home, days: float = 0) -> dict[str, str]:
    return {artifact.id: "; ".join(map(str, why)) for artifact, why in forecast.due_artifacts(home.plan(days))}


def rows(home: Home, days: float = 0) -> dict[str, status_table.TableRow]:
    return {row.name: row for row in status_table.StatusTable(home.project(days)).rows(home.plan(days))}


def remove_media(home: Home) -> None:
    text = (home.path / "pki.yaml").read_text()
    (home.path / "pki.yaml").write_text(re.sub(r"  media:\n(    .*\n)+", "", text))


def serial(home: Home, leaf: str = "media") -> int:
    return x509.load_pem_x509_certificate(home.read(f"build/certs/{leaf}/cert.pem")).serial_number


# -- what is due, and why ---------------------------------------------------------------------------------------------


def test_a_fresh_project_has_everything_to_do(fresh: Home) -> None:
    due = foretold(fresh)
    assert due["authority:root"] == "does not exist"
    assert due["cert:media"] == "does not exist"
    assert due.keys() == fresh.doit().made.keys()


@pytest.mark.parametrize("days", [0, 6, 7, 29, 61, 100, 151])
def test_the_forecast_is_what_the_next_run_does(home: Home, days: int) -> None:
    due = {artifact.id: joined_past(why) for artifact, why in forecast.due_artifacts(home.plan(days))}
    made = home.doit(days=days).made
    assert due.keys() == made.keys()
    own = {name: why for name, why in due.items() if not why.startswith("changes with ")}
    assert all(made[name].startswith(why) for name, why in own.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda home: home.add_service("wiki"),
        lambda home: home.edit("127.0.0.1:8096", "127.0.0.1:8097"),
        lambda home: home.edit("key: ec-p256", "key: ec-p384"),
        lambda home: home.edit("organisation: Example Lab", "organisation: Other Lab"),
        lambda home: home.edit("clients:\n", "clients:\n  guest: {email: guest@lab.internal}\n"),
        lambda home: home.edit(
            "deploy-hosts", "deploy-owner: haproxy:haproxy\n# deploy-hosts", "templates/haproxy/haproxy.cfg"
        ),
        lambda home: (home.path / "build/hosts/media/etc/caddy/Caddyfile").unlink(),
        lambda home: (home.path / "build/certs/media/tls.pem").unlink(),
        remove_media,
    ],
    ids=["service", "upstream", "key kind", "organisation", "client", "template", "drift", "lost", "host"],
)
def test_the_forecast_of_a_change_is_what_the_next_run_does(home: Home, change: Callable[[Home], object]) -> None:
    change(home)
    due = foretold(home)
    assert due
    assert due.keys() == home.doit().made.keys()


def test_what_follows_names_what_it_follows_from(home: Home) -> None:
    due = foretold(home, 7)
    assert due["crl:client-1"] == "is 7 days old; refreshed every 7"
    assert due["bundle:client-crls"] == "changes with crl:client-1"
    assert due["release:forge"] == "changes with bundle:client-crls"
    assert due["deploy:forge"] == "changes with release:forge"


@pytest.mark.parametrize("change", ["content", "mode", "lost"])
def test_nothing_follows_from_files_that_are_split_again(home: Home, invoke: Invoke, change: str) -> None:
    key = home.path / "build/certs/media/key.pem"
    if change == "content":
        key.write_text("x")
    key.unlink() if change == "lost" else key.chmod(0o644)
    (home.path / "ca/client/client-1/key.pem").chmod(0o644)
    due, said = foretold(home), invoke(home, "plan")
    assert due.keys() == {"cert:media"}
    assert said.out.endswith("\n1 to do, 1 failed, 19 up to date\n")
    assert home.doit().made.keys() == due.keys()


def test_what_is_made_again_may_change_what_is_made_of_it(home: Home, invoke: Invoke) -> None:
    (home.path / "build/trust/server-1.crt").unlink()
    due, said = foretold(home), invoke(home, "plan")
    assert due["bundle:trust"] == "build/trust/server-1.crt is missing"
    assert due["page:trust"] == "may change with bundle:trust"
    assert "may do    page:trust" in said.out
    assert f"\n1 to do, {len(due) - 1} may follow, {20 - len(due)} up to date\n" in said.out
    printed = json.loads(invoke(home, "plan", "--json").out)
    assert [one["name"] for one in printed["to_do"]] == ["bundle:trust"]
    assert len(printed["may_follow"]) == len(due) - 1
    assert printed["up_to_date"] == 20 - len(due)
    assert home.doit().made.keys() == {"bundle:trust"}


# -- what needs a person ----------------------------------------------------------------------------------------------


def test_a_leaf_that_left_is_noted_until_it_is_retired(home: Home, invoke: Invoke) -> None:
    assert notes(home) == {}
    remove_media(home)
    assert notes(home) == {
        "cert:media": (
            "no longer in pki.yaml; its certificate is valid until 2027-02-21",
            "./run invoke retire media",
        )
    }
    home.doit()
    assert "cert:media" in notes(home)
    said = invoke(home, "retire", "media", "--yes")
    assert (said.status, said.error) == (0, "")
    assert notes(home) == {}
    [issued] = home.project().ledger.certificates(artifact="cert:media")
    assert issued.revoked == "cessationOfOperation"


def test_a_leaf_that_left_is_noted_until_it_is_revoked(home: Home, invoke: Invoke) -> None:
    remove_media(home)
    assert invoke(home, "revoke", "media", "--reason", "key-compromise", "--yes").status == 0
    assert notes(home) == {}


def test_a_leaf_that_left_is_noted_until_it_has_expired(home: Home) -> None:
    remove_media(home)
    assert "cert:media" in notes(home, 89)
    assert notes(home, 90) == {}


def test_a_name_that_needs_a_ceremony_is_noted(home: Home) -> None:
    home.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    home.edit("network: av\n", "network: av\n    names: [a.new.internal, b.new.internal]\n")
    text, remedy = notes(home)["host:media"]
    assert text == "a.new.internal, b.new.internal wait: server-1 does not permit them; needs a ceremony"
    assert remedy == "./run invoke ceremony.request, for a new generation of server with wider name constraints"


def test_notes_stand_in_the_report_and_in_the_summary(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    home.edit("network: av\n", "network: av\n    names: [a.new.internal]\n")
    report = home.doit()
    assert report.status == 0
    assert report.data["notes"] == [
        {
            "subject": "host:media",
            "text": "a.new.internal waits: server-1 does not permit it; needs a ceremony",
            "remedy": "./run invoke ceremony.request, for a new generation of server with wider name constraints",
        }
    ]
    assert capsys.readouterr().out.endswith(f")\n1 action required: see PKI_HOME={home.path} ./run invoke plan\n")


def test_a_leaf_that_left_stands_in_the_report_too(home: Home) -> None:
    """The daily report is what people read; what only `invoke plan` knew would be found too late."""
    remove_media(home)
    assert [note["subject"] for note in home.doit().data["notes"]] == ["cert:media"]


# -- the table of states ----------------------------------------------------------------------------------------------


def test_each_row_says_state_days_left_and_what_comes_through_whom(home: Home) -> None:
    found, by = rows(home), "doit"
    assert {name: row.cells()[1:] for name, row in found.items()} == {
        "authority:root-1": ("ok", "3649", "a successor is requested on 2034-05-25, and must exist by 2034-11-21", by),
        "authority:server-1": ("ok", "729", "a successor is requested on 2028-06-25, and must exist by 2028-08-24", by),
        "authority:client-1": ("ok", "729", "a successor is requested on 2028-03-27, and must exist by 2028-05-26", by),
        "crl:root-1": (
            "ok",
            "389",
            "next pre-signed CRL on 2027-11-18; doit signs more before 2028-12-12",
            "doit",
        ),
        "crl:server-1": ("ok", "20", "next CRL on 2026-11-30", "doit"),
        "crl:client-1": ("ok", "20", "next CRL on 2026-11-30", "doit"),
        "cert:monitoring-mtls": ("ok", "89", "renewed from 2027-01-22 on", "doit"),
        "cert:forge-mtls": ("ok", "89", "renewed from 2027-01-22 on", "doit"),
        "cert:media": ("ok", "89", "renewed from 2027-01-22 on", "doit"),
        "cert:client-admin": ("ok", "179", "renewed from 2027-04-22 on", "doit"),
        "deploy:monitoring": (
            "ok",
            "",
            "nothing until a file changes; last deployed on 2026-11-23 into a folder",
            "doit",
        ),
        "deploy:forge": ("ok", "", "nothing until a file changes; last deployed on 2026-11-23 into a folder", "doit"),
        "deploy:media": ("ok", "", "nothing until a file changes; last deployed on 2026-11-23 into a folder", "doit"),
    }


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("caddy", "until they end"),
        ("apache", "until apache2 is restarted"),
        ("traefik", "until their certificates expire"),
    ],
)
def test_a_row_names_a_proxy_that_lets_a_revoked_client_go_on(home: Home, proxy: str, said: str) -> None:
    home.edit("proxy: haproxy", f"proxy: {proxy}")
    home.edit("proxy: caddy\n", f"proxy: {proxy}\n")
    home.doit()
    found = rows(home)
    assert said in found["deploy:forge"].next
    assert "revoked" not in found["deploy:media"].next  # which has no service behind mTLS


def test_hosts_on_which_a_revocation_has_no_effect_are_named_with_the_days_that_clients_have_left(home: Home) -> None:
    home.edit("proxy: haproxy", "proxy: traefik")
    home.doit()
    text = "revoked clients are accepted until their certificates expire, within {} days: traefik reads no CRLs"
    assert notes(home)["deploy:forge"][0] == text.format(180)
    assert notes(home, 100)["deploy:forge"][0] == text.format(80)
    assert text.format(80) in rows(home, 100)["deploy:forge"].next
    home.edit("client: {lifetime: 180d, renew_before: 30d", "client: {lifetime: 22d, renew_before: 3d")
    assert notes(home)["deploy:forge"][0] == text.format(22)
    home.edit("client: {lifetime: 22d", "client: {lifetime: 21d")  # as long as a CRL is believed
    assert "deploy:forge" not in notes(home)


@pytest.mark.parametrize("proxy", ["nginx", "haproxy", "caddy", "apache", "traefik"])
def test_a_host_whose_proxy_cannot_remove_every_forged_header_is_named(home: Home, proxy: str) -> None:
    home.edit("proxy: haproxy", f"proxy: {proxy}")
    home.edit("proxy: caddy\n", f"proxy: {proxy}\n    deliver: none\n")
    named = [note for note in forecast.required_actions(home.project(), home.plan()) if "forged headers" in note.text]
    assert [note.subject for note in named] == ["host:forge"] * (proxy == "traefik")
    assert all("the upstreams of forgejo" in note.text and "docs/how-to/proxies.md" in note.remedy for note in named)


@pytest.mark.parametrize(
    ("proxy", "until"),
    [
        ("haproxy", "its CRLs expire, within 21 days"),
        ("caddy", "their certificates expire, within 180 days"),
        ("traefik", "their certificates expire, within 180 days"),
    ],
)
def test_hosts_that_are_not_up_to_date_are_named_with_the_days_that_what_they_know_lasts(
    home: Home, proxy: str, until: str
) -> None:
    home.edit("proxy: haproxy\n", f"proxy: {proxy}\n    deliver: ssh\n")
    home.edit("proxy: caddy\n    services", "proxy: caddy\n    deliver: ssh\n    services")
    disk = home.project().store
    for host in ("forge", "media"):
        Contact().failed(home.moment(2), PkiError("unreachable")).save(disk.contact(host))
    said = f"not up to date since 2026-11-25: clients revoked since then are accepted until {until}"
    found = [note for note in forecast.required_actions(home.project(), home.plan()) if note.text == said]
    assert [note.subject for note in found] == ["deploy:forge"]
    assert said in rows(home)["deploy:forge"].next
    assert "revoked" not in rows(home)["deploy:media"].next  # which has no service behind mTLS
    disk.receipt("forge").unlink()  # then nobody knows whether old CRLs are there
    said = said.replace(": ", ": if it has files of an earlier deployment, ")
    assert said in [note.text for note in forecast.required_actions(home.project(), home.plan())]


def test_a_row_keeps_its_word(home: Home) -> None:
    """What is announced for a day is due on that day and not on the day before."""
    assert not any(name.startswith("crl:") for name in foretold(home, 6))
    assert {"crl:server-1", "crl:client-1"} <= foretold(home, 7).keys()
    assert "cert:media" not in foretold(home, 59)
    assert "cert:media" in foretold(home, 60)
    assert "cert:client-admin" not in foretold(home, 149)
    assert "cert:client-admin" in foretold(home, 150)
    assert "crl:root-1" not in foretold(home, 359)
    assert "crl:root-1" in foretold(home, 360)


@pytest.mark.parametrize(
    ("name", "days", "state"),
    [
        ("cert:media", 61, "due"),
        ("cert:media", 91, "expired"),
        ("cert:client-admin", 91, "ok"),
        ("crl:client-1", 8, "due"),
        ("crl:client-1", 22, "expired"),
        ("crl:root-1", 361, "due"),
        ("authority:server-1", 640, "due"),
        ("authority:server-1", 731, "expired"),
    ],
)
def test_states_follow_the_clock(home: Home, name: str, days: int, state: str) -> None:
    assert rows(home, days)[name].state == state


def test_a_fresh_project_is_missing_everything_and_says_through_whom_it_comes(fresh: Home) -> None:
    found = rows(fresh)
    assert {row.state for row in found.values()} == {"missing"}
    assert found["authority:root"].by == "doit"
    fresh.edit("sandbox: true", "sandbox: false")
    assert rows(fresh)["authority:root"].by == "ceremony"


def test_drift_and_damage_show_in_the_table(home: Home) -> None:
    (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x")
    (home.path / "build/certs/forge-mtls/tls.pem").write_text("x")
    (home.path / "build/crl/client-1.crl").write_text("x")
    found = rows(home)
    assert (found["deploy:media"].state, found["deploy:media"].next) == ("due", "/etc/caddy/Caddyfile was edited")
    assert (found["cert:forge-mtls"].state, found["cert:forge-mtls"].next) == ("due", "tls.pem is damaged")
    assert found["crl:client-1"].state == "missing"
    assert found["crl:client-1"].next.startswith("is damaged")


def test_the_status_command_prints_the_table_and_changes_nothing(home: Home, invoke: Invoke) -> None:
    before = digest(home.path)
    said = invoke(home, "status")
    assert said.status == 0
    assert re.search(r"^cert:media +ok +89 +renewed from 2027-01-22 on +doit$", said.out, re.MULTILINE)
    assert digest(home.path) == before


# -- what a run says --------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_says_one_line_to_a_terminal_and_nothing_to_cron(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    home.doit()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(Screen, "is_terminal", True)
    home.doit()
    out = capsys.readouterr().out
    assert re.fullmatch(r"SANDBOX  20 tasks up to date \(\d\.\d s\)\n", out)


def test_a_run_says_one_line_for_each_thing_made(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.add_service("wiki")
    home.doit()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["reissued", "cert:monitoring-mtls"],
        ["updated", "release:monitoring"],
        ["deployed", "deploy:monitoring"],
    ]
    assert re.fullmatch(r"SANDBOX  20 tasks: 3 changed, 17 had nothing to do \(\d\.\d s\)", lines[-1])


def test_a_run_says_what_failed_what_to_do_and_what_was_not_reached(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = break_template(home)
    home.doit()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=2) == ["failed", "release:media", broken]
    assert lines[1].strip() == f"→ {FIX_OR_RAW}"
    assert re.fullmatch(r"blocked +deploy:media +by release:media", lines[2])
    assert re.fullmatch(r"SANDBOX  20 tasks: 1 failed, 1 blocked, 18 had nothing to do \(\d\.\d s\)", lines[-2])
    assert re.fullmatch(r"1 warning \(for the failed task\): see .*/run invoke health", lines[-1])


def test_the_first_run_of_a_sandbox_says_that_it_is_one(fresh: Home, capsys: pytest.CaptureFixture[str]) -> None:
    fresh.doit()
    assert capsys.readouterr().out.startswith("SANDBOX: a trial project. Its root key is created")
    fresh.doit()
    assert "trial project" not in capsys.readouterr().out


# -- the report that a run leaves -------------------------------------------------------------------------------------


def test_the_report_of_a_quiet_run(home: Home) -> None:
    report = home.doit().data
    assert report.pop("seconds") >= 0
    assert report == {
        "at": "2026-11-23T06:00:00Z",
        "program": __version__,
        "result": "ok",
        "requested": [],
        "changed": [],
        "failed": [],
        "blocked": [],
        "up_to_date": 20,
        "critical": 0,
        "warnings": 0,
        "notes": [],
        "alerts": [],
    }


@pytest.mark.parametrize("arguments", [(), ("-n", "4")], ids=["one process", "four processes"])
def test_the_report_names_what_was_made_what_failed_and_what_was_not_reached(
    home: Home, arguments: tuple[str, ...]
) -> None:
    broken = break_template(home)
    report = home.doit(*arguments, days=61)
    assert report.status in {1, 2}
    assert report.data["result"] == "failed"
    assert report.data["failed"] == [
        {
            "name": "release:media",
            "message": broken,
            "hint": FIX_OR_RAW,
            "code": "other",
            "about": "",
        }
    ]
    assert report.data["blocked"] == [{"name": "deploy:media", "by": "release:media"}]
    assert report.made["cert:media"] == "28 of 90 days left, renewal starts at 30"
    assert len(report.made) + report.data["up_to_date"] + 2 == len(home.plan(61).artifacts)


def test_the_report_is_the_same_under_four_processes(home: Home, tmp_path: Path, built_once: Path) -> None:
    shutil.copytree(built_once, tmp_path / "twin")
    alone, four = home.doit(days=61).data, Home(tmp_path / "twin").doit("-n", "4", days=61).data
    for report in (alone, four):
        report.pop("seconds")
        report["changed"].sort(key=lambda entry: entry["name"])
        for entry in report["changed"]:
            entry["reasons"].sort()
    assert alone == four


def test_a_run_of_one_task_leaves_a_report_as_well(home: Home) -> None:
    report = home.doit("cert:media", days=61)
    assert report.made.keys() >= {"cert:media"}
    assert "cert:forge-mtls" not in report.made


def test_a_bug_of_ours_is_never_reported_as_well(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that raises what nobody foresaw stops one artifact; the report must not call that run ok."""

    def bug(*_: object) -> list[str]:
        raise RuntimeError("our own bug")

    monkeypatch.setattr(crls.Crls, "stale_reasons", bug)
    report = home.doit(days=61)
    assert report.status != 0
    assert report.data["at"] == "2027-01-23T06:00:00Z"
    assert report.data["result"] == "failed"


def test_a_look_that_fails_is_a_failure_of_its_own_task(home: Home) -> None:
    (home.path / "ca/client/client-1/cert.pem").write_text("damaged")
    run_of = Run(home.path, START)
    assert run_of.main([]) != 0


# -- the plan command -------------------------------------------------------------------------------------------------


def test_the_plan_of_a_fresh_project_says_two_and_touches_nothing(fresh: Home) -> None:
    before = digest(fresh.path)
    said = typed(fresh, "invoke", "plan")
    assert said.returncode == 2
    assert re.search(r"^to do +authority:root +does not exist$", said.stdout, re.MULTILINE)
    assert said.stdout.endswith("17 to do, 3 up to date\n")
    assert said.stderr == ""
    assert digest(fresh.path) == before


def test_the_plan_after_a_run_says_zero(fresh: Home) -> None:
    assert typed(fresh, "doit").returncode == 0
    before = digest(fresh.path)
    said = typed(fresh, "invoke", "plan")
    assert (said.returncode, said.stdout) == (0, "20 tasks up to date\n")
    assert digest(fresh.path) == before


@pytest.mark.parametrize("days", [0, 61, 731])
def test_the_plan_touches_nothing_whatever_is_due(home: Home, invoke: Invoke, days: int) -> None:
    (home.path / "build/hosts/media/etc/caddy/Caddyfile").write_text("x")
    before = digest(home.path)
    said = invoke(home, "plan", days=days)
    assert said.status == 2
    assert "deploy:media" in said.out
    assert digest(home.path) == before


def test_the_plan_of_a_project_with_only_notes_says_zero(home: Home, invoke: Invoke) -> None:
    remove_media(home)
    home.doit()
    said = invoke(home, "plan")
    assert said.status == 0
    assert re.search(
        r"^action +cert:media +no longer in pki.yaml; its certificate is valid until", said.out, re.MULTILINE
    )
    assert "→ ./run invoke retire media" in said.out


# -- a wrong pki.yaml -------------------------------------------------------------------------------------------------

WRONG = [
    "pki.yaml:40: hosts.media.proxy: expected nginx, haproxy, caddy, apache or traefik, got 'cady' (did you mean caddy?)",
    "pki.yaml:45: clients.admin: has no name: write email for a person, dns or uri for a machine",
]


@pytest.mark.parametrize("program", ["doit", "invoke"])
def test_a_wrong_inventory_is_three_with_every_fault_and_nothing_is_touched(fresh: Home, program: str) -> None:
    fresh.edit("proxy: caddy", "proxy: cady")
    fresh.edit("admin: {email: admin@lab.internal}", "admin: {}")
    before = digest(fresh.path)
    said = typed(fresh, program, *(["plan"] if program == "invoke" else []))
    assert said.returncode == 3
    assert all(fault in said.stderr for fault in WRONG)
    assert "Traceback" not in said.stderr
    assert digest(fresh.path) == before


@pytest.mark.parametrize(
    "command",
    [
        ["plan"],
        ["status"],
        ["renew", "media"],
        ["revoke", "media", "--reason", "superseded", "--yes"],
        ["retire", "media"],
        ["ledger.list"],
        ["ledger.show", "1"],
        ["ledger.verify"],
        ["ceremony.request"],
        ["ceremony.accept", "/nowhere"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_says_three_for_a_wrong_inventory(home: Home, invoke: Invoke, command: list[str]) -> None:
    home.edit("proxy: caddy", "proxy: cady")
    before = digest(home.path)
    said = invoke(home, *command)
    assert (said.status, said.error) == (3, WRONG[0] + "\n")
    assert digest(home.path) == before


def test_a_missing_inventory_says_how_to_name_the_project(fresh: Home, invoke: Invoke) -> None:
    (fresh.path / "pki.yaml").unlink()
    said = invoke(fresh, "plan")
    assert said.status == 1
    assert (
        said.error
        == f"{fresh.path}/pki.yaml: there is no inventory\n→ name its folder: PKI_HOME=DIR ./run invoke plan\n"
    )


# -- renewing, revoking, retiring -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["media", "cert:media"])
def test_renew_issues_and_delivers(home: Home, invoke: Invoke, name: str) -> None:
    before = serial(home)
    said = invoke(home, "renew", name)
    assert (said.status, said.error) == (0, "")
    assert re.match(r"renewed +cert:media +requested with renew\n", said.out)
    assert serial(home) != before
    assert home.read("build/hosts/media/etc/doit-pki/media.pem") == home.read("build/certs/media/tls.pem")
    assert home.doit().made == {}


@pytest.mark.parametrize("name", ["admin", "client-admin"])
def test_renew_knows_clients_by_both_names(home: Home, invoke: Invoke, name: str) -> None:
    before = home.read("ca/clients/admin/cert.pem")
    assert invoke(home, "renew", name).status == 0
    assert home.read("ca/clients/admin/cert.pem") != before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["renew", "meida"], "meida: not declared in pki.yaml\n→ did you mean media?\n"),
        (
            ["renew", "zzz"],
            "zzz: not declared in pki.yaml\n→ declared here: admin, client-admin, forge-mtls, media, monitoring-mtls\n",
        ),
        (
            ["revoke", "meida", "--reason", "superseded", "--yes"],
            "meida: not declared in pki.yaml\n→ did you mean media?\n",
        ),
        (
            ["revoke", "media", "--reason", "compromise", "--yes"],
            f"unknown reason 'compromise'\n→ --reason is one of\n{REASONS}",
        ),
        (
            ["retire", "media"],
            "media is still in pki.yaml\n→ remove it there first, or: ./run invoke revoke media\n",
        ),
        (["retire", "meida"], "meida: not declared in pki.yaml\n→ did you mean media?\n"),
        (["ledger.show", "xyz"], "xyz: expected a serial number in hexadecimal\n→ ./run invoke ledger.list\n"),
        (["ledger.show", "1f"], "1f: no certificate with this serial number\n→ ./run invoke ledger.list\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_answered_with_a_sentence_and_a_hint_and_changes_nothing(
    home: Home, invoke: Invoke, command: list[str], said: str
) -> None:
    issued = home.project().ledger.certificates()
    answer = invoke(home, *command)
    assert (answer.status, answer.error) == (1, said)
    assert home.project().ledger.certificates() == issued


def test_revoke_puts_the_serial_on_the_crl_and_issues_a_new_certificate(home: Home, invoke: Invoke) -> None:
    before = serial(home)
    said = invoke(home, "revoke", "media", "--reason", "key-compromise", "--yes")
    assert (said.status, said.error) == (2, ""), "nobody has seen it refused"
    assert f"serial {before:x}: key-compromise" in said.out
    crl = x509.load_der_x509_crl(home.read("build/hosts/monitoring/var/www/pki/crl/server-1.crl"))
    entry = crl.get_revoked_certificate_by_serial_number(before)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
    assert serial(home) != before
    assert home.doit().made == {}


def test_revoke_by_serial_number_takes_that_one_alone(home: Home, invoke: Invoke) -> None:
    old = serial(home)
    invoke(home, "renew", "media")
    new = serial(home)
    assert invoke(home, "revoke", f"{old:x}", "--reason", "superseded", "--yes").status == 2
    assert serial(home) == new
    states = {one.serial: one.revoked for one in home.project().ledger.certificates(artifact="cert:media")}
    assert states == {old: "superseded", new: ""}


def test_revoking_twice_is_said_and_changes_nothing(home: Home, invoke: Invoke) -> None:
    old = serial(home)
    invoke(home, "revoke", f"{old:x}", "--reason", "superseded", "--yes")
    events = home.project().ledger.events()
    said = invoke(home, "revoke", f"{old:x}", "--reason", "key-compromise", "--yes")
    assert said.status == 1
    assert said.error.startswith(f"{old:x}: ")
    assert "revoked already" in said.error
    assert home.project().ledger.events() == events


@pytest.mark.parametrize("authority", ["root", "server", "client"])
def test_an_authority_is_not_revoked_by_hand(home: Home, invoke: Invoke, authority: str) -> None:
    found = home.project().authorities.issuing(authority)
    assert found is not None
    for name in (f"{found.certificate.serial_number:x}", authority, found.name, f"authority:{found.name}"):
        said = invoke(home, "revoke", name, "--reason", "superseded", "--yes")
        assert said.status == 1
        hint = f"revoking one takes a ceremony: ./run invoke explain {name}"
        assert said.error == f"{name} is a certificate authority\n→ {hint}\n"
        assert invoke(home, "explain", name).status == 0


def test_what_fails_after_a_renewal_by_hand_shows_in_the_exit_status(home: Home, invoke: Invoke) -> None:
    broken = break_template(home)
    said = invoke(home, "renew", "media")
    assert said.status in {1, 2}
    assert broken in said.out


def test_status_says_why_the_last_run_could_not_do_what_is_due(home: Home) -> None:
    lose_passphrase(home, "server-1")
    home.doit(days=61)
    found, why = rows(home, 61), "its key is encrypted and secrets.yaml holds no passphrase for it"
    assert (found["cert:media"].state, found["cert:media"].by) == ("due", "you")
    assert found["cert:media"].next.endswith(f"; cannot be renewed: ca/server/server-1/key.pem: {why}")
    assert found["crl:client-1"].by == "doit"


def test_status_says_what_a_key_that_cannot_be_used_blocks(home: Home, invoke: Invoke) -> None:
    """Also before anything is due: revocations are blocked already."""
    home.doit()
    (home.path / "ca/server/server-1/key.pem").chmod(0o644)
    found, crl = rows(home), home.project().authorities.issuing("client")
    assert crl is not None
    row = found["authority:server-1"]
    remedy = "chmod 600 ca/server/server-1/key.pem"
    assert (row.state, row.by) == ("blocked", "you")
    assert row.next == f"cannot sign: ca/server/server-1/key.pem: can be read by other users; {remedy}"
    assert row.next == row.cells()[3]
    then = ", if authority:server-1 can sign by then"
    for name in ("cert:media", "crl:server-1"):
        assert found[name].state == "ok"
        assert found[name].next.endswith(then)
    for name in ("authority:client-1", "cert:client-admin", "crl:client-1", "crl:root-1"):
        assert found[name].state == "ok"
        assert "server-1" not in found[name].next
    assert rows(home, 8)["crl:server-1"].state == "blocked"
    assert rows(home, 8)["crl:server-1"].next == "next CRL was due on 2026-11-30; waits for authority:server-1"
    printed = {row["name"]: row for row in json.loads(invoke(home, "status", "--json").out)["rows"]}
    assert printed["authority:server-1"]["state"] == "blocked"


def test_status_tries_a_key_whose_passphrase_changed(home: Home) -> None:
    home.doit()
    text = home.read("secrets.yaml").decode()
    (home.path / "secrets.yaml").write_text(text.replace("client-1: ", "client-1: x"))
    found = rows(home)
    assert {row.name for row in found.values() if row.state == "blocked"} == {"authority:client-1"}
    assert "the passphrase from secrets.yaml is wrong" in found["authority:client-1"].next


def test_a_renewal_without_its_passphrase_is_refused_and_the_old_pair_stays(home: Home, invoke: Invoke) -> None:
    before = home.read("build/certs/media/tls.pem")
    lose_passphrase(home, "server-1")
    said = invoke(home, "renew", "media")
    assert said.status == 1
    assert said.error.startswith(
        "ca/server/server-1/key.pem: its key is encrypted and secrets.yaml holds no passphrase for it"
    )
    assert home.read("build/certs/media/tls.pem") == before


# -- the ledger and the schema ----------------------------------------------------------------------------------------


def test_ledger_list_shows_every_certificate_with_its_state(home: Home, invoke: Invoke) -> None:
    old = serial(home)
    invoke(home, "revoke", "media", "--reason", "superseded", "--yes")
    said = invoke(home, "ledger.list")
    assert said.status == 0
    assert len(said.out.splitlines()) == 1 + len(home.project().ledger.certificates())
    named = invoke(home, "ledger.list", "--name", "media").out.splitlines()
    assert len(named) == 3
    assert re.match(rf"{old:x} +cert:media +2026-11-23 +2027-02-21 +revoked: superseded +did not exist", named[1])
    assert re.match(r"[0-9a-f]+ +cert:media +2026-11-23 +2027-02-21 +valid +was revoked", named[2])
    assert " expired " in invoke(home, "ledger.list", "--name", "client-admin", days=200).out


def test_ledger_show_tells_one_certificate_and_ends_with_its_pem(home: Home, invoke: Invoke) -> None:
    said = invoke(home, "ledger.show", f"{serial(home):x}")
    assert said.status == 0
    assert "names       jellyfin.lab.internal\n" in said.out
    assert "valid       2026-11-23 05:00:00 to 2027-02-21 04:59:59 UTC\n" in said.out
    assert "revoked     no\n" in said.out
    assert said.out.encode().endswith(home.read("build/certs/media/cert.pem"))


def test_ledger_verify_says_that_the_ledger_is_whole(home: Home, invoke: Invoke) -> None:
    said = invoke(home, "ledger.verify")
    assert said.status == 0
    count = len(home.project().ledger.events())
    assert re.fullmatch(rf"ledger intact \({count} events; hash of the last one: [0-9a-f]{{16}}\)\n", said.out)


def test_ledger_verify_finds_a_changed_row(home: Home, invoke: Invoke) -> None:
    with sqlite3.connect(home.path / "ca/ledger.db") as db:
        db.execute("UPDATE certificates SET reason = 'because' WHERE artifact = 'cert:media'")
    db.close()
    said = invoke(home, "ledger.verify")
    assert said.status == 1
    assert re.search(r"failed +ledger +event \d+: its certificate of cert:media was changed", said.out)
    assert RESTORE_FILE in said.out


def test_the_schema_goes_to_standard_output_or_into_a_file(home: Home, invoke: Invoke, tmp_path: Path) -> None:
    said = invoke(home, "schema")
    assert json.loads(said.out)["title"] == "pki.yaml"
    assert invoke(home, "schema", "--output", str(tmp_path / "pki.schema.json")).out == ""
    assert (tmp_path / "pki.schema.json").read_text() == said.out
    assert invoke(home, "schema", "plan", "--output", str(tmp_path / "pki.schema.json")).status == 0
    assert json.loads((tmp_path / "pki.schema.json").read_text())["title"] == "plan --json"


@pytest.mark.parametrize(
    "content",
    [
        b'{"properties": {"name": "me"}}\n',
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "another", "properties": {}}\n',
        b'{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": ["pki.yaml"]}\n',
        b'{"title": "pki.yaml", "properties": {}}\n',
        b"domains: [lab.internal]\n",
        b"[]\n",
        b"",
    ],
)
def test_a_schema_replaces_no_file_that_this_program_did_not_write(
    home: Home, invoke: Invoke, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "theirs.json"
    path.write_bytes(content)
    said = invoke(home, "schema", "--output", str(path))
    assert (said.status, path.read_bytes()) == (1, content)
    assert "theirs.json: exists already, and is not a JSON Schema of this program" in said.error


# -- authorities ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(fresh: Home) -> Home:
    """A project that is no sandbox, before its root ceremony."""
    fresh.edit("sandbox: true", "sandbox: false")
    return fresh


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    (tmp_path / "medium").mkdir()
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    return tmp_path / "medium"


def test_without_authorities_a_real_project_names_the_command_to_type(real: Home, invoke: Invoke) -> None:
    report = real.doit()
    assert report.status in {1, 2}
    hold = f"perform a root ceremony: PKI_HOME={real.path} {CEREMONY}"
    assert report.failed["authority:root"].startswith(f"{LOST.format('root')} → {hold}")
    assert report.made.keys() == {"ceremony:request"}
    assert not (real.path / "offline").exists()
    said = invoke(real, "renew", "media")
    assert said.status == 1
    assert said.error.startswith(f"{LOST.format('server')}\n→ {hold}")


def test_a_sandbox_authority_is_refused_outside_the_sandbox(home: Home, invoke: Invoke) -> None:
    home.edit("sandbox: true", "sandbox: false")
    (home.path / "ca/.alerts.json").unlink()  # so that nobody is told of it
    (home.path / "build/report/status.html").unlink()  # nor reads it there
    before = but_metrics(home)
    said = invoke(home, "plan")
    assert said.status == 1
    assert "is a sandbox authority, and pki.yaml does not contain sandbox: true" in said.error
    assert CEREMONY in said.error
    assert Run(home.path, START).main([]) != 0
    assert but_metrics(home) == before


def but_metrics(home: Home) -> dict[str, tuple[int, int, str]]:
    """What lies in `build/`, the metrics aside, which say that nothing was done."""
    return {name: found for name, found in digest(home.path / "build").items() if name != "report/pki.prom"}


def test_commands_lead_from_a_request_to_a_real_hierarchy(real: Home, invoke: Invoke, medium: Path) -> None:
    real.doit()
    asked = real.path / "ca/ceremonies/0001/request.yaml"
    options = ("--vault", str(medium), "--passphrase-file", f"{medium.parent}/passphrase", "--despite", "a test")
    options = (*options, "--folder-as-vault", "a test")
    typed = ("--words", words.first(request_response.digest(asked.read_bytes())))
    assert invoke(real, "ceremony.rehearse").status == 0
    made = invoke(real, "ceremony.root", str(asked), *options, *typed)
    assert (made.status, made.error) == (0, "")
    out = medium.parent / "out"
    out.mkdir()
    signed = invoke(real, "ceremony.sign", str(asked), "--output", str(out), *options, *typed)
    assert (signed.status, signed.error) == (0, "")
    assert PASSPHRASE not in made.out + signed.out
    answered = request_response.digest((out / "response-0001/response.yaml").read_bytes())
    assert invoke(real, "ceremony.accept", f"{out}/response-0001", "--words", words.first(answered)).status == 0
    assert real.doit().status == 0
    assert real.doit().made == {}
    assert not any(PASSPHRASE.encode() in path.read_bytes() for path in real.path.rglob("*") if path.is_file())
    for place in ([], [str(medium)]):
        assert invoke(real, "ceremony.verify", *place).out.endswith("all is as it was made\n")


@pytest.mark.parametrize("inside", [".", "offline"])
def test_the_ceremony_refuses_a_vault_in_the_project(real: Home, invoke: Invoke, medium: Path, inside: str) -> None:
    real.doit()
    (real.path / inside).mkdir(exist_ok=True)
    link = medium.parent / "link"
    link.symlink_to(real.path / inside)
    before = digest(real.path)
    for folder in (real.path / inside, link):
        said = invoke(real, "ceremony.root", f"{real.path}/ca/ceremonies/0001/request.yaml", "--vault", str(folder))
        assert said.status == 1
        assert "is in the project folder, where a root's key must never be" in said.error
    assert digest(real.path) == before


def test_a_root_key_is_not_moved_into_the_project(real: Home, invoke: Invoke, medium: Path) -> None:
    (real.path / "offline").mkdir()
    asked = real.path / "ca/ceremonies/0001/request.yaml"
    real.doit()
    secret = ("--passphrase-file", f"{medium.parent}/passphrase")
    typed = ("--words", words.first(request_response.digest(asked.read_bytes())))
    secret = (*secret, "--folder-as-vault", "a test")
    invoke(real, "ceremony.root", str(asked), "--vault", str(medium), *secret, *typed, "--despite", "a test")
    new = ("--new-passphrase-file", f"{medium.parent}/passphrase")
    said = invoke(
        real, "ceremony.change-passphrase", "--vault", str(medium), "--to", f"{real.path}/offline", *secret, *new
    )
    assert said.status == 1
    assert "is in the project folder, where a root's key must never be" in said.error
    assert list((real.path / "offline").iterdir()) == []


@pytest.mark.parametrize("content", ["too short", "", None], ids=["short", "empty", "no file"])
def test_the_ceremony_refuses_a_weak_passphrase(real: Home, invoke: Invoke, medium: Path, content: str | None) -> None:
    real.doit()
    asked, file = real.path / "ca/ceremonies/0001/request.yaml", medium.parent / "passphrase"
    file.unlink()
    if content is not None:
        file.write_text(content)
    said = invoke(
        *(real, "ceremony.root", str(asked), "--vault", str(medium), "--passphrase-file", str(file)),
        *("--despite", "a test", "--words", words.first(request_response.digest(asked.read_bytes()))),
        *("--folder-as-vault", "a test"),
    )
    assert said.status == 1
    assert said.error.startswith(f"{file}: ")
    assert not list(medium.iterdir()), "a drive that is no vault yet stays as it was"


def test_a_run_whose_last_words_could_not_be_said_does_not_end_well(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    report = home.path / "build/report/status.json"
    report.unlink()
    report.mkdir()
    assert Run(home.path, home.moment()).main([]) == 1
    assert "report" in capsys.readouterr().out


def test_a_narrow_terminal_keeps_columns_and_breaks_nothing_that_is_to_be_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    Screen().check("warning", "crl:root-1", "none of its pre-signed CRLs is valid now; " * 3, "", RESTORE_FILE)
    first, *rest, restore, recover = capsys.readouterr().out.splitlines()
    assert first.startswith("warning   crl:root-1               none of its pre-signed CRLs is valid now")
    assert rest
    assert all(line.startswith(" " * 35) and line[35] != " " for line in rest)
    assert [restore.strip(), recover.strip()] == [
        "→ restore ca/ledger.db from a backup (./run invoke restore FILE --to DIR),",
        "then: ./run invoke ledger.recover --all",
    ]
    assert f"{restore.strip()[2:]} {recover.strip()}" == RESTORE_FILE


def test_a_path_that_is_wider_than_its_column_is_shown_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    path = "/etc/grafana/provisioning/dashboards/doit-pki-dashboards.yaml"
    Screen().due("deploy:monitoring", f"adds {path}")
    Screen().dated("2028-04-03", "ceremony", f"adds {path}")
    assert "".join(capsys.readouterr().out.split()).count(path) == 2


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_command_that_is_too_long_is_continued_so_that_a_shell_still_takes_it_as_it_was(width: int) -> None:
    command = "sh run invoke ceremony.sign 'ca/my folder/request.yaml' --vault \"a b\" --output DIR"
    lines = continued(f"  {command}", width)
    assert all(line.startswith("  ") for line in lines)
    assert all(len(line) <= max(width, len("    'ca/my folder/request.yaml' \\")) for line in lines)
    typed = "\n".join(lines).replace("\\\n", "")  # as a shell reads it: POSIX, Shell Command Language 2.2.1
    assert shlex.split(typed) == shlex.split(command)


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "make room: df -h /srv"), (errno.EROFS, "mount it read-write: findmnt -T /srv")]
)
def test_what_a_full_disk_wants_can_be_typed_where_the_file_is_not_there_yet(number: int, hint: str) -> None:
    assert from_os_error(OSError(number, "no"), "/srv/status.html").hint == hint


def test_a_run_that_nobody_hears_does_all_and_leaves_its_report(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output goes to a log on a full disk, or to a pipe that was closed."""
    break_template(home)
    with Path("/dev/full").open("w") as log:
        monkeypatch.setattr(sys, "stdout", log)
        assert Run(home.path, home.moment(61)).main([]) in {1, 2}
    report = json.loads((home.path / "build/report/status.json").read_text())
    assert [one["name"] for one in report["failed"]] == ["release:media"]
    assert {one["name"] for one in report["changed"]} >= {"cert:media", "deploy:forge"}


def test_a_command_whose_words_cannot_be_written_says_so_elsewhere(home: Home) -> None:
    done = typed(home, "invoke", "status", out="/dev/full")
    assert done.returncode == 1
    assert done.stderr == "the output cannot be written: No space left on device\n→ make room: df -h\n"
