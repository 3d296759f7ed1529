"""The canary: a certificate that is revoked from its first moment on, and stands on every CRL while it lives."""

from __future__ import annotations

import os
import shutil

import pytest
from cryptography import x509

from pki.authority import crls
from pki.backup import lost_ledger
from pki.common.errors import LedgerError
from pki.config.leaf_certificates import CANARY, PROBE
from pki.deploy import preflight
from pki.deploy.payload import Payload
from pki.ledger.database import Database
from pki.ledger.ledger import SqlLedger
from pki.ledger.types import Issued
from pki.monitor import forecast
from pki.monitor.report import status_table
from tests.support.projects import Home, Report

CERT = f"cert:{CANARY}"
HERE = ("cert", "crl", "bundle", "release")  # everything but deliveries: nobody is at the hosts' addresses


@pytest.fixture
def kept(home: Home) -> Home:
    """The example, whose host `forge` is reached by ssh and has a service behind mTLS, after a run on this machine."""
    home.edit("proxy: haproxy\n", "proxy: haproxy\n    deliver: ssh\n")
    assert made(home).status == 0
    return home


def made(home: Home, days: float = 0) -> Report:
    return home.doit(*HERE, days=days)


def canaries(home: Home) -> list[Issued]:
    project = home.project()
    found = project.ledger.certificates(artifact=CERT)
    project.ledger.close()
    return found


def shown(home: Home) -> int:
    """The serial number of the canary that is in its place."""
    return x509.load_pem_x509_certificate(home.read(f"build/certs/{CANARY}/cert.pem")).serial_number


def listed(home: Home) -> set[int]:
    crl = x509.load_der_x509_crl(home.read("build/crl/client-1.crl"))
    return {entry.serial_number for entry in crl}


def test_there_is_one_where_a_host_is_reached_that_lets_clients_in(home: Home, kept: Home) -> None:
    assert {PROBE, CANARY} <= kept.plan().leaves.keys()
    kept.edit("    deliver: ssh\n", "")
    assert not {PROBE, CANARY} & home.plan().leaves.keys()


def test_it_is_revoked_before_it_is_shown_and_stands_on_the_crl_of_the_same_run(kept: Home) -> None:
    [one] = canaries(kept)
    assert (one.revoked, one.serial) == ("superseded", shown(kept))
    assert listed(kept) == {shown(kept)}
    names = [event.kind for event in kept.project().ledger.events() if event.subject == CERT]
    assert names == ["certificate", "revocation"]


def test_that_it_is_revoked_is_no_reason_to_do_anything(kept: Home) -> None:
    assert made(kept).made == {}
    (kept.path / "build/.seen.json").unlink()
    assert made(kept).made == {}
    plan = kept.plan()
    assert not [name for name, _ in forecast.due_artifacts(plan) if name == CERT]
    [row] = [row for row in status_table.StatusTable(kept.project()).rows(plan) if row.name == CERT]
    assert (row.state, row.next) == ("ok", "renewed from 2027-04-22 on; revoked on purpose")


def test_it_is_replaced_a_month_before_its_end_and_both_stay_on_the_crl(kept: Home) -> None:
    first = shown(kept)
    assert CERT not in made(kept, 149).made
    assert made(kept, 150).made[CERT] == "29 of 180 days left, renewal starts at 30"
    assert shown(kept) != first
    assert [one.revoked for one in canaries(kept)] == ["superseded"] * 2
    assert listed(kept) == {first, shown(kept)}
    assert made(kept, 150).made == {}


def test_a_settled_ledger_is_not_asked_about_it_until_it_is_replaced(
    kept: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(kept, 149)
    project = kept.project(149)
    project.close(run_succeeded=True)
    project.cache.save(whole=False)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "_open", lambda _: pytest.fail("was opened"))
        assert made(kept, 149).made == {}
    report = made(kept, 150)
    assert report.made["crl:client-1"] == "1 new revocation (doit-pki-canary, on purpose)"
    assert {CERT, "bundle:client-crls", "release:forge"} <= report.made.keys()
    assert shown(kept) in listed(kept)


def test_a_crl_says_how_many_of_its_new_revocations_are_on_purpose(kept: Home) -> None:
    (kept.path / "build/.seen.json").unlink()
    project = kept.project()
    reasons = [
        str(crls.Crls(project).stale_reasons("client-1", missing_serials=serials)[0])
        for serials in ({shown(kept)}, {shown(kept), 5, 6}, {5})
    ]
    project.ledger.close()
    assert reasons == [
        "1 new revocation (doit-pki-canary, on purpose)",
        "3 new revocations (1 of doit-pki-canary, on purpose)",
        "1 new revocation",
    ]


def test_it_lives_as_long_as_clients_may(kept: Home) -> None:
    kept.edit("client: {lifetime: 180d, renew_before: 30d", "client: {lifetime: 7d, renew_before: 3d")
    leaf = kept.plan().leaves[CANARY]
    assert (leaf.lifetime.days, leaf.renew_before.total_seconds() / 86400) == (7, 3.5)


def test_a_run_that_is_killed_before_it_is_revoked_shows_nothing_and_the_next_one_revokes_both(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LedgerError("no space left on device")

    home.edit("proxy: haproxy\n", "proxy: haproxy\n    deliver: ssh\n")
    with monkeypatch.context() as patch:
        patch.setattr(SqlLedger, "record_revocation", broken)
        assert CERT in made(home).failed
    assert not (home.path / f"build/certs/{CANARY}/tls.pem").exists()
    assert made(home).status == 0
    assert [one.revoked for one in canaries(home)] == ["superseded"] * 2
    assert listed(home) == {one.serial for one in canaries(home)}


def test_one_that_no_ledger_knows_as_revoked_is_replaced(kept: Home, home: Home) -> None:
    """Its ledger is lost for good, and every CRL: while nobody says that it is, the canary stays as it is."""
    before = shown(kept)
    os.truncate(kept.path / "ca/ledger.db", 0)
    (kept.path / "build/.seen.json").unlink()
    assert set(made(home).failed) == {"ledger"}
    assert shown(kept) == before
    shutil.rmtree(kept.path / "build/crl")
    lost_ledger.accept(kept.project(), "a test")
    assert made(home).made[CERT] == "was not revoked"
    assert shown(kept) != before
    assert shown(kept) in listed(kept)


def test_a_new_canary_is_no_revocation_that_opens_a_window(kept: Home) -> None:
    folder = kept.path / "build/release/forge"
    before, first = Payload.of(folder), shown(kept)
    assert before
    before = Payload(before.release, dict.fromkeys(before.folders, folder.rename(folder.with_name("before"))))
    made(kept, 150)
    now = Payload.of(folder)
    assert now
    assert first != shown(kept)
    assert preflight.revokes_more(now, before, 0)
    assert not preflight.revokes_more(now, before, shown(kept))
