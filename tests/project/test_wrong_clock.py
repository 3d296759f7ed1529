"""Nothing ends by a clock that nobody confirms: what would be removed by its date stays, here and on hosts."""

from __future__ import annotations

import os

import pytest
from cryptography import x509

from pki.authority.crls import Crls
from pki.ceremony.online.make_request import RequestOptions
from pki.deploy.delivery_history import RELEASES_KEPT
from pki.pipeline.delivery_targets import ReleaseChecks
from pki.pipeline.desired_state import DesiredState
from pki.project.clock_guard import CONFIRM, Evidence, HostClock
from pki.project.project import Project
from tests.support.ceremonies import RealHome
from tests.support.live_host import Live, change_something, delivered, delivered_once, kind
from tests.support.projects import Ask, Home

__all__ = ["delivered", "delivered_once", "kind"]

CENTURY = 36500  # days: every authority has ended
PLACES = ("certs", "crl", "trust", "release", "hosts", "receipts", "history")


def nobody(_project: Project) -> Evidence:
    """The kernel clock is not synchronised, and no host answers."""
    return Evidence(None, (HostClock("media", None),))


def built(home: Home) -> dict[str, bytes]:
    """Every file below the folders of `build/` from which something can be removed."""
    files = (path for place in PLACES for path in (home.path / "build" / place).rglob("*") if path.is_file())
    return {str(path.relative_to(home.path)): path.read_bytes() for path in files}


def assert_kept(home: Home, days: float, evidence: Ask = nobody) -> None:
    before = built(home)
    report = home.doit(days=days, evidence=evidence)
    assert "cleanup:build" not in report.made
    assert built(home) == before
    named = {one.rpartition(" → ")[2].rpartition(": ")[2] for one in report.failed.values()}
    assert named <= {CONFIRM}, report.failed


def serial_of(home: Home, leaf: str) -> int:
    return x509.load_pem_x509_certificate(home.read(f"build/certs/{leaf}/cert.pem")).serial_number


def test_a_revocation_of_a_killed_command_is_carried_out_after_runs_with_a_clock_that_nobody_confirms(
    real: RealHome,
) -> None:
    """The command was killed after the CRL, and by the clock of the next run the revoked certificate had expired."""
    serial = serial_of(real, "media")
    project = real.project(1)
    [issued] = project.ledger.certificates(serial=serial)
    project.ledger.record_revocation(issued, reason="keyCompromise", at=project.now)
    Crls(project).issue("server-1")
    project.ledger.close()
    assert [entry.serial_number for entry in real.published("server-1")] == [serial]
    assert_kept(real, 4000)
    assert real.doit(days=1.1, evidence=nobody).status == 0
    assert serial_of(real, "media") != serial


@pytest.mark.parametrize("days", [-CENTURY / 2, 400, 4000, CENTURY])
def test_what_ended_by_a_clock_that_nobody_confirms_stays(real: RealHome, days: float) -> None:
    assert_kept(real, days)
    report = real.doit(days=1, evidence=nobody)
    assert (report.status, report.made) == (0, {})


def test_what_a_sandbox_has_stays_too(home: Home) -> None:
    assert_kept(home, CENTURY)


def test_what_ended_by_a_clock_that_others_confirm_is_removed(real: RealHome) -> None:
    real.ceremony(days=CENTURY)
    assert real.doit(days=CENTURY).status == 0
    assert not (real.path / "build/crl/root-1.crl").exists()
    assert not (real.path / "build/trust/root-1.crt").exists()


def test_what_ended_long_ago_does_not_come_back_by_a_clock_that_nobody_confirms(real: RealHome) -> None:
    real.ceremony(days=CENTURY)
    assert real.doit(days=CENTURY).status == 0
    assert_kept(real, 0)
    assert_kept(real, -CENTURY / 2)


def test_a_cross_certificate_stays_in_the_chain_of_a_leaf(real: RealHome) -> None:
    real.ceremony(RequestOptions(generations=("root",)), days=1)
    assert real.doit(days=1).status == 0
    chain = real.read("build/certs/media/chain.pem")
    assert chain.count(b"BEGIN CERTIFICATE") == 2
    assert_kept(real, CENTURY)
    assert real.project(CENTURY, nobody).authorities.existing("server-2").chain == chain


def test_no_entry_of_a_host_s_crl_has_ended_by_a_clock_that_nobody_confirms(real: RealHome) -> None:
    """It would leave the CRL that is in place there."""
    serial = real.project().ledger.certificates(artifact="cert:media")[-1].serial
    assert ReleaseChecks(DesiredState.of(real.project(CENTURY))).has_expired(serial)
    assert not ReleaseChecks(DesiredState.of(real.project(CENTURY, nobody))).has_expired(serial)


@pytest.mark.parametrize("days", [400, CENTURY])
def test_evidence_is_asked_for_only_where_something_ended_between_the_last_event_and_now(
    real: RealHome, days: float
) -> None:
    asked = list[Project]()

    def evidence(project: Project) -> Evidence:
        asked.append(project)
        return nobody(project)

    project = real.project(days, evidence)
    assert project.authorities.live("root") == ["root-1"]
    assert len(asked) == (days > 4000)


def test_the_releases_of_a_host_are_kept_in_the_order_of_their_delivery(delivered: Live) -> None:
    """Whatever the clock said at that time: the newest ones stay, and a rollback finds the one before the present."""
    log, order = delivered.delivery().records.history, list[str]()
    for number in range(RELEASES_KEPT + 2):
        change_something(delivered)
        assert delivered.home.doit().status == 0
        order.append(log.releases()[-1].name)
        for path in log.releases() if number < RELEASES_KEPT else ():
            ahead = path.stat().st_mtime_ns + 400 * 86400 * 10**9
            os.utime(path, ns=(ahead, ahead))
    assert len(set(order)) == RELEASES_KEPT + 2
    assert [path.name for path in log.releases()] == order[-RELEASES_KEPT:]
    assert log.find_release("media", "", order[-1]).release.digest == order[-2]
