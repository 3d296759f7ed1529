"""Handing over by date: each generation makes room for the next, and on no day anybody is left out, or let in too long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import PkiError
from pki.monitor.report import status_table
from tests.integration.years import Years, moment, quick_years
from tests.support import judges
from tests.support.ceremonies import RealHome, real_home

ASKED = 490  # 730 days of an intermediate, less 180 of a client certificate, less 60 of overlap
HELD = ASKED + 14
ROOT_ASKED = 2740  # 3650 days of a root, less 730 of an intermediate, less 180 of overlap
ROOT_HELD = ROOT_ASKED + 14
ROOT_END = 3650
LEAVES = {"cert:monitoring-mtls", "cert:forge-mtls", "cert:media", "cert:client-admin"}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_years():
        yield


@pytest.fixture
def home(tmp_path: Path) -> RealHome:
    found = real_home(tmp_path / "real")
    found.ceremony()
    return found


@pytest.fixture
def years(home: RealHome, tmp_path: Path) -> Years:
    """The life of a project from its first ceremony on, under the eyes of clients that trust root-1 alone."""
    (tmp_path / "work").mkdir()
    found = Years(home, tmp_path / "work", lambda _: {"root-1": root(home, 1)})
    found.run(0)
    return found


def root(home: RealHome, number: int) -> bytes:
    return home.read(f"ca/root/root-{number}/cert.pem")


def leaves_in(made: dict[str, str]) -> set[str]:
    return {name for name in made if name.startswith("cert:")}


def reissued_early(made: dict[str, str]) -> dict[str, str]:
    """Leaves that were not simply due."""
    return {name: why for name, why in made.items() if name in LEAVES and "days left, renewal starts at 30" not in why}


def ask(years: Years, until: int) -> int:
    """Walk until doit writes a request for a ceremony by itself; returns the day."""
    for day, report in years.walk(until):
        if "ceremony:request" in report.made:
            return day
    raise AssertionError(f"no ceremony was asked for until day {until}")


def hold(years: Years, home: RealHome, day: int) -> dict[str, str]:
    """Answer the open request and take the answer in; what doit then makes."""
    (waiting,) = (folder for folder in home.project(day).store.ceremonies() if not (folder / "response.yaml").exists())
    home.accept(home.answer(waiting / "request.yaml", day), day)
    years.look(day)
    made = years.run(day).made
    years.look(day)
    return made


# -- intermediates ----------------------------------------------------------------------------------------------------


def test_nobody_notices_when_the_intermediates_hand_over(years: Years, home: RealHome) -> None:
    for day in range(60, ASKED, 60):
        assert not years.run(day).data["notes"]
    assert ask(years, 600) == ASKED
    for day, report in years.walk(HELD):
        assert [note["subject"] for note in report.data["notes"]] == ["ceremony"], day
        assert not reissued_early(report.made), day

    made = hold(years, home, HELD)
    assert leaves_in(made) == LEAVES
    assert {"crl:server-2", "crl:client-2", "bundle:trust", "bundle:client-crls"} <= made.keys()

    dropped = {}
    for day, report in years.walk(745):
        assert not report.data["notes"], day
        assert not reissued_early(report.made), day
        dropped |= {day: report.made["cleanup:build"]} if "cleanup:build" in report.made else {}
    assert years.faults == []
    assert years.looks > 2 * (745 - ASKED) // 7, "every week, before and after"
    (reasons,) = dropped.values()
    assert list(dropped) == [730], "the old generation and its CRLs are there until it ends"
    assert {"build/crl/client-1.crl", "build/crl/server-1.crl"} <= set(reasons.replace("; ", " ").split())


def test_browser_keeps_its_old_certificate_over_a_handover(years: Years, home: RealHome) -> None:
    """Issued on the last day of the old generation, never replaced in the browser: good for all of its 180 days."""
    for day in (150, 300, 450, ASKED):
        years.run(day)
    home.doit("cert:client-admin", days=HELD)
    home.project(HELD).store.bundle(home.plan(HELD).leaves["client-admin"]).unlink()
    last = years.run(HELD).made
    assert "cert:client-admin" in last
    hold(years, home, HELD)
    for day in (HELD, HELD + 60, HELD + 120, HELD + 179, HELD + 180):
        years.run(day)
        alive = [one for one in years.installed.values() if one.end > moment(day) and is_of(one.chain, "Client CA 1")]
        assert bool(alive) == (day < HELD + 180), day
        assert years.kept_out(day) == []


def is_of(chain: bytes, name: str) -> bool:
    return any(judges.common_name(cert).endswith(name) for cert in judges.certificates(chain))


def test_notes_and_status_say_who_must_hold_a_ceremony_and_by_when(years: Years, home: RealHome) -> None:
    years.run(ASKED - 1)
    (note,) = years.run(ASKED).data["notes"]
    assert note["text"].startswith("a root ceremony is due by 2028-05-26, for the root's owner and a witness: ")
    assert "client-2 (client-1 can issue certificates of full lifetime until 2028-05-26)" in note["text"]
    assert "ceremony.request" in note["remedy"]
    rows = {row.name: row for row in status_table.StatusTable(home.project(ASKED)).rows(home.plan(ASKED))}
    row = rows["authority:client-1"]
    assert (row.state, row.by) == ("due", "ceremony")
    assert row.next == "a successor is requested on 2028-03-27, and must exist by 2028-05-26"
    before = {row.name: row for row in status_table.StatusTable(home.project(ASKED - 1)).rows(home.plan(ASKED - 1))}
    assert before["authority:client-1"].state == "ok"


def test_once_asked_doit_asks_again_only_when_the_request_grew_old(years: Years, home: RealHome) -> None:
    years.run(ASKED)
    made = {day: years.run(ASKED + day).made for day in (1, 14, 29, 30, 31, 32)}
    asked = {day: found["ceremony:request"] for day, found in made.items() if "ceremony:request" in found}
    assert asked == {31: "request 2 is 31 days old"}
    assert len(home.project(ASKED).store.ceremonies()) == 3


def test_ended_client_authority_does_not_keep_servers_from_their_certificates(tmp_path: Path) -> None:
    """Whoever has no use for client certificates may forget their authority; a host without mutual TLS must not notice."""
    home = real_home(tmp_path / "real")
    home.edit("server: {lifetime: 2y,", "server: {lifetime: 5y,")
    home.ceremony()
    assert home.doit().status == 0
    report = home.doit(days=720)
    assert (report.status, report.failed) == (1, {}), "the ceremony is overdue: critical"
    assert home.doit(days=731).failed.keys() == {"authority:client"}
    report = home.doit(days=785)
    assert "deploy:media" in report.made
    assert "deploy:monitoring" not in report.made, "its CRLs of client-1 have ended"
    assert home.read("build/hosts/media/etc/doit-pki/media.pem") == home.read("build/certs/media/tls.pem")


# -- the root ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grown_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project shortly before its root hands over: a ceremony every 490 days, as it was asked for."""
    home = real_home(tmp_path_factory.mktemp("grown"))
    # CRLs every quarter, so that years have fewer days on which something changes
    home.edit("crl: {lifetime: 21d, refresh: 7d}", "crl: {lifetime: 180d, refresh: 90d}")
    home.ceremony()
    home.doit()
    for day in range(ASKED, ROOT_ASKED, ASKED):
        assert "ceremony:request" in home.doit(days=day).made
        home.ceremony(days=day)
        assert home.doit(days=day).status == 0
    return home.path.parent


@pytest.fixture
def grown(grown_once: Path, tmp_path: Path) -> Years:
    """That project, judged for those who trust the old root alone until it ends, and the new root alone once there is one."""
    shutil.copytree(grown_once, tmp_path / "grown", symlinks=True)
    home = RealHome(tmp_path / "grown" / "project")
    (tmp_path / "work").mkdir()

    def trusted(day: int) -> dict[str, bytes]:
        kept = {"the old root alone": root(home, 1)} if day < ROOT_END else {}
        taken = {"the new root alone": root(home, 2)} if day >= ROOT_HELD and years.day >= ROOT_HELD else {}
        return kept | taken

    years = Years(home, tmp_path / "work", trusted)
    years.run(2700)
    return years


@pytest.mark.parametrize("destroyed", [False, True], ids=["its key kept", "its key destroyed"])
def test_nobody_notices_when_the_root_hands_over(grown: Years, *, destroyed: bool) -> None:
    home = grown.home
    assert isinstance(home, RealHome)
    assert ask(grown, 2800) == ROOT_ASKED
    for _, report in grown.walk(ROOT_HELD):
        assert not reissued_early(report.made)
    made = hold(grown, home, ROOT_HELD)
    assert leaves_in(made) == LEAVES
    assert grown.faults == []
    if destroyed:
        for _, report in grown.walk(ROOT_HELD + 60):
            assert not reissued_early(report.made)
        home.ceremony(RequestOptions(destroy=("root-1",)), days=ROOT_HELD + 60)
        assert not (home.vault.folder / "root-1" / "key.pem").exists()
        assert not leaves_in(grown.run(ROOT_HELD + 60).made)
        grown.look(ROOT_HELD + 60)

    early: dict[int, set[str]] = {}
    for day, report in grown.walk(ROOT_END + 30):
        if "ceremony:request" in report.made:
            early[day] = set(hold(grown, home, day)) & LEAVES
        elif found := reissued_early(report.made):
            early[day] = found.keys()
    assert grown.faults == []
    assert early == {ROOT_HELD - 14 + ASKED: LEAVES, ROOT_END: LEAVES}, (
        "once to the next generation, once without the old root"
    )
    assert root(home, 1) not in home.read("build/hosts/monitoring/etc/doit-pki/roots.pem")
    assert not (home.path / "build/crl/root-1.crl").exists()


def test_root_that_ended_long_ago_does_not_keep_a_project_from_a_new_one(home: RealHome) -> None:
    home.doit()
    home.ceremony(days=4015)
    report = home.doit(days=4015)
    assert (report.status, report.data["notes"]) == (0, [])
    assert not (home.path / "ca/root/root-2/cross-root-1.pem").exists()
    assert home.read("build/trust/roots.pem") == root(home, 2)
    assert home.doit(days=4015).made == {}


def test_key_of_the_root_that_signs_is_destroyed_only_along_with_a_new_root(home: RealHome) -> None:
    with pytest.raises(PkiError, match="root-1: is the only root that can sign"):
        home.ask(RequestOptions(destroy=("root-1",)))
    home.ceremony(RequestOptions(generations=("root",), destroy=("root-1",)), days=1)
    assert not (home.vault.folder / "root-1" / "key.pem").exists()
    home.ceremony(RequestOptions(generations=("server",)), days=2)
    with pytest.raises(PkiError, match="root-1: its key was destroyed already"):
        home.ask(RequestOptions(destroy=("root-1",)), days=3)
