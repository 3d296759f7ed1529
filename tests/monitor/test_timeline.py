"""Looking ahead: what the timeline foretells, what it finds wrong, and the calendar for people."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from pki.config.model import Inventory
from pki.monitor.timeline import calendar
from pki.monitor.timeline.events import Timeline, timeline
from pki.monitor.timeline.runs import Runs
from pki.x509 import certificate_signing, keys
from tests.support.ceremonies import RealHome
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home

ASKED = 490  # 730 days of an intermediate, less 180 of a client certificate, less 60 of overlap


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    def call(home: Home, *arguments: str, days: float = 0) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment(days))

    return call


def foretell(home: Home, years: int = 3, days: float = 0, *, held: bool = True) -> Timeline:
    project = home.project(days)
    found = timeline(project, home.plan(days), years, with_ceremonies=held)
    project.close(run_succeeded=False)
    return found


def days_of(found: Timeline, what: str) -> list[int]:
    return [(event.at - START) // timedelta(days=1) for event in found.events if event.what == what]


def wrong(found: Timeline) -> list[str]:
    return [f"{event.at:%Y-%m-%d} {event.subject}: {event.text}" for event in found.problems]


def entries(home: Home) -> dict[str, str]:
    """The calendar's days by the keys of its entries, as it lies on disk, its folded lines put together."""
    text = home.read("build/report/pki.ics").decode().replace("\r\n ", "")
    return dict(re.findall(r"UID:(\S+)@pki\.lab\.internal\r\nDTSTAMP:\S+\r\nDTSTART;VALUE=DATE:(\d+)", text))


# -- what is foretold -------------------------------------------------------------------------------------------------


def test_nothing_goes_wrong_in_a_project_that_is_looked_after(real: RealHome) -> None:
    found = foretell(real)
    assert wrong(found) == []
    assert days_of(found, "request") == [ASKED, 2 * ASKED]
    assert days_of(found, "ceremony") == [ASKED + 14, 2 * ASKED + 14]
    assert [one.products for one in found.ceremonies] == [("client-2", "server-2"), ("client-3", "server-3")]
    assert f"{found.ceremonies[0].by:%Y-%m-%d}" == "2028-05-26", "as `invoke status` says it"
    rhythms = {one.subject: (one.every.days, (one.next - START).days) for one in found.rhythms}
    assert rhythms["cert:media"] == (60, 60)
    assert rhythms["cert:client-admin"] == (150, 150)
    assert rhythms["crl:server-1"] == (7, 7)


def test_the_sandbox_comes_as_it_was_foretold(home: Home) -> None:
    """Two years under a moved clock; tests/integration/test_timeline.py walks more, with real ceremonies."""
    found = foretell(home, 2)
    days: dict[int, set[str]] = {}
    for name, one in found.renewals.items():
        for at, _ in one.issued:
            days.setdefault((at - START).days, set()).add(f"cert:{name}")
    assert days_of(found, "ceremony") == [ASKED]
    (presigned_crl,) = (day for day in days_of(found, "presigned_crl") if day < ASKED)
    days.setdefault(presigned_crl, set()).add("crl:root-1")
    for day in sorted(day for day in days if day < ASKED + 61):
        made = {name for name in home.doit(days=day).made if name.startswith(("cert:", "crl:root", "authority:"))}
        brought = {name for name in made if not name.startswith("cert:")} if day == ASKED else set[str]()
        assert made - brought == days[day], day
    last = home.project(ASKED + 61)
    assert last.authorities.issuing("server") == last.authorities.generation("server-2")


def test_timeline_writes_nothing(home: Home, invoke: Invoke) -> None:
    def state() -> dict[str, tuple[int, int]]:
        found = (path for path in home.path.rglob("*") if path.is_file() and "ledger.db-" not in path.name)
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = state()
    assert invoke(home, "timeline").status == 0
    assert state() == before


def test_timeline_of_a_project_before_its_first_run_begins_with_it(fresh: Home) -> None:
    found = foretell(fresh, 1)
    assert wrong(found) == []
    assert days_of(found, "ceremony") == [0]
    assert found.renewals["media"].issued[0][0] == START
    assert not (fresh.path / "ca").exists()


def test_spread_renewals_are_shown_on_their_days(home: Home, invoke: Invoke) -> None:
    hosts = "".join(f"  h{n}: {{network: dev, names: [h{n}.lab.internal]}}\n" for n in range(40))
    home.edit("clients:\n", f"{hosts}clients:\n")
    home.doit()
    together = invoke(home, "timeline", "--years", "1").out
    assert re.search(r"43 server certificates +every 60 days, next 2027-01-22", together)
    assert re.search(r"most at once +43 of 44 certificates", together)
    home.edit(
        "server: {lifetime: 90d, renew_before: 30d", "server: {lifetime: 90d, renew_before: 30d, renew_spread: 20d"
    )
    found = foretell(home, 1)
    busiest = found.busiest()
    assert busiest is not None
    assert busiest[1] < 12
    assert {(one.issued[0][0] - START).days for one in found.renewals.values()} <= {*range(40, 61), 150}
    assert re.search(
        r"43 server certificates +every 4\d to [56]\d days, next from 2027-01-0\d to 2027-01-2\d",
        invoke(home, "timeline", "--years", "1").out,
    )


# -- problems ---------------------------------------------------------------------------------------------------------


def test_without_ceremonies_everything_ends_as_foretold(real: RealHome) -> None:
    """The last certificates are cut short by their authority, then there are none: and so it comes."""
    found = foretell(real, 2, 690, held=False)
    (issued,) = found.renewals["media"].issued
    assert (issued[0] - START).days == 690
    real.doit(days=690)
    cert = x509.load_pem_x509_certificate(real.read("build/certs/media/cert.pem"))
    assert cert.not_valid_after_utc == issued[1]
    said = wrong(found)
    assert "2028-10-13 cert:media: limited by its authority: valid for 39 of 90 days, until 2028-11-22" in said
    assert "2028-11-22 cert:media: no valid certificate, and nothing planned ends this" in said
    assert "2028-11-22 server-1: expiry of the authority and its CRLs" in said
    assert {"authority:server", "authority:client"} <= real.doit(days=731).failed.keys()


def test_missing_rung_of_a_root_is_a_day_without_a_valid_crl(real: RealHome) -> None:
    first, second = real.series()
    for path in real.project().store.presigned_crls("root-1")[1:]:
        path.unlink()
    end = first.next_update_utc
    assert end is not None
    found = foretell(real, 2, held=False)
    (gap,) = (event for event in found.problems if event.what == "gap" and event.subject == "crl:root-1")
    assert gap.at == end
    assert second.next_update_utc is not None
    assert second.next_update_utc > end
    assert (
        real.doit(days=(end - START).days + 1)
        .failed["crl:root-1"]
        .startswith("none of its pre-signed CRLs is valid now")
    )


def test_client_that_outlives_its_authority_is_told(real: RealHome) -> None:
    """As after a ceremony elsewhere, or with certificates from another program in the ledger."""
    project = real.project()
    issuer = project.signing_keys.issuer("client")
    key = keys.new_key("ec-p256")
    end = issuer.certificate.not_valid_after_utc + timedelta(days=30)
    cert = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Example Lab", "x@y"), key.public_key(), (START, end), (), issuer
    )
    project.ledger.record_certificate(
        cert, issuer="client-1", artifact="cert:client-old", profile="client", reason="brought along", at=START
    )
    project.close(run_succeeded=False)
    assert [line for line in wrong(foretell(real, 3)) if "client-old" in line] == [
        f"2028-11-22 cert:client-old: is valid until {end:%Y-%m-%d}, and client-1, which issued it, only until then"
    ]


@pytest.mark.parametrize(
    ("holidays", "held", "remark"),
    [
        ("[]", ASKED + 14, ""),
        ("2028-04-10", ASKED + 15, ""),
        ("[2028-04-10..2028-04-20, 2028-04-21]", ASKED + 26, ""),
        ("2028-05-20..2028-06-03", ASKED + 14, "its last day, 2028-05-26, is a holiday: perform it by 2028-05-19"),
        ("2028-04-01..2028-05-30", ASKED + 4, "its last day, 2028-05-26, is a holiday: perform it by 2028-03-31"),
        ("2028-03-20..2028-06-10", ASKED + 76, "no day between 2028-03-27 and 2028-05-26 is free of holidays"),
    ],
)
def test_no_ceremony_is_supposed_on_a_holiday(real: RealHome, holidays: str, held: int, remark: str) -> None:
    real.edit("sandbox: false", f"sandbox: false\nholidays: {holidays}")
    found = foretell(real, 2)
    one = found.ceremonies[0]
    assert ((one.performed - START).days, one.remark) == (held, remark)
    assert [event.text for event in found.problems if event.what == "holiday"] == ([remark] if remark else [])


def test_open_request_keeps_its_date(real: RealHome) -> None:
    """What was asked for ten days ago is not asked for today; its certificates bear the dates of the request."""
    real.doit(days=ASKED)
    found = foretell(real, 3, days=ASKED + 10)
    assert found.ceremonies[0].requested == real.moment(ASKED)
    assert (found.ceremonies[0].performed - START).days == ASKED + 14
    assert (found.ceremonies[1].requested - START).days == 2 * ASKED


# -- when doit runs ---------------------------------------------------------------------------------------------------


def test_runs_follow_the_schedule_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    import time  # noqa: PLC0415 - whose zone is set here alone

    time.tzset()
    try:
        runs = Runs.of(Inventory.model_validate({**MINIMAL, "schedule": ["06:00", "22:30"]}), START)
        assert runs.first == datetime(2026, 11, 23, 21, 30, tzinfo=UTC)
        assert runs.at(datetime(2026, 12, 1, 5, 0, tzinfo=UTC)) == datetime(2026, 12, 1, 5, 0, tzinfo=UTC)
        assert runs.at(datetime(2027, 7, 1, 4, 1, tzinfo=UTC)) == datetime(2027, 7, 1, 20, 30, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


MINIMAL = {
    "organisation": "x",
    "domains": ["lab.internal"],
    "publish": {"url": "http://pki.lab.internal", "host": "pki"},
}


# -- what is printed --------------------------------------------------------------------------------------------------


def test_problems_come_first_and_then_year_after_year(real: RealHome, invoke: Invoke) -> None:
    said = invoke(real, "timeline", "--years", "3", "--no-ceremonies")
    assert said.status == 2
    assert [line for line in said.out.splitlines() if re.fullmatch(r"[a-z ]+|20\d\d", line)] == [
        "problems",
        "regularly",
        "2027",
        "2028",
    ]
    assert re.search(r"^2028-11-22 server-1, client-1 +expiry of the authority and its CRLs$", said.out, re.MULTILINE)
    assert said.out.splitlines()[-1].endswith(" problems")
    calm = invoke(real, "timeline", "--years", "3")
    no_problem = "no problem found: every certificate, root CRL and authority is replaced before it expires"
    assert (calm.status, calm.out.splitlines()[-1]) == (0, no_problem)
    assert calm.out.splitlines()[1] == (
        "assumed: doit runs as scheduled; each ceremony is performed two weeks after its request"
    )


def test_json_says_the_same_in_full(home: Home, invoke: Invoke) -> None:
    found = json.loads(invoke(home, "timeline", "--years", "1", "--json").out)
    assert (found["from"], found["problems"]) == ("2026-11-23T06:00:00Z", 0)
    assert found["renewals"]["media"][:2] == ["2027-01-22T06:00:00Z", "2027-03-23T06:00:00Z"]
    assert {"subject", "kind", "every", "next", "times", "until"} == found["rhythms"][0].keys()


@pytest.mark.parametrize("years", ["0", "41", "ten", "-1"])
def test_years_that_are_none_are_refused_in_one_sentence(home: Home, invoke: Invoke, years: str) -> None:
    said = invoke(home, "timeline", f"--years={years}")
    assert (said.status, said.error) == (
        1,
        f"--years {years}: expected a number from 1 to 40\n→ ./run invoke timeline --years 3\n",
    )


# -- the calendar -----------------------------------------------------------------------------------------------------


def test_calendar_holds_what_people_must_do_and_nothing_else(real: RealHome) -> None:
    found = entries(real)
    assert found["ceremony-client-2"] == "20280410"
    assert found["end-root-1"] == "20361120"
    assert found["client-admin-20270422"] == "20270422"
    assert {key.partition("-")[0] for key in found} == {"ceremony", "end", "client"}
    assert not any("media" in key for key in found)


def test_sandbox_asks_nobody_for_a_ceremony(home: Home) -> None:
    assert not [key for key in entries(home) if key.startswith("ceremony")]


def test_every_line_of_the_calendar_is_short_and_ends_as_rfc_5545_wants_it(real: RealHome) -> None:
    real.edit("organisation: Example Lab", 'organisation: "Blåbærgrød, Åse & Søn (Ærø) i Ålborg"')
    (real.path / "build/report/pki.ics").unlink()
    project = real.project()
    calendar.write(project, real.plan())
    lines = real.read("build/report/pki.ics").split(b"\r\n")
    assert lines[-1] == b""
    assert max(map(len, lines)) <= 75
    assert b"\n" not in b"".join(lines)
    joined = b"\n".join(lines).replace(b"\n ", b"").decode()
    assert "X-WR-CALNAME:certificates of Blåbærgrød\\, Åse & Søn (Ærø) i Ålborg" in joined


def test_calendar_is_written_only_when_it_says_something_new(real: RealHome) -> None:
    def run(days: float) -> tuple[int, bytes]:
        assert real.doit(days=days).status == 0
        return os.stat(path).st_mtime_ns, path.read_bytes()

    path = real.path / "build/report/pki.ics"
    before = run(0)
    assert run(1) == before
    assert run(9) == before, "computed again in another month, and not written"
    real.edit("clients:\n", "clients:\n  guest: {email: guest@lab.internal}\n")
    assert "client-guest-20270102" in dict.fromkeys(entries_after(real, 40))


def entries_after(home: Home, days: float) -> dict[str, str]:
    home.doit(days=days)
    return entries(home)


def test_most_runs_do_not_compute_the_calendar(real: RealHome, monkeypatch: pytest.MonkeyPatch) -> None:
    real.doit(days=1)
    monkeypatch.setattr(calendar, "entries", None)
    assert real.doit(days=2).status == 0
    real.edit("sandbox: false", "sandbox: false\nholidays: 2028-04-10")
    assert real.doit(days=2).status == 3, "it was to be computed, and could not"


def test_overdue_ceremony_stays_on_its_last_day(real: RealHome) -> None:
    """An entry that moves on every morning is one that nobody believes."""
    days = {}
    for day in (ASKED, ASKED + 20, ASKED + 21):
        real.doit(days=day)
        days[day] = entries(real)["ceremony-client-2"]
    assert days == {ASKED: "20280410", ASKED + 20: "20280526", ASKED + 21: "20280526"}
