"""After a run with the clock ahead: once the clock is right again, one run makes all of it valid, and loses no revocation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pki.deploy import crl_files
from pki.monitor.report import status_table
from pki.x509 import certificate_signing, crl_signing, pem_encoding
from pki.x509.revocation import CrlEntry
from tests.support import judges
from tests.support.ceremonies import RealHome
from tests.support.judges import DAY, HOUR
from tests.support.live_host import CRL, Live, delivered, delivered_once, kind
from tests.support.projects import START, Home

__all__ = ["delivered", "delivered_once", "kind"]

AHEAD = [40, 330, 400, 600]  # days
MINUTE = timedelta(minutes=1)


def assert_valid(home: Home, days: float) -> None:
    """All that lies in build/ has begun and not ended, and a further run has nothing to do."""
    now = home.moment(days)
    for path in (*home.path.glob("build/certs/*/tls.pem"), *home.path.glob("ca/clients/*/cert.pem")):
        leaf = judges.certificates(path.read_bytes())[0]
        assert leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc, path
    for path in home.path.glob("build/hosts/*/**/*crl*.pem"):
        for crl in judges.crls(path.read_bytes()):
            assert crl.next_update_utc is not None
            assert crl.last_update_utc <= now < crl.next_update_utc, path
    report = home.doit(days=days)
    assert (report.status, report.made) == (0, {}), report.failed
    assert {row.state for row in status_table.StatusTable(home.project(days)).rows(home.plan(days))} == {"ok"}


@pytest.mark.parametrize("ahead", AHEAD)
def test_one_run_with_the_right_clock_mends_all_that_one_with_the_clock_ahead_made(home: Home, ahead: int) -> None:
    home.doit(days=ahead)
    report = home.doit(days=1)
    assert report.status == 0, report.failed
    assert_valid(home, 1)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_host_takes_the_older_root_crl_in_place_of_one_from_the_future(delivered: Live, ahead: int) -> None:
    delivered.home.edit("crl-pem:client", "crl:bundle-client", CRL)
    for days in (0, ahead, 1):
        report = delivered.doit(days=days)
        assert report.status == 0, report.failed
    assert delivered.doit(days=1).made == {}
    assert delivered.on("/etc/client-crl.pem").read_bytes() == delivered.home.read("build/crl/bundle-client.pem")


@pytest.mark.parametrize("ahead", [40, 400])
def test_a_real_project_recovers_too(real: RealHome, ahead: int) -> None:
    real.doit(days=ahead)
    report = real.doit(days=1)
    assert report.status == 0, report.failed
    assert_valid(real, 1)


def listed(home: Home, generation: str = "client-1") -> dict[int, datetime]:
    """What the CRL in build/ lists, with the date of each entry."""
    crl = x509.load_der_x509_crl(home.read(f"build/crl/{generation}.crl"))
    return {entry.serial_number: entry.revocation_date_utc for entry in crl}


def revoke(home: Home, days: float) -> int:
    project = home.project(days)
    issued = project.ledger.certificates(artifact="cert:client-admin")[-1]
    project.ledger.record_revocation(issued, reason="keyCompromise", at=project.now)
    project.ledger.close()
    return issued.serial


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_revocation_outlives_a_crl_from_a_future_in_which_its_certificate_has_ended(home: Home, ahead: int) -> None:
    serial = revoke(home, 0)
    home.doit()
    home.doit(days=ahead)
    home.doit(days=ahead + 8)  # the second CRL after the end of the certificate no longer lists it
    assert home.doit(days=1).status == 0
    assert serial in listed(home)


def test_a_revocation_under_a_clock_ahead_is_dated_now_on_the_next_crl(home: Home) -> None:
    serial = revoke(home, 40)
    home.doit(days=40)
    assert listed(home)[serial] == START + 40 * DAY
    assert home.doit(days=1).status == 0
    assert listed(home)[serial] == START + DAY


def test_an_intermediate_that_begins_in_the_future_does_not_issue_while_another_one_can(home: Home) -> None:
    """What a sandbox's own ceremony left that it held under a clock ahead."""
    home.doit(days=700)
    assert (home.path / "ca/server/server-2").exists()
    assert home.doit(days=1).status == 0
    assert home.project(1).authorities.existing("server-2").certificate.not_valid_before_utc > home.moment(1)
    leaf, server = (
        judges.certificate(home.path / one) for one in ("build/certs/media/cert.pem", "ca/server/server-1/cert.pem")
    )
    leaf.verify_directly_issued_by(server)
    assert_valid(home, 1)


# -- which CRL may replace which --------------------------------------------------------------------------------------

KEY = ec.generate_private_key(ec.SECP256R1())
CA = certificate_signing.sign_certificate(
    certificate_signing.subject_name("Lab", "CA"), KEY.public_key(), (START - DAY, START + 900 * DAY), [], KEY
)


def crl(number: int, begins: timedelta, serials: Iterable[int] = (7,)) -> crl_files.ParsedCrl:
    start = START + begins
    entries = [CrlEntry(serial, START - DAY, "unspecified") for serial in serials]
    made = crl_signing.sign_crl(certificate_signing.Issuer(CA, KEY), number, start, start + 30 * DAY, entries)
    return crl_files.parse_crls(pem_encoding.pem_of([made]))[0]


def faults(new: crl_files.ParsedCrl, old: crl_files.ParsedCrl, ended: Iterable[int] = ()) -> list[str]:
    return [one.split()[0] for one in crl_files.regression_faults(new, old, frozenset(ended).__contains__, START)]


@pytest.mark.parametrize("begins", [6 * MINUTE, HOUR, 40 * DAY, 600 * DAY])
def test_an_older_crl_replaces_one_from_the_future_that_lists_no_more(begins: timedelta) -> None:
    ours = crl(1, -HOUR)
    assert faults(ours, crl(2, begins)) == []
    assert faults(ours, crl(2, begins, [])) == []


@pytest.mark.parametrize("begins", [6 * MINUTE, 600 * DAY])
def test_no_crl_replaces_one_from_the_future_that_lists_more(begins: timedelta) -> None:
    assert faults(crl(1, -HOUR), crl(2, begins, [7, 8])) == ["lacks"]
    assert faults(crl(3, -HOUR), crl(2, begins, [7, 8])) == ["lacks"]
    assert faults(crl(1, -HOUR), crl(2, begins, [7, 8]), ended=[8]) == []


@pytest.mark.parametrize("begins", [-HOUR + timedelta(seconds=1), timedelta(), 4 * MINUTE, 5 * MINUTE])
def test_an_older_crl_replaces_none_that_servers_can_use_now_or_within_minutes(begins: timedelta) -> None:
    """Two clocks that are both right differ by seconds, and a CRL is dated an hour back."""
    assert "has" in faults(crl(1, -HOUR), crl(2, begins))
