"""Certificates of hours and CRLs of an hour: what is computed from short times, and what people read of them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from pki.common import durations
from pki.common.durations import DAY, HOUR, MINUTE
from pki.config.loader import InventoryError
from tests.support import judges
from tests.support.commands import said_by
from tests.support.hierarchy import client, every_crl, root_of, server
from tests.support.projects import START, Home
from tests.support.short_times import shorten

SECOND = timedelta(seconds=1)
GENERATIONS = ("root-1", "server-1", "client-1")


@pytest.mark.parametrize(
    ("used", "before"),
    [
        (HOUR, 5 * MINUTE),
        (2 * HOUR, 10 * MINUTE),
        (12 * HOUR, HOUR),
        (DAY, HOUR),
        (90 * DAY, HOUR),
        (36 * SECOND, 3 * SECOND),
    ],
)
def test_what_is_used_for_a_short_time_begins_a_twelfth_of_it_before(used: timedelta, before: timedelta) -> None:
    assert durations.backdate(used) == before


@pytest.mark.parametrize(
    ("span", "words", "brief"),
    [
        (90 * DAY, "90 days", "90"),
        (2 * DAY, "2 days", "2"),
        (2 * DAY - SECOND, "47 hours", "47h"),
        (DAY, "24 hours", "24h"),
        (2 * HOUR, "2 hours", "2h"),
        (2 * HOUR - SECOND, "119 minutes", "119m"),
        (MINUTE, "1 minute", "1m"),
        (SECOND, "0 minutes", "0m"),
        (timedelta(), "0 minutes", "0"),
        (-SECOND, "0 minutes", "-1"),
        (-3 * DAY, "0 minutes", "-3"),
    ],
)
def test_a_time_is_told_in_a_unit_that_says_something(span: timedelta, words: str, brief: str) -> None:
    assert (durations.in_words(span), durations.in_brief(span)) == (words, brief)


@pytest.mark.parametrize(
    ("profile", "crl", "fault"),
    [
        (
            "{lifetime: 2h, renew_before: 2h}",
            "",
            "profiles.server.renew_before: 2h is not shorter than the lifetime of 2h",
        ),
        (
            "{lifetime: 24h, renew_before: 23h}",
            "",
            (
                "profiles.server.renew_before: 23h leaves no time of use: "
                "notBefore of a certificate of 1d is 1h before its issue; expected at most 22h"
            ),
        ),
        (
            "",
            "{lifetime: 1h, refresh: 1h}",
            "authorities.server.crl.refresh: 1h is not shorter than the CRL's lifetime of 1h",
        ),
        (
            "{lifetime: 24h, renew_before: 8h}\nschedule: [04:00]",
            "",
            "profiles.server.renew_before: 8h is shorter than 1d, the longest time between two runs (schedule)",
        ),
        (
            "schedule: [04:00, 10:00, 16:00]",
            "{lifetime: 6h, refresh: 1h}",
            (
                "authorities.server.crl.lifetime: a CRL of 6h is valid for 5h after its refresh, "
                "which is shorter than 12h, the longest time between two runs (schedule)"
            ),
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_line(fresh: Home, profile: str, crl: str, fault: str) -> None:
    """What begins an hour ago and is renewed at once, or what ends before the next run."""
    profile, _, schedule = profile.partition("\n") if "\n" in profile else (profile, "", "")
    if profile.startswith("schedule"):
        profile, schedule = "", profile
    usual = "{lifetime: 90d, renew_before: 30d}"
    shorten(
        fresh,
        server=profile or usual,
        client="{lifetime: 180d, renew_before: 30d}",
        crl=crl or "{lifetime: 21d, refresh: 7d}",
    )
    if schedule:
        fresh.write("pki.yaml", (fresh.path / "pki.yaml").read_text() + schedule + "\n")
    with pytest.raises(InventoryError) as refused:
        fresh.project()
    lines = str(refused.value).splitlines()
    assert any(re.fullmatch(rf"(pki\.yaml:)?\d+: {re.escape(fault)}", line.strip()) for line in lines), lines


@pytest.fixture
def brief_home(fresh: Home) -> Home:
    shorten(
        fresh,
        server="{lifetime: 24h, renew_before: 8h}",
        client="{lifetime: 2h, renew_before: 1h}",
        crl="{lifetime: 6h, refresh: 1h}",
    )
    report = fresh.doit()
    assert (report.status, report.failed) == (0, {})
    return fresh


def test_a_crl_of_an_hour_is_made_each_hour_and_not_in_each_run(brief_home: Home) -> None:
    made = [
        "crl:server-1" in brief_home.doit("crl:server-1", days=minute / 1440).made
        for minute in (0, 30, 60, 90, 120, 121)
    ]
    assert made == [False, False, True, False, True, False]


def test_short_certificates_are_renewed_in_time_and_no_ceremony_is_asked_for(brief_home: Home) -> None:
    """A client of two hours with a run every half hour, a server of a day: nothing ever ends."""
    roots = [root_of(brief_home)]
    made = list[str]()
    for half_hour in range(1, 8):
        at = START + half_hour * 30 * MINUTE
        for identity in (server(brief_home), client(brief_home)):
            assert judges.openssl_fault(identity, roots, at, every_crl(brief_home)) == "", half_hour
        report = brief_home.doit(days=half_hour / 48)
        assert (report.failed, report.data["notes"]) == ({}, []), half_hour
        made += [reason for name, reason in report.made.items() if name == "cert:client-admin"]
    assert made == ["49 of 120 minutes left, renewal starts at 60"] * len(made)
    assert len(made) in {3, 4}


def test_nothing_is_told_as_0_days(brief_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""
    for command in ("status", "plan", "timeline", "health", "explain"):
        arguments = (command, "client-admin") if command == "explain" else (command,)
        said = said_by(capsys, *arguments, pki_home=brief_home.path, pki_now=START + 40 * MINUTE)
        assert said.status in {0, 1, 2}, said
        shown += said.out + said.error
    assert re.findall(r".*\b0 days.*", shown) == []
    assert re.search(r"client-admin\s+ok\s+69m", shown), shown
