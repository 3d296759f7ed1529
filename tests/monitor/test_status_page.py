"""The status page: what it says, when it is written, and what never stands on it."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import date, timedelta
from html import unescape
from pathlib import Path

import pytest

from pki.common.errors import PkiError
from pki.deploy.contact import Contact
from pki.monitor.check_result import Finding, Level, rerun
from pki.monitor.probes import ProbeResult
from pki.monitor.report.run import Run
from pki.monitor.status_page import charts, page_data, render, update_page
from pki.project.layout import Store
from tests.support import statuspages
from tests.support.ceremonies import real_home
from tests.support.invoked import lose_passphrase
from tests.support.oldca import OldCa
from tests.support.pages import Page
from tests.support.projects import START, Home

CLOCK = re.compile(rb'<span id="clock">(\d\d:\d\d)</span>')
PATH = "build/report/status.html"
DAY = timedelta(days=1)
NASTY = "<script>alert(1)</script>'\"&"


def shown(home: Home) -> Page:
    return Page(home.read(PATH).decode())


def written(home: Home) -> tuple[int, bytes]:
    """The file of the page, which a new page replaces, and its content without the hour."""
    return (home.path / PATH).stat().st_ino, CLOCK.sub(b"", home.read(PATH))


def hour(home: Home) -> str:
    found = CLOCK.search(home.read(PATH))
    assert found
    return found[1].decode()


def title(html: str) -> str:
    found = re.search(r"<title>(.*?)</title>", html)
    assert found
    return unescape(found[1])


# -- what it says -----------------------------------------------------------------------------------------------------


def test_a_project_in_which_all_is_well_says_so_first(home: Home) -> None:
    found = shown(home)
    assert found.faults == []
    assert title(found.html) == "SANDBOX All OK: Example Lab"
    assert found.headings[0][1].strip() == "All OK"
    assert "The last run, on Monday, 2026-11-23 , at 06:00 UTC, succeeded." in " ".join(found.text.split())
    assert "Nothing to do. doit renews, publishes and deploys by itself." in found.text


def test_it_shows_every_authority_certificate_crl_and_host(home: Home) -> None:
    text = shown(home).text
    for name in ("root-1", "server-1", "client-1", "media", "client-admin", "forge-mtls", "forge", "monitoring"):
        assert f" {name} " in text
    assert "server-1 3 certificates" in text
    assert "media 2026-11-23 2027-02-21 2027-01-22" in text
    assert "media folder 2026-11-23" in text
    assert "server-1 1795413600 2026-11-23 2026-12-14 0" in text


def test_it_says_what_the_last_run_that_made_something_made_and_why(home: Home) -> None:
    assert "cert:media, cert:client-admin did not exist" in shown(home).text
    home.doit(days=1)
    text = shown(home).text
    assert "Changed on 2026-11-23; nothing since" in text
    assert "cert:media, cert:client-admin did not exist" in text


def test_it_tells_what_is_foreseen(home: Home) -> None:
    text = shown(home).text
    assert "2028-03-27 ceremony client-2, server-2 are created; doit performs it (sandbox)" in text
    assert "next ceremony 2028-03-27" in text


def test_a_problem_stands_with_its_remedy_to_be_copied(home: Home) -> None:
    lose_passphrase(home, "server-1")
    assert home.doit(days=61).status
    found = shown(home)
    assert found.faults == []
    assert "warnings" in title(found.html)
    assert "cert:media 28 of 90 days left, renewal starts at 30; cannot be renewed" in found.text
    assert "failed in part" in found.text
    assert re.search(r"Failed on 2027-01-23 .*crl:server-1", found.text)


def test_problems_that_say_the_same_stand_together(home: Home) -> None:
    lose_passphrase(home, "server-1")
    home.doit(days=61)
    text = shown(home).text
    assert "cert:monitoring-mtls, cert:forge-mtls, cert:media 28 of 90 days left" in text
    today = START.date()
    checks = [Finding(f"cert:{n}", Level.WARNING, "x", rerun(f"cert:{n}")) for n in range(9)]
    text = Page(statuspages.page(statuspages.facts(1, today), *checks)).text
    assert "cert:4, cert:5 and 3 more x ./run doit Run the commands" in text
    assert text.startswith("9 warnings")


def test_what_was_not_reached_says_so(home: Home) -> None:
    lose_passphrase(home, "server-1")
    home.doit(days=61)
    text = shown(home).text
    assert "monitoring not deployed: an artifact that it needs failed folder 2026-11-23" in text
    assert "media folder 2026-11-23" in text
    assert "forge folder 2027-01-23" in text
    assert "hosts 3 1 not deployed" in text


def test_a_host_that_does_not_answer_is_first_among_the_hosts(home: Home) -> None:
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    deliver: ssh\n    ssh: {user: nobody, port: 1}\n")
    Contact("2026-11-20T05:00:00Z", "2026-11-21T05:00:00Z", "timed out").save(home.project().store.contact("media"))
    home.doit("cert", days=1)
    text = shown(home).text
    assert "Only cert was requested." in text
    assert "media warning failing since 2026-11-21 ssh 2026-11-23 2026-11-20" in text


def test_a_key_that_cannot_be_used_shows_at_its_authority_and_its_certificates(home: Home) -> None:
    (home.path / "ca/server/server-1/key.pem").chmod(0o644)
    assert home.doit().status
    text = shown(home).text
    assert "cannot sign: ca/server/server-1/key.pem: can be read by other users" in text
    assert "renewal waits for server-1" in text
    assert "renewal waits for client-1" not in text


def test_a_project_before_its_first_ceremony_has_a_page(tmp_path: Path) -> None:
    project = real_home(tmp_path)
    assert project.doit().status
    found = shown(project)
    assert found.faults == []
    assert title(found.html) == "Next step: the root ceremony: Example Lab"
    assert "at 06:00 UTC, created nothing: every certificate waits for this ceremony." in found.text
    assert "./run invoke ceremony.request" in found.text
    assert [text.strip() for _, text in found.headings] == [
        "Next step: the root ceremony",
        "Action required",
        "ceremony",
    ]


def test_an_adopted_authority_is_shown_where_its_folder_is_as_it_should_be(home: Home) -> None:
    OldCa().keep(home.path / "ca/legacy")
    home.edit("authorities:\n", "authorities:\n  legacy: {adopt: ca/legacy}\n")
    home.doit()
    assert "Old CA" in shown(home).text
    assert "adopted: signs CRLs and nothing else" in shown(home).text
    (home.path / "ca/legacy/cert.pem").write_text("x")
    home.doit()
    assert "adopted: signs CRLs and nothing else" not in shown(home).text


def test_services_are_shown_as_they_were_seen() -> None:
    found = statuspages.facts(3, START.date())
    text = Page(statuspages.page(found)).text
    assert "app-1 on web-001, mtls app-1.lab.internal:443 OK TLSv1.3 2027-01-02" in text
    assert "Services, as clients" not in Page(statuspages.page(facts_without_services(found))).text


def facts_without_services(found: page_data.PageData) -> page_data.PageData:
    return page_data.PageData(
        **{name: getattr(found, name) for name in page_data.PageData.__slots__} | {"services": ()}
    )


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        ("./run doit", [("./run doit", True)]),
        ("./run doit cert:media", [("./run doit cert:media", True)]),
        (
            "perform a root ceremony: PKI_HOME='/srv/the project' ./run invoke ceremony.request; or wait",
            [
                ("perform a root ceremony:", False),
                ("PKI_HOME='/srv/the project' ./run invoke ceremony.request", True),
                ("or wait", False),
            ],
        ),
        ("./run doit restores it", [("./run doit", True), ("restores it", False)]),
        ("doit-pki doit restores it", [("doit-pki doit", True), ("restores it", False)]),
        (
            "fix it, then: doit-pki renew 'a b'; or wait",
            [("fix it, then:", False), ("doit-pki renew 'a b'", True), ("or wait", False)],
        ),
        (
            "PKI_HOME=/srv/pki '/opt/my env/bin/doit-pki' plan, or '/srv/the pki/run' invoke plan",
            [
                ("PKI_HOME=/srv/pki '/opt/my env/bin/doit-pki' plan", True),
                ("or", False),
                ("'/srv/the pki/run' invoke plan", True),
            ],
        ),
        (
            "check the host, then: ./run invoke deploy.run web --dry-run",
            [("check the host, then:", False), ("./run invoke deploy.run web --dry-run", True)],
        ),
        (
            "put it back (./run invoke restore FILE --to DIR); or: ./run invoke ceremony.request --crls",
            [
                ("put it back (", False),
                ("./run invoke restore FILE --to DIR", True),
                ("); or:", False),
                ("./run invoke ceremony.request --crls", True),
            ],
        ),
        ("chmod 600 secrets.yaml", [("chmod 600 secrets.yaml", True)]),
        ("the passphrase is wrong", [("the passphrase is wrong", False)]),
    ],
)
def test_of_a_remedy_only_what_is_to_be_typed_is_copied(remedy: str, expected: list[tuple[str, bool]]) -> None:
    assert list(render.pieces(remedy)) == expected


# -- when it is written -----------------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_leaves_it_as_it_is_all_day_long(home: Home) -> None:
    home.doit()  # in the project's new place
    before = written(home)
    for days in (0.1, 0.5, 0.7):
        assert home.doit(days=days).data["changed"] == []
        assert hour(home) == f"{home.moment(days):%H:%M}"
    assert written(home) == before


def test_trouble_that_lasts_all_day_leaves_it_as_it_is(home: Home) -> None:
    lose_passphrase(home, "server-1")
    assert home.doit(days=61).status
    before = written(home)
    for days in (61.1, 61.5):
        assert home.doit(days=days).status
    assert written(home) == before


def test_it_is_written_anew_on_the_next_day(home: Home) -> None:
    home.doit(days=1)
    assert "The last run, on Tuesday, 2026-11-24" in shown(home).text


def test_a_second_run_gathers_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.doit(days=1)
    monkeypatch.setattr(page_data, "gather", lambda _: pytest.fail("gathered"))
    assert home.doit(days=1.2).status == 0
    with pytest.raises(pytest.fail.Exception):
        home.doit(days=2)


def test_years_ahead_are_foreseen_once_a_month(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.doit()
    monkeypatch.setattr("pki.monitor.status_page.forecast_section._planned", lambda _: pytest.fail("planned"))
    assert home.doit(days=1).status == 0
    assert "2028-03-27 ceremony client-2, server-2 are created" in shown(home).text
    home.edit("organisation: Example Lab", "organisation: Other Lab")
    with pytest.raises(pytest.fail.Exception):
        home.doit(days=1.1)


def test_it_is_written_anew_when_it_is_gone(home: Home) -> None:
    home.doit()
    before = home.read(PATH)
    (home.path / PATH).unlink()
    home.doit()
    assert home.read(PATH) == before


def test_what_somebody_made_is_on_it_at_once(home: Home) -> None:
    home.edit("clients:\n", "clients:\n  guest: {email: guest@lab.internal}\n")
    home.doit(days=0.2)
    assert "client-guest 2026-11-23 2027-05-22" in shown(home).text
    assert "cert:client-guest did not exist" in shown(home).text


def test_mail_that_could_not_be_sent_is_on_it_and_solved_when_it_is_sent(home: Home) -> None:
    place = home.path / "build/report/outbox"
    place.rename(home.path / "aside")
    place.write_text("in the way")
    home.doit(days=8)
    assert "alerts:email messages cannot be sent" in shown(home).text
    place.unlink()
    home.doit(days=8.1)
    assert "alerts:email messages" not in shown(home).text


def test_what_broke_after_the_look_is_on_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise PkiError("build/.seen.json: cannot be written: No space left on device", "")

    monkeypatch.setattr("pki.common.cache.Cache.save", full)
    assert home.doit(days=1).status == 1
    assert "warning cache build/.seen.json: cannot be written" in shown(home).text


def test_a_page_that_cannot_be_made_says_that_it_is_old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise PkiError("no", "")

    monkeypatch.setattr(render, "page", broken)
    report = home.doit(days=1)
    assert "the status page" in report.failed
    assert "This page could not be updated" in shown(home).text
    monkeypatch.undo()
    home.doit(days=1)
    assert "could not be updated" not in shown(home).text


def test_a_project_whose_ledger_is_damaged_has_a_page(home: Home) -> None:
    home.write("ca/ledger.db", "no database")
    assert home.doit(days=1).status
    text = shown(home).text
    assert "could not be updated" not in text
    assert "The last run, on Tuesday, 2026-11-24" in text
    assert "nothing can be issued or revoked: ca/ledger.db: file is not a database" in text
    assert "1 critical" in title(home.read(PATH).decode())


# -- when nothing is run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_wrong_inventory_is_told_at_its_top_until_it_is_mended(
    home: Home, monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    home.doit()
    before = CLOCK.sub(b"", home.read(PATH))
    home.edit("proxy: caddy", "proxy: cady")
    assert Run(home.path, home.moment(0.1)).main([]) == 3
    assert Run(home.path, home.moment(0.2)).main([]) == 3
    found = shown(home)
    assert found.faults == []
    assert title(found.html) == "Stopped; before: SANDBOX All OK: Example Lab"
    assert found.html.count('<div class="banner"') == 1
    assert "The run of 2026-11-23 reported: pki.yaml:40: hosts.media.proxy:" in found.text
    assert found.html.index('class="banner"') < found.html.index("<header>")
    home.edit("proxy: cady", "proxy: caddy")
    home.doit(days=0.3)
    assert CLOCK.sub(b"", home.read(PATH)) == before
    assert hour(home) == f"{home.moment(0.3):%H:%M}"


def test_no_page_appears_where_nothing_was_ever_run(fresh: Home) -> None:
    update_page.nothing_was_run(Store(fresh.path), START, "x", "y")
    assert not (fresh.path / "build").exists()


def test_a_banner_escapes_what_it_says(home: Home) -> None:
    update_page.nothing_was_run(home.project().store, START, NASTY, NASTY)
    assert "<script>alert" not in home.read(PATH).decode()
    assert NASTY in shown(home).text


# -- what never stands on it ------------------------------------------------------------------------------------------


def test_whatever_a_name_or_a_message_holds_is_text() -> None:
    found = statuspages.facts(3, START.date(), troubled=True)
    nasty = Finding(NASTY, Level.CRITICAL, NASTY, NASTY, topic="run")
    leaf = page_data.CertificateRow(NASTY, NASTY, START.date(), START.date() + DAY, START.date(), NASTY, Level.OK)
    service = ProbeResult(host=NASTY, service=NASTY, name=NASTY, port=443, access=NASTY, wrong=NASTY, version=NASTY)
    values = {name: getattr(found, name) for name in page_data.PageData.__slots__}
    values |= {"organisation": NASTY, "place": NASTY, "certificates": (leaf,), "services": (service,), "head": NASTY}
    html = statuspages.page(page_data.PageData(**values), nasty)
    assert html.count("<script>") == 1
    assert Page(html).faults == []
    assert Page(html).text.count(NASTY) >= 10


def test_no_secret_of_the_project_is_on_it(home: Home) -> None:
    lose_passphrase(home, "server-1")
    home.doit(days=61)
    html = home.read(PATH).decode()
    secrets = re.findall(r": (\S{8,})", (home.path / "secrets.yaml").read_text())
    assert secrets
    assert not any(secret in html for secret in secrets)
    assert "PRIVATE KEY" not in html


def test_nothing_is_loaded_and_nothing_runs_but_what_its_policy_names() -> None:
    html = statuspages.page(statuspages.facts(50, START.date(), troubled=True))
    found = Page(html)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in unescape(policy[1])
    assert unescape(policy[1]).startswith("default-src 'none'; ")
    assert [one for one in found.taken if not one.startswith("data:")] == []
    assert " style=" not in html
    assert all(link.startswith("#") for link in found.links)


# -- its form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 8, 50, 1000])
def test_its_elements_nest_and_its_links_lead_somewhere(count: int) -> None:
    html = statuspages.page(statuspages.facts(count, START.date(), troubled=count > 1))
    found = Page(html)
    assert found.faults == []
    assert [link for link in found.links if f'id="{link[1:]}"' not in html] == []
    assert [level for level, _ in found.headings].count("h1") == 1


def test_a_thousand_certificates_weigh_less_than_a_megabyte() -> None:
    html = statuspages.page(statuspages.facts(1000, START.date(), troubled=True))
    assert len(html.encode()) < 1_000_000
    assert html.count('<td class="b"><svg') == 1000


def test_every_table_has_a_caption_and_heads_that_say_of_what() -> None:
    html = statuspages.page(statuspages.facts(50, START.date(), troubled=True))
    assert html.count("<table>") == html.count("<caption>")
    assert re.findall(r"<th(?!ead| scope=)", html) == []


def test_bars_lie_where_their_days_are() -> None:
    axis = charts.Axis(date(2026, 1, 1), date(2026, 4, 11), date(2026, 2, 20))
    assert axis.place(date(2026, 2, 20)) == "50.0%"
    assert axis.bar(date(2026, 1, 11), date(2026, 1, 21))[:2] == ("10.0%", "10.0%")
    assert axis.bar(date(2025, 1, 1), date(2027, 1, 1))[:2] == ("0.0%", "100.0%")
    assert [tick.text for tick in axis.ticks] == ["Feb", "Mar"]


def test_renewals_are_counted_by_week() -> None:
    today = START.date()
    leaves = [
        page_data.CertificateRow(str(n), "", today, today + 90 * DAY, today + n * DAY, "", Level.OK)
        for n in (-3, 2, 8, 9, 12)
    ]
    found = charts.renewals_chart(leaves, today)
    assert found
    assert (found.total, found.highest, found.busiest) == (5, 3, today + 7 * DAY)
    assert [bar.text for bar in found.bars] == ["2", "3"]


def test_it_is_as_readable_for_others_as_the_report(home: Home) -> None:
    modes = {(home.path / "build/report" / name).stat().st_mode for name in ("status.html", "status.json")}
    assert len(modes) == 1
