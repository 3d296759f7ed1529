"""Renewal automation: each artifact is made again when it is due, once, and nothing else is."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.authority import certificates
from pki.common import filesystem
from pki.common.errors import SET_CLOCK, PkiError
from pki.common.reasons import Verb, Why
from pki.config.leaf_certificates import probe_leaf, renew_before
from pki.config.model import ServerRule
from pki.monitor import forecast
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report, status_table
from pki.project.layout import Store
from pki.x509 import certificate_signing, keys
from tests.support.generations import new_generation
from tests.support.projects import PROJECT, START, Home

SERVERS = {"cert:monitoring-mtls", "cert:forge-mtls", "cert:media"}
AV = {"release:media", "deploy:media"}
MTLS_HOSTS = {"release:monitoring", "deploy:monitoring", "release:forge", "deploy:forge"}
CRLS = {"crl:server-1", "crl:client-1", "bundle:client-crls"}
WIKI = '      wiki:       {upstream: "http://127.0.0.1:9999", access: mtls}\n'
FILES = ("tls", "key", "cert", "chain", "fullchain")


def folder(leaf: str) -> str:
    client = leaf.removeprefix("client-")
    return f"build/certs/{leaf}" if client == leaf else f"ca/clients/{client}"


def certificate(home: Home, leaf: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(home.read(f"{folder(leaf)}/cert.pem"))


def public_key(home: Home, leaf: str) -> bytes:
    return keys.public_der(certificate(home, leaf).public_key())


def pair(home: Home, leaf: str) -> dict[str, bytes]:
    return {name: home.read(f"{folder(leaf)}/{name}.pem") for name in FILES}


def assert_whole(home: Home, leaf: str) -> None:
    """All files of a leaf tell the same story, and its issuer signed it."""
    files = pair(home, leaf)
    key = serialization.load_pem_private_key(files["key"], None)
    cert = x509.load_pem_x509_certificate(files["cert"])
    assert keys.public_der(key.public_key()) == keys.public_der(cert.public_key())
    assert files["fullchain"] == files["cert"] + files["chain"]
    assert files["tls"] == files["key"] + files["fullchain"]
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(files["chain"]))


def add_last_service(home: Home, line: str) -> None:
    """Add a service behind the others, so that the certificate's first name, its CN, stays."""
    loki = '      loki:       {upstream: "http://127.0.0.1:3100", access: mtls}\n'
    home.edit(loki, loki + line)


def certificates_made(made: dict[str, str]) -> set[str]:
    return {name for name in made if name.startswith("cert:")}


# -- the calendar -----------------------------------------------------------------------------------------------------


def test_second_run_finds_nothing_to_do(home: Home) -> None:
    assert home.doit().made == {}


def test_on_day_six_nothing_is_due(home: Home) -> None:
    assert home.doit(days=6).made == {}


def test_crls_are_refreshed_after_a_week_and_reach_exactly_the_hosts_that_use_them(home: Home) -> None:
    made = home.doit(days=7).made
    assert set(made) == CRLS | MTLS_HOSTS | {"page:trust"}
    assert made["crl:client-1"] == "was 7 days old; refreshed every 7"


def test_on_day_twenty_nine_only_crls_are_due(home: Home) -> None:
    made = home.doit(days=29).made
    assert set(made) == CRLS | MTLS_HOSTS | {"page:trust"}
    assert made["crl:server-1"] == "expired on 2026-12-14"


def test_server_certificates_are_renewed_on_day_sixty_and_client_certificates_are_not(home: Home) -> None:
    made = home.doit(days=61).made
    assert certificates_made(made) == SERVERS
    assert made["cert:media"] == "28 of 90 days left, renewal starts at 30"
    assert not certificates_made(home.doit(days=62).made)


def test_client_certificates_are_renewed_thirty_days_before_their_end(home: Home) -> None:
    home.doit(days=140)
    made = home.doit(days=151).made
    assert certificates_made(made) == {"cert:client-admin"}
    assert made["cert:client-admin"] == "28 of 180 days left, renewal starts at 30"
    assert_whole(home, "client-admin")


def test_a_project_that_nobody_ran_for_three_weeks_is_well_after_one_run(home: Home) -> None:
    assert home.doit(days=22).status == 0
    assert {row.state for row in status_table.StatusTable(home.project(22)).rows(home.plan(22))} == {"ok"}


def test_a_project_that_nobody_ran_for_a_hundred_days_is_well_after_one_run(home: Home) -> None:
    report = home.doit(days=100)
    assert report.status == 0
    assert report.made["cert:media"] == "expired on 2027-02-21"
    assert {row.state for row in status_table.StatusTable(home.project(100)).rows(home.plan(100))} == {"ok"}
    assert home.doit(days=100).made == {}


def test_a_clock_that_was_ahead_is_noticed(home: Home) -> None:
    home.doit(days=61)
    report = home.doit(days=3)
    assert report.status == 0
    assert report.made["cert:media"] == "was not valid before 2027-01-23 05:00"
    assert report.made["crl:client-1"] == "was not valid before 2027-01-23 05:00"


def test_nothing_is_issued_while_the_clock_stands_before_the_authority_and_the_clock_is_named(home: Home) -> None:
    before = home.read("build/certs/media/tls.pem"), len(home.project().ledger.certificates())
    report = home.doit(days=-1)
    signers = {
        "cert:media": "server-1",
        "cert:client-admin": "client-1",
        "crl:client-1": "client-1",
        "crl:root-1": "root-1",
    }
    for name, generation in signers.items():
        assert report.failed[name].startswith(f"the clock says 2026-11-22 06:00 UTC, and {generation} is valid from 2")
        assert report.failed[name].endswith(f" → {SET_CLOCK}")
    assert (home.read("build/certs/media/tls.pem"), len(home.project().ledger.certificates())) == before
    project, plan = home.project(-1), home.plan(-1)
    said = {
        check.subject: str(check.remedy)
        for check in health_report.run_checks(project, plan, LastRun.load(project.store))
    }
    assert {said[name] for name in ("cert:media", "crl:root-1")} == {SET_CLOCK}
    assert home.doit().status == 0


# -- spread over many nights -------------------------------------------------------------------------------------------

SHARES = {"media": 4, "media-mtls": 2, "client-admin": 5}  # by sha256sum, of 0 to 10 days
SPREAD = "server: {lifetime: 90d, renew_before: 30d, renew_spread: 20d"


def test_renewals_that_are_spread_come_on_days_of_their_own(home: Home) -> None:
    home.edit("server: {lifetime: 90d, renew_before: 30d", SPREAD)
    due = {name: 90 - days_before(home, name.removeprefix("cert:")) for name in SERVERS}
    assert len(set(due.values())) > 1
    assert all(40 <= day <= 60 for day in due.values())
    for day in sorted(set(due.values())):
        assert not certificates_made(home.doit(days=day - 1).made)
        assert certificates_made(home.doit(days=day).made) == {name for name, one in due.items() if one == day}


def days_before(home: Home, leaf: str) -> int:
    return home.plan().leaves[leaf].renew_before // timedelta(days=1)


def test_reasons_and_status_say_the_day_that_is_true_for_a_leaf(home: Home) -> None:
    home.edit("server: {lifetime: 90d, renew_before: 30d", SPREAD)
    before = days_before(home, "media")
    assert 30 < before < 50
    row = next(row for row in status_table.StatusTable(home.project()).rows(home.plan()) if row.name == "cert:media")
    assert row.next == f"renewed from {START + timedelta(days=90 - before):%Y-%m-%d} on"
    made = home.doit(days=90 - before).made
    assert made["cert:media"] == f"{before - 1} of 90 days left, renewal starts at {before}"


def test_what_a_name_takes_of_the_spread_is_the_same_on_every_machine_and_for_good() -> None:
    rule = ServerRule(renew_spread=timedelta(days=10))
    shares = {name: renew_before(rule, name) - rule.renew_before for name in ("media", "media-mtls", "client-admin")}
    assert {name: share.days for name, share in shares.items()} == SHARES


def test_a_fleet_made_in_one_night_is_renewed_in_many() -> None:
    rule = ServerRule(renew_spread=timedelta(days=20))
    nights = Counter(renew_before(rule, f"host-{number}") // timedelta(days=1) for number in range(2000))
    assert set(nights) == set(range(30, 51))
    assert max(nights.values()) < 150, "of 2000 in 21 nights"
    assert {renew_before(ServerRule(), f"host-{number}") for number in range(100)} == {timedelta(days=30)}


def test_crls_and_the_probe_know_no_spread(home: Home) -> None:
    home.edit("server: {lifetime: 90d, renew_before: 30d", SPREAD)
    home.edit(
        "client: {lifetime: 180d, renew_before: 30d", "client: {lifetime: 180d, renew_before: 30d, renew_spread: 90d"
    )
    assert set(home.doit(days=7).made) == CRLS | MTLS_HOSTS | {"page:trust"}
    assert probe_leaf(home.project().inventory).renew_before == timedelta(days=7)


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_renewal_makes_a_new_key(home: Home) -> None:
    before = public_key(home, "media")
    home.doit(days=61)
    assert public_key(home, "media") != before
    assert_whole(home, "media")


@pytest.mark.parametrize(
    ("old", "new", "kept", "days"),
    [
        (
            "server: {lifetime: 90d, renew_before: 30d, key: ec-p256}",
            "server: {lifetime: 90d, renew_before: 30d, key: ec-p256, rekey: keep}",
            {"media", "forge-mtls", "monitoring-mtls"},
            61,
        ),
        ("network: av\n", "network: av\n    rekey: keep\n", {"media"}, 61),
        ("{email: admin@lab.internal}", "{email: admin@lab.internal, rekey: keep}", {"client-admin"}, 151),
    ],
    ids=["profile", "host", "client"],
)
def test_rekey_keep_holds_the_key_through_a_renewal(home: Home, old: str, new: str, kept: set[str], days: int) -> None:
    home.edit(old, new)
    leaves = {"media", "forge-mtls", "monitoring-mtls", "client-admin"}
    keys = {leaf: public_key(home, leaf) for leaf in leaves}
    serials = {leaf: certificate(home, leaf).serial_number for leaf in leaves}
    assert home.doit().made == {}
    home.doit(days=days)
    renewed = {leaf for leaf in leaves if certificate(home, leaf).serial_number != serials[leaf]}
    assert kept <= renewed
    assert {leaf for leaf in renewed if public_key(home, leaf) == keys[leaf]} == kept


def test_rekey_keep_does_not_hold_a_key_of_another_kind(home: Home) -> None:
    home.edit("network: av\n", "network: av\n    rekey: keep\n    key: ec-p384\n")
    made = home.doit().made
    assert made["cert:media"] == "its key was of kind ec-p256, pki.yaml specifies ec-p384"
    assert set(made) == {"cert:media"} | AV
    assert keys.key_kind(certificate(home, "media").public_key()) == "ec-p384"


def test_rekey_keep_does_not_hold_a_revoked_key(home: Home) -> None:
    home.edit("network: av\n", "network: av\n    rekey: keep\n")
    before = public_key(home, "media")
    project = home.project()
    [issued] = project.ledger.certificates(artifact="cert:media")
    project.ledger.record_revocation(issued, reason="keyCompromise", at=START)
    project.ledger.close()
    assert home.doit().made["cert:media"] == "was revoked"
    assert public_key(home, "media") != before


def test_a_renewal_by_hand_is_delivered_by_the_next_run(home: Home) -> None:
    before = pair(home, "media")
    project = home.project(5)
    certificates.LeafCertificates(project).issue(home.plan(5).leaves["media"], [Why.BY_HAND()])
    project.ledger.close()
    after = pair(home, "media")
    assert {name for name in FILES if after[name] == before[name]} == {"chain"}
    assert_whole(home, "media")
    assert set(home.doit(days=5).made) == AV
    assert home.read("build/hosts/media/etc/doit-pki/media.pem") == after["tls"]
    assert [one.reason for one in home.project().ledger.certificates(artifact="cert:media")] == [
        "did not exist",
        "requested with renew",
    ]


# -- authorities ------------------------------------------------------------------------------------------------------


def test_a_renewal_that_would_not_end_a_day_later_is_not_made_and_names_the_ceremony(real: Home) -> None:
    home = real
    home.doit(days=645)  # the intermediates end on day 730: these certificates end with them
    ends = certificate(home, "media").not_valid_after_utc
    assert ends == home.project().authorities.issuing("server").certificate.not_valid_after_utc  # type: ignore[union-attr]
    report = home.doit(days=701)
    assert (report.status, report.failed) == (1, {}), "the ceremony is overdue: critical"
    assert not certificates_made(report.made)
    project, plan = home.project(701), home.plan(701)
    said = {note.subject: note for note in forecast.required_actions(project, plan)}
    assert said["cert:media"].text == (
        "28 days left, and a renewal would not extend it: server-1 expires on 2028-11-22; "
        "needs a ceremony: a new generation of server"
    )
    assert said["cert:media"].remedy == "./run invoke ceremony.request --new server"
    assert {"cert:forge-mtls", "cert:monitoring-mtls", "cert:client-admin"} <= said.keys()
    rows = {row.name: row for row in status_table.StatusTable(project).rows(plan)}
    assert (rows["cert:media"].state, rows["cert:media"].by) == ("blocked", "ceremony")


def test_leaves_are_not_asked_again_and_again_while_a_ceremony_is_awaited(real: Home) -> None:
    home = real
    home.doit(days=645)
    project, plan = home.project(701), home.plan(701)
    assert not {str(a.id) for a, _ in forecast.due_artifacts(plan) if a.id.kind == "cert"}
    assert len(project.ledger.certificates(artifact="cert:media")) == 2


def test_an_ended_intermediate_fails_its_own_tasks_and_says_ceremony(real: Home) -> None:
    home = real
    home.doit(days=645)
    report = home.doit(days=731)
    assert report.status in {1, 2}
    assert "server-1 expired on 2028-11-22; needs a ceremony" in report.failed["authority:server"]
    assert "crl:root-1" not in report.failed


def test_a_new_generation_re_issues_the_leaves_of_its_authority_and_no_other(home: Home) -> None:
    new_generation(home, "server", days=3)
    report = home.doit(days=3)
    assert report.status == 0
    assert certificates_made(report.made) == SERVERS
    assert report.made["cert:media"] == "it was not issued by server-2, the current issuer"
    assert report.made["crl:server-2"] == "did not exist"
    assert_whole(home, "media")
    assert certificate(home, "media").issuer.rfc4514_string().startswith("CN=Example Lab SANDBOX Server CA 2")
    assert home.doit(days=3).made == {}


def test_the_old_generation_keeps_its_crl_while_it_lives(home: Home) -> None:
    new_generation(home, "server", days=3)
    home.doit(days=3)
    assert {"crl:server-1", "crl:server-2"} <= home.doit(days=11).made.keys()


def test_rekey_keep_holds_the_key_when_the_issuer_changes(home: Home) -> None:
    home.edit("network: av\n", "network: av\n    rekey: keep\n")
    before = {leaf: public_key(home, leaf) for leaf in ("media", "forge-mtls")}
    new_generation(home, "server")
    home.doit()
    assert public_key(home, "media") == before["media"]
    assert public_key(home, "forge-mtls") != before["forge-mtls"]


# -- what is lost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{ not json",
        "[]",
        '{"format": 1}',
        '{"format": 1, "found": []}',
        '{"format": 1, "found": {"cert:media": 7}}',
    ],
    ids=["gone", "no JSON", "a list", "empty", "another shape", "another entry"],
)
def test_losing_the_caches_re_issues_nothing(home: Home, content: str | None) -> None:
    for name in (".doit.db", ".seen.json"):
        (home.path / "build" / name).unlink(missing_ok=True)
    if content is not None:
        (home.path / "build" / ".seen.json").write_text(content)
    report = home.doit()
    assert (report.status, report.made) == (0, {})
    assert (home.path / "build" / ".seen.json").read_text() != content


def test_a_lost_certificate_is_issued_again_and_delivered_alone(home: Home) -> None:
    shutil.rmtree(home.path / "build/certs/media")
    made = home.doit().made
    assert set(made) == {"cert:media"} | AV
    assert made["cert:media"] == "did not exist"
    assert_whole(home, "media")


def test_a_lost_client_identity_is_issued_again_alone(home: Home) -> None:
    shutil.rmtree(home.path / "ca/clients/admin")
    assert set(home.doit().made) == {"cert:client-admin"}


def files_of(home: Home) -> set[Path]:
    """What is in build/, but for mail: each bears the time at which it was written."""
    found = (path.relative_to(home.path) for path in (home.path / "build").rglob("*") if path.is_file())
    return {path for path in found if "outbox" not in path.parts}


def test_a_lost_build_folder_comes_back_complete_and_clients_keep_their_certificates(home: Home) -> None:
    before = pair(home, "client-admin")
    files = files_of(home)
    numbers = {name: home.project().ledger.last_crl(name) for name in ("server-1", "client-1")}
    shutil.rmtree(home.path / "build")
    report = home.doit(days=1)
    assert report.status == 0
    assert certificates_made(report.made) == SERVERS
    assert not any(name.startswith("authority:") for name in report.made)
    assert files_of(home) == files
    assert pair(home, "client-admin") == before
    for name, last in numbers.items():
        assert last is not None
        now = home.project().ledger.last_crl(name)
        assert now is not None
        assert now > last
    assert home.doit(days=1).made == {}


def test_a_lost_build_folder_comes_back_even_within_the_same_second(home: Home) -> None:
    shutil.rmtree(home.path / "build")
    assert home.doit().status == 0
    assert home.doit().made == {}


# -- what is damaged --------------------------------------------------------------------------------------------------


def test_two_certificates_whose_truths_were_swapped_are_noticed_and_healed(home: Home) -> None:
    media, forge = (home.path / folder(leaf) / "tls.pem" for leaf in ("media", "forge-mtls"))
    first, second = media.read_bytes(), forge.read_bytes()
    media.write_bytes(second)
    forge.write_bytes(first)
    made = home.doit().made
    assert made["cert:media"].startswith("lacked jellyfin.lab.internal; still named forgejo.lab.internal")
    assert made["cert:forge-mtls"].startswith("lacked forgejo.lab.internal; still named jellyfin.lab.internal")
    assert_whole(home, "media")
    assert_whole(home, "forge-mtls")
    assert home.doit().made == {}


@pytest.mark.parametrize("name", ["key", "cert", "chain", "fullchain"])
def test_two_swapped_files_that_are_cut_from_a_truth_are_cut_again_without_an_issue(home: Home, name: str) -> None:
    before = {leaf: pair(home, leaf) for leaf in ("media", "client-admin")}
    for leaf, other in (("media", "client-admin"), ("client-admin", "media")):
        (home.path / folder(leaf) / f"{name}.pem").write_bytes(before[other][name])
    made = home.doit().made
    assert made == {
        "cert:media": f"{name}.pem did not match its PEM bundle",
        "cert:client-admin": f"{name}.pem did not match its PEM bundle",
    }
    assert {leaf: pair(home, leaf) for leaf in before} == before


@pytest.mark.parametrize("name", ["key", "cert", "chain", "fullchain"])
def test_a_damaged_or_deleted_file_is_cut_again_without_an_issue(home: Home, name: str) -> None:
    before = pair(home, "media")
    path = home.path / folder("media") / f"{name}.pem"
    path.write_bytes(path.read_bytes()[:-30])
    assert home.doit().made == {"cert:media": f"{name}.pem did not match its PEM bundle"}
    path.unlink()
    assert home.doit().made == {"cert:media": f"{name}.pem was missing"}
    assert pair(home, "media") == before


def test_a_key_that_others_can_read_is_closed_again(home: Home) -> None:
    path = home.path / folder("media") / "key.pem"
    path.chmod(0o644)
    assert home.doit().made == {"cert:media": "key.pem had mode 0644, expected 0600"}
    assert filesystem.mode_of(path) == filesystem.SECRET


def test_a_truth_that_others_could_read_is_replaced_with_a_new_key(home: Home) -> None:
    before = public_key(home, "media")
    (home.path / folder("media") / "tls.pem").chmod(0o644)
    made = home.doit().made
    assert made["cert:media"] == "tls.pem had mode 0644, expected 0600"
    assert set(made) == {"cert:media"} | AV
    assert public_key(home, "media") != before
    assert filesystem.mode_of(home.path / folder("media") / "tls.pem") == filesystem.SECRET


@pytest.mark.parametrize(
    "damage",
    [b"", b"nothing of the kind\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "no PEM", "no certificate"],
)
def test_a_damaged_truth_is_issued_again(home: Home, damage: bytes) -> None:
    (home.path / folder("media") / "tls.pem").write_bytes(damage)
    made = home.doit().made
    assert made["cert:media"] == "tls.pem was damaged"
    assert set(made) == {"cert:media"} | AV
    assert_whole(home, "media")


def test_a_truth_with_a_foreign_key_is_issued_again(home: Home) -> None:
    path = home.path / folder("media") / "tls.pem"
    own = home.read(f"{folder('media')}/key.pem")
    path.write_bytes(path.read_bytes().replace(own, home.read(f"{folder('forge-mtls')}/key.pem")))
    assert home.doit().made["cert:media"] == "its key and its certificate did not match"
    assert_whole(home, "media")


def test_a_truth_with_a_foreign_chain_is_issued_again(home: Home) -> None:
    path = home.path / folder("media") / "tls.pem"
    path.write_bytes(
        path.read_bytes().replace(home.read("ca/server/server-1/cert.pem"), home.read("ca/client/client-1/cert.pem"))
    )
    assert home.doit().made["cert:media"] == "it was not issued by server-1, the current issuer"
    assert_whole(home, "media")


def test_a_certificate_that_its_issuer_did_not_sign_is_issued_again(home: Home) -> None:
    """Everything in it is right, names and issuer too, but the signature's last byte was changed."""
    path = home.path / folder("media") / "tls.pem"
    cert = certificate(home, "media")
    der = bytearray(cert.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_certificate(bytes(der)).public_bytes(serialization.Encoding.PEM)
    path.write_bytes(path.read_bytes().replace(home.read(f"{folder('media')}/cert.pem"), forged))
    assert "cert:media" in home.doit().made
    assert_whole(home, "media")


@pytest.mark.parametrize("form", ["crl", "pem"])
def test_a_damaged_crl_is_made_again_with_a_higher_number(home: Home, form: str) -> None:
    last = home.project().ledger.last_crl("client-1")
    (home.path / f"build/crl/client-1.{form}").write_bytes(b"damaged")
    report = home.doit()
    assert report.status == 0
    assert set(report.made) == {"crl:client-1", "bundle:client-crls"} | MTLS_HOSTS
    assert home.project().ledger.last_crl("client-1") > last  # type: ignore[operator]
    assert home.doit().made == {}


def test_a_damaged_bundle_is_written_again_and_goes_no_further_when_its_content_is_as_before(
    home: Home,
) -> None:
    (home.path / "build/trust/roots.pem").write_bytes(b"damaged")
    assert home.doit().made == {"bundle:trust": "build/trust/roots.pem was not up to date with its sources"}


# -- what changes in pki.yaml -----------------------------------------------------------------------------------------


def test_a_new_service_rebuilds_its_certificate_release_and_delivery_as_forecast(home: Home) -> None:
    add_last_service(home, WIKI)
    foretold = {artifact.id: "; ".join(map(str, why)) for artifact, why in forecast.due_artifacts(home.plan())}
    made = home.doit().made
    assert set(made) == {"cert:monitoring-mtls", "release:monitoring", "deploy:monitoring"}
    assert set(foretold) == set(made)
    assert foretold["cert:monitoring-mtls"] == "lacks wiki.lab.internal"
    assert made["cert:monitoring-mtls"] == "lacked wiki.lab.internal"
    assert foretold["release:monitoring"] == "services changed"
    assert foretold["deploy:monitoring"] == "changes with release:monitoring"
    assert "wiki.lab.internal" in certificate(home, "monitoring-mtls").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value.get_values_for_type(x509.DNSName)
    assert b"server_name wiki.lab.internal" in home.read("build/hosts/monitoring/etc/nginx/conf.d/pki-services.conf")


def test_a_service_that_leaves_is_taken_away_again(home: Home) -> None:
    add_last_service(home, WIKI)
    home.doit()
    home.edit(WIKI, "")
    made = home.doit().made
    assert set(made) == {"cert:monitoring-mtls", "release:monitoring", "deploy:monitoring"}
    assert made["cert:monitoring-mtls"] == "still named wiki.lab.internal"
    assert b"wiki" not in home.read("build/hosts/monitoring/etc/nginx/conf.d/pki-services.conf")


def test_the_first_open_service_of_a_host_gets_a_certificate_of_its_own(home: Home) -> None:
    home.add_service("shop", access="tls")
    made = home.doit().made
    assert set(made) == {"cert:monitoring", "release:monitoring", "deploy:monitoring"}
    assert home.read("build/hosts/monitoring/etc/doit-pki/monitoring.pem") == pair(home, "monitoring")["tls"]
    home.edit('      shop: {upstream: "http://127.0.0.1:9999", access: tls}\n', "")
    report = home.doit()
    assert report.status == 0
    assert "cleanup" in {name.partition(":")[0] for name in report.made}
    assert not (home.path / "build/certs/monitoring").exists()
    assert not (home.path / "build/hosts/monitoring/etc/doit-pki/monitoring.pem").exists()


def test_a_changed_upstream_issues_nothing(home: Home) -> None:
    home.edit("127.0.0.1:9090", "127.0.0.1:9091")
    assert set(home.doit().made) == {"release:monitoring", "deploy:monitoring"}


def test_a_new_client_concerns_nobody_else(home: Home) -> None:
    home.edit("clients:\n", "clients:\n  guest: {email: guest@lab.internal}\n")
    assert set(home.doit().made) == {"cert:client-guest"}
    assert_whole(home, "client-guest")


def test_a_shorter_renewal_window_is_obeyed_at_once(home: Home) -> None:
    home.edit(
        "server: {lifetime: 90d, renew_before: 30d, key: ec-p256}",
        "server: {lifetime: 90d, renew_before: 10d, key: ec-p256}",
    )
    assert not certificates_made(home.doit(days=61).made)
    assert certificates_made(home.doit(days=80).made) == SERVERS


# -- what fails -------------------------------------------------------------------------------------------------------


def test_a_failed_signature_leaves_the_old_pair_whole_and_the_next_run_mends_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {leaf: pair(home, leaf) for leaf in ("media", "forge-mtls")}

    def refuse(*_: object, **__: object) -> x509.Certificate:
        raise PkiError("the token does not answer", "plug it in")

    with monkeypatch.context() as patch:
        patch.setattr(certificate_signing, "sign_certificate", refuse)
        report = home.doit(days=61)
    assert report.status in {1, 2}
    assert report.failed["cert:media"] == "the token does not answer → plug it in"
    assert {leaf: pair(home, leaf) for leaf in before} == before
    assert set(report.failed) == SERVERS
    assert {"crl:server-1", "crl:client-1"} <= report.made.keys()
    assert len(home.project().ledger.certificates(artifact="cert:media")) == 1
    assert home.doit(days=61).status == 0
    assert_whole(home, "media")


def test_a_full_disk_leaves_the_old_pair_whole(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before, open_file = pair(home, "media"), os.open

    def full(path: Path | str, flags: int, mode: int = 0o777) -> int:
        if "certs/media/." in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_file(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        report = home.doit(days=61)
    assert "No space left on device" in report.failed["cert:media"]
    assert pair(home, "media") == before
    assert "cert:forge-mtls" in report.made
    assert len(home.project().ledger.certificates(artifact="cert:media")) == 1
    assert home.doit(days=61).status == 0
    assert_whole(home, "media")


def test_a_wrong_passphrase_stops_one_authority_and_names_where_it_is_kept(home: Home) -> None:
    before = {leaf: pair(home, leaf) for leaf in ("media", "monitoring-mtls")}
    lines = (home.path / "secrets.yaml").read_text().splitlines()
    home.write(
        "secrets.yaml",
        "".join("server-1: wrong\n" if "server-1" in line else f"{line}\n" for line in lines),
    )
    report = home.doit(days=61)
    assert report.status in {1, 2}
    assert report.failed["crl:server-1"] == (
        "ca/server/server-1/key.pem: its key cannot be opened → "
        "the passphrase from secrets.yaml is wrong, or the file is damaged; ./run invoke restore FILE; if no backup has "
        "the key, a ceremony replaces it: ./run invoke ceremony.request --revoke server-1 --reason superseded"
    )
    assert set(report.failed) == {"crl:server-1"}, "certificates that are good still are kept"
    assert "crl:client-1" in report.made
    assert {leaf: pair(home, leaf) for leaf in before} == before


def test_a_missing_passphrase_is_called_missing(home: Home) -> None:
    lines = (home.path / "secrets.yaml").read_text().splitlines()
    home.write("secrets.yaml", "".join(f"{line}\n" for line in lines if "client-1" not in line))
    report = home.doit(days=8)
    assert set(report.failed) == {"key:client-1"}, "the CRL is good for two weeks more"
    assert "secrets.yaml holds no passphrase for it" in report.failed["key:client-1"]


# -- several processes ------------------------------------------------------------------------------------------------


def run_doit(home: Home, *arguments: str) -> subprocess.Popen[str]:
    """`doit` as people start it: a process of its own, with the real clock."""
    return subprocess.Popen(
        [sys.executable, "-m", "doit", *arguments],
        cwd=PROJECT,
        env={**os.environ, "PKI_HOME": str(home.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def names_of(output: str) -> set[str]:
    return {line.split()[1] for line in output.splitlines() if line.partition(" ")[0] in {*Verb}}


def test_four_processes_make_the_same_as_one(fresh: Home, built_once: Path) -> None:
    process = run_doit(fresh, "-n", "4")
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    alone = Home(built_once)
    assert names_of(output) == {artifact.id for artifact in alone.plan().artifacts} - {
        "cleanup:build",
        "authority:server",  # which come with the ceremony of the root
        "authority:client",
    }
    built = {path.relative_to(fresh.path / "build") for path in (fresh.path / "build").rglob("*")}
    expected = {path.relative_to(built_once / "build") for path in (built_once / "build").rglob("*")}
    dated = {"crl", "outbox"}
    assert {path for path in built if dated.isdisjoint(path.parts)} == {
        path for path in expected if dated.isdisjoint(path.parts)
    }
    for leaf in ("media", "forge-mtls", "monitoring-mtls", "client-admin"):
        assert_whole(fresh, leaf)
    again = run_doit(fresh, "-n", "4")
    assert again.communicate(timeout=300)[0] == ""


def test_four_processes_renew_the_same_as_one(home: Home) -> None:
    report = home.doit("-n", "4", days=61)
    assert report.status == 0
    assert certificates_made(report.made) == SERVERS
    assert home.project().ledger.verify() == []
    assert home.doit(days=61).made == {}


def test_two_runs_at_once_take_turns_and_the_second_finds_nothing_to_do(fresh: Home) -> None:
    with Store(fresh.path).lock():
        both = [run_doit(fresh), run_doit(fresh)]
        for process in both:
            assert process.stderr is not None
            assert process.stderr.readline() == f"waiting for another run (process {os.getpid()}) to end\n"
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(names_of(output)) for output in outputs) == [0, 17]
    assert outputs.count("") == 1
    assert len(fresh.project().ledger.certificates(artifact="cert:media")) == 1
