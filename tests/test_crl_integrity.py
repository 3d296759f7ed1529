"""CRL integrity: a revocation shows at once, never goes away again, and the ledger knows of all that ever was."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.authority import crls, recover_revocations
from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import LedgerError
from pki.ledger import crl_queries
from pki.ledger.types import FILE_MISSING_TEXT, RESTORE_FILE_OR_ACCEPT_LOSS, Issued, RecoveredRevocations
from pki.x509 import certificate_signing, crl_signing, keys, profiles
from pki.x509.revocation import REASONS, CrlEntry
from tests.support import judges
from tests.support.ceremonies import RealHome, real_home
from tests.support.commands import said_by
from tests.support.copies import copy_project
from tests.support.judges import DAY, HOUR, SECOND, Identity
from tests.support.projects import START, Home

MINUTE = 1 / 1440  # in days
EPOCH = int(START.timestamp())
GENERATIONS = ("root-1", "server-1", "client-1")
PRESIGNED = "ca/root/root-1/crl"


def crl_of(home: Home, generation: str) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(home.read(f"build/crl/{generation}.crl"))


def issuer_of(home: Home, generation: str) -> x509.Certificate:
    authority = generation.partition("-")[0]
    return judges.certificate(home.path / f"ca/{authority}/{generation}/cert.pem")


def newest(home: Home, artifact: str) -> Issued:
    project = home.project()
    found = project.ledger.certificates(artifact=artifact)[-1]
    project.ledger.close()
    return found


def revoke(home: Home, artifact: str = "cert:client-admin", reason: str = "keyCompromise", days: float = 0) -> int:
    """Record that the newest certificate of an artifact is revoked; returns its serial number."""
    project, issued = home.project(days), newest(home, artifact)
    project.ledger.record_revocation(issued, reason=reason, at=project.now)
    project.ledger.close()
    return issued.serial


def lose_ledger(home: Home) -> None:
    for path in (home.path / "ca").glob("ledger.db*"):
        path.unlink()


def serials(home: Home, generation: str = "client-1") -> set[int]:
    return {entry.serial_number for entry in crl_of(home, generation)}


def remake(home: Home, generation: str = "client-1", days: float = 0) -> x509.CertificateRevocationList:
    """Have one CRL made again, by taking it away."""
    (home.path / f"build/crl/{generation}.crl").unlink()
    assert f"crl:{generation}" in home.doit(days=days).made
    return crl_of(home, generation)


def der(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(serialization.Encoding.DER)


def pem(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def revoked_once(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example after the revocation of its client and a run."""
    target = tmp_path_factory.mktemp("revoked") / "home"
    copy_project(built_once, target)
    revoke(Home(target))
    assert Home(target).doit().status == 0
    return target


@pytest.fixture
def after_revocation(revoked_once: Path, tmp_path: Path) -> Home:
    """A copy of the example after a revocation, with that serial number on its client CRL."""
    copy_project(revoked_once, tmp_path / "home")
    return Home(tmp_path / "home")


# -- form -------------------------------------------------------------------------------------------------------------


def test_every_crl_has_the_form_that_servers_and_linters_take(after_revocation: Home) -> None:
    home = after_revocation
    assert serials(home)
    for generation in GENERATIONS:
        crl = crl_of(home, generation)
        judges.assert_is_crl(crl, issuer_of(home, generation), START)
        assert judges.lint(crl) == []


def test_crls_begin_an_hour_ago_and_live_as_long_as_their_rule_says(home: Home) -> None:
    for generation, days in (("server-1", 21), ("client-1", 21), ("root-1", 390)):
        crl = crl_of(home, generation)
        assert crl.last_update_utc == START - HOUR
        assert crl.next_update_utc == START - HOUR + days * DAY


def test_der_and_pem_say_the_same(home: Home) -> None:
    for generation in GENERATIONS:
        assert home.read(f"build/crl/{generation}.pem") == pem(crl_of(home, generation))


def test_reason_stands_in_the_entry_unless_there_is_none(home: Home) -> None:
    project, issued = home.project(), newest(home, "cert:client-admin")
    for number, reason in enumerate(REASONS, 1):
        project.ledger.record_revocation(replace(issued, serial=number), reason=reason, at=START)
    project.ledger.close()
    crl = remake(home)
    assert len(crl) == len(REASONS)
    for number, reason in enumerate(REASONS, 1):
        entry = crl.get_revoked_certificate_by_serial_number(number)
        assert entry is not None
        assert entry.revocation_date_utc == START
        found = [(each.value.reason.value, each.critical) for each in entry.extensions]
        assert found == ([] if reason == "unspecified" else [(reason, False)])


# -- numbers and dates only rise --------------------------------------------------------------------------------------


def test_number_of_a_first_crl_is_the_time(home: Home) -> None:
    assert judges.number(crl_of(home, "client-1")) == EPOCH


def test_number_of_a_later_crl_is_the_time_again(home: Home) -> None:
    home.doit(days=7)
    assert judges.number(crl_of(home, "client-1")) == EPOCH + 7 * 86400


def test_two_crls_within_one_second_differ_in_number_and_date(home: Home) -> None:
    first = crl_of(home, "client-1")
    second, third = remake(home), remake(home)
    assert [judges.number(crl) for crl in (first, second, third)] == [EPOCH, EPOCH + 1, EPOCH + 2]
    assert [crl.last_update_utc for crl in (second, third)] == [
        first.last_update_utc + SECOND,
        first.last_update_utc + 2 * SECOND,
    ]
    assert third.next_update_utc == third.last_update_utc + 21 * DAY


def test_clock_that_was_set_back_lets_no_number_and_no_date_fall(home: Home) -> None:
    first = crl_of(home, "client-1")
    second = remake(home, days=-50 * MINUTE)
    assert judges.number(second) == judges.number(first) + 1
    assert second.last_update_utc == first.last_update_utc + SECOND


def test_lost_build_folder_lets_no_number_fall(home: Home) -> None:
    home.doit(days=7)
    before = crl_of(home, "client-1")
    shutil.rmtree(home.path / "build")
    home.doit(days=7)
    assert judges.number(crl_of(home, "client-1")) == judges.number(before) + 1
    assert crl_of(home, "client-1").last_update_utc > before.last_update_utc


def test_ledger_takes_no_crl_with_a_number_that_was_used(home: Home) -> None:
    project, crl = home.project(), crl_of(home, "client-1")
    with pytest.raises(LedgerError, match=f"number {EPOCH} is not above the last number {EPOCH}"):
        project.ledger.record_crl(crl, issuer="client-1", reason="again", at=START)
    assert project.ledger.last_crl("client-1") == (EPOCH, START - HOUR)
    assert project.ledger.verify() == []


def test_crls_are_made_anew_every_week_and_not_before(home: Home) -> None:
    assert not {name for name in home.doit(days=6).made if name.startswith("crl:")}
    made = home.doit(days=7).made
    assert {name for name in made if name.startswith("crl:")} == {"crl:server-1", "crl:client-1"}
    assert made["crl:client-1"] == "was 7 days old; refreshed every 7"
    assert not {name for name in home.doit(days=13).made if name.startswith("crl:")}


def test_crl_is_current_at_every_moment_between_weekly_runs(home: Home) -> None:
    for day in (0, 7, 14):
        home.doit(days=day)
        for generation in GENERATIONS:
            for at in (START + day * DAY, START + (day + 14) * DAY):
                judges.assert_is_crl(crl_of(home, generation), issuer_of(home, generation), at)


# -- revocation -------------------------------------------------------------------------------------------------------


def test_revocation_shows_on_the_next_run_and_in_the_bundle(home: Home) -> None:
    serial = revoke(home)
    report = home.doit()
    assert report.made["crl:client-1"] == "1 new revocation"
    assert {"crl:server-1", "crl:root-1"}.isdisjoint(report.made)
    assert serials(home) == {serial}
    bundled = judges.crls(home.read("build/crl/bundle-client.pem"))[0]
    assert bundled.get_revoked_certificate_by_serial_number(serial) is not None
    assert home.read("build/hosts/monitoring/etc/doit-pki/client-crl.pem") == home.read("build/crl/bundle-client.pem")
    assert home.doit().made == {}


def test_revoked_server_certificate_stands_on_the_server_crl_alone(home: Home) -> None:
    serial = revoke(home, "cert:media")
    home.doit()
    assert serials(home, "server-1") == {serial}
    assert serials(home, "client-1") == set()


def test_revoked_client_is_refused_and_its_successor_is_not(home: Home) -> None:
    root, server = issuer_of(home, "root-1"), Identity.read(home.path / "build/certs/media/tls.pem")
    revoked = Identity.read(home.path / "ca/clients/admin/tls.pem")
    crls = judges.crls(home.read("build/crl/bundle-client.pem"))
    assert judges.openssl_fault(revoked, [root], START, crls) == ""
    assert judges.handshake_fault(server, revoked, [root], START, crls) == ""
    revoke(home)
    home.doit()
    crls = judges.crls(home.read("build/crl/bundle-client.pem"))
    assert judges.openssl_fault(revoked, [root], START, crls) == "certificate revoked"
    assert "certificate verify failed" in judges.handshake_fault(server, revoked, [root], START, crls)
    successor = Identity.read(home.path / "ca/clients/admin/tls.pem")
    assert judges.openssl_fault(successor, [root], START, crls) == ""
    assert judges.handshake_fault(server, successor, [root], START, crls) == ""


def test_entry_stays_until_one_crl_after_its_certificate_ended(home: Home) -> None:
    """RFC 5280 section 3.3: it must appear on one CRL that is issued beyond the certificate's validity."""
    serial, end = revoke(home, "cert:media"), newest(home, "cert:media").not_after
    for days in (0, 84, 91):
        home.doit(days=days)
        assert serial in serials(home, "server-1"), days
    assert crl_of(home, "server-1").last_update_utc > end
    home.doit(days=98)
    assert serial not in serials(home, "server-1")


def test_revocations_survive_every_later_crl_of_their_lifetime(home: Home) -> None:
    serial = revoke(home)
    for days in (0, 7, 14):
        home.doit(days=days)
        assert serial in serials(home), days
    another = revoke(home, days=14)
    home.doit(days=14)
    assert serials(home) == {serial, another}


def test_crl_with_thousands_of_entries_is_made_and_works(home: Home) -> None:
    revoked = Identity.read(home.path / "ca/clients/admin/tls.pem")
    serial, many = revoke(home), range(1 << 100, (1 << 100) + 5000)
    not_after = EPOCH + 100 * 86400
    rows = [(10_000 + i, f"{s:040x}", "client-1", "superseded", EPOCH, not_after) for i, s in enumerate(many)]
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db, db:
        db.executemany("insert into revocations values (?, ?, ?, ?, ?, ?)", rows)
    assert home.doit().status == 0
    assert serials(home) == {serial, *many}
    judges.assert_is_crl(crl_of(home, "client-1"), issuer_of(home, "client-1"), START)
    crls = judges.crls(home.read("build/crl/bundle-client.pem"))
    assert judges.openssl_fault(revoked, [issuer_of(home, "root-1")], START, crls) == "certificate revoked"
    assert home.doit().made == {}


def test_run_with_nothing_to_do_reads_no_crl(after_revocation: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many entries it has: Caddy's list of them is remembered too."""
    after_revocation.edit("access: tls", "access: mtls")
    for _ in range(2):
        assert after_revocation.doit().status == 0
    assert str(*serials(after_revocation)) in after_revocation.read("build/hosts/media/etc/caddy/Caddyfile").decode()
    monkeypatch.setattr(x509, "load_der_x509_crl", lambda _: pytest.fail("a CRL was read"))
    assert after_revocation.doit().made == {}


# -- what a restored ledger takes back --------------------------------------------------------------------------------


def elsewhere(
    home: Home, *entries: CrlEntry, number: int = EPOCH + 1000, days: float = 0
) -> x509.CertificateRevocationList:
    """A CRL of our own client authority that this project does not know of."""
    project = home.project()
    start = START + days * DAY
    return crl_signing.sign_crl(project.signing_keys.issuer("client"), number, start, start + 21 * DAY, entries)


def test_revocation_of_an_unknown_certificate_stays_listed_until_its_authority_ends(home: Home) -> None:
    """Its end is not known, so nothing but that of its authority explains that it leaves the CRL."""
    project, at = home.project(1), START - 3 * DAY
    told = recover_revocations.recover_from_crl(
        project, elsewhere(home, CrlEntry(77, at, "keyCompromise"), CrlEntry(78, at, "unspecified")), "media"
    )
    assert told == RecoveredRevocations("client-1", EPOCH + 1000, (77, 78), is_newer=True)
    assert project.ledger.verify() == []
    project.ledger.close()
    for days in (1, 400):
        assert home.doit("crl", days=days).status == 0
        crl = crl_of(home, "client-1")
        assert serials(home) == {77, 78}
        assert judges.number(crl) > EPOCH + 1000
    entry = crl.get_revoked_certificate_by_serial_number(77)
    assert entry is not None
    assert (entry.revocation_date_utc, len(entry.extensions)) == (at, 1)


def test_number_and_date_of_a_recovered_crl_are_passed(home: Home) -> None:
    """The clock of the machine that signed it may have been ahead of ours."""
    project = home.project()
    found = elsewhere(home, number=EPOCH + 10**6, days=0.5)
    assert recover_revocations.recover_from_crl(project, found, "media") == RecoveredRevocations(
        "client-1", EPOCH + 10**6, (), is_newer=True
    )
    project.ledger.close()
    assert (
        home.doit("crl", days=1)
        .made["crl:client-1"]
        .startswith(f"had number {EPOCH}, but the last CRL in the ledger had")
    )
    made = crl_of(home, "client-1")
    assert judges.number(made) == EPOCH + 10**6 + 1
    assert made.last_update_utc > found.last_update_utc


def test_crl_that_tells_nothing_new_leaves_the_ledger_as_it_is(after_revocation: Home) -> None:
    project = after_revocation.project()
    before = project.ledger.events()
    told = recover_revocations.recover_from_crl(project, crl_of(after_revocation, "client-1"), "media")
    assert told is not None
    assert (told.serials, told.is_newer) == ((), False)
    assert recover_revocations.recover_from_crl(project, foreign_crl(after_revocation, "client-1"), "media") is None
    assert project.ledger.events() == before
    assert project.ledger.verify() == []


def test_recovered_revocation_of_a_known_certificate_ends_with_it(home: Home) -> None:
    issued = newest(home, "cert:client-admin")
    project = home.project()
    assert (
        recover_revocations.recover_from_crl(
            project, elsewhere(home, CrlEntry(issued.serial, START, "superseded")), "media"
        )
        is not None
    )
    assert project.ledger.revoked_serials(expiring_after=issued.not_after, issuer="client-1") == {issued.serial}
    assert project.ledger.revoked_serials(expiring_after=issued.not_after + DAY) == frozenset()
    assert issued.serial in project.ledger.expired_serials(expired_before=issued.not_after + DAY)
    assert issued.serial not in project.ledger.expired_serials(expired_before=issued.not_after)


def test_newer_crl_of_a_root_is_filed_as_a_rung_and_what_it_revokes_stays_revoked(real: RealHome) -> None:
    """No doit can make one: a ceremony revoked an intermediate, and only a host still knows."""
    shutil.copytree(real.path / "ca", real.path / "before")
    serial = real.certificate("client-1").serial_number
    real.ceremony(RequestOptions(revoke=(("client-1", "keyCompromise"),)), days=30)
    newer = next(presigned_crl for presigned_crl in real.series() if presigned_crl.last_update_utc <= START + 30 * DAY)
    shutil.rmtree(real.path / "ca")
    (real.path / "before").rename(real.path / "ca")
    project = real.project(31)
    assert not project.authorities.is_revoked_by_root(project.authorities.existing("client-1"))
    told = recover_revocations.recover_from_crl(project, newer, "media")
    assert told is not None
    assert (told.generation, told.serials) == ("root-1", (serial,))
    assert project.authorities.is_revoked_by_root(project.authorities.existing("client-1"))
    assert crls.Crls(project).due_presigned("root-1") == newer
    assert recover_revocations.recover_from_crl(project, newer, "media") == replace(told, serials=(), is_newer=False)
    assert project.ledger.verify() == []


def test_entries_that_the_last_crl_has_are_taken_over_as_they_are(home: Home) -> None:
    """The two ways to make one lead to the same bytes."""
    entries = [CrlEntry(number, START + number * SECOND, REASONS[number % len(REASONS)]) for number in range(1, 40)]
    issuer, end = home.project().signing_keys.issuer("client"), START + 9 * DAY
    earlier = crl_signing.sign_crl(issuer, 1, START, end, entries[:30])
    again = crl_signing.sign_crl(issuer, 2, START, end, entries[5:])
    grown = crl_signing.sign_crl(issuer, 2, START, end, entries[30:], list(earlier)[5:])
    assert grown.tbs_certlist_bytes == again.tbs_certlist_bytes
    assert [entry.serial_number for entry in grown] == list(range(6, 40))


@pytest.mark.parametrize("limit", [0, crl_queries.MOST_SELECTED_SERIALS])
def test_entries_leave_with_their_certificates_and_only_new_ones_are_read(
    home: Home, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(crl_queries, "MOST_SELECTED_SERIALS", limit)
    project = home.project(days=1)
    (admin,) = project.ledger.certificates(artifact="cert:client-admin")
    ended, lasting = (replace(admin, serial=number) for number in (5, 6))
    project.ledger.record_revocation(replace(ended, not_after=home.moment(days=2)), reason="superseded", at=project.now)
    project.ledger.record_revocation(lasting, reason="superseded", at=project.now)
    project.ledger.close()
    assert home.doit(days=1).made["crl:client-1"] == "2 new revocations"
    assert serials(home) == {5, 6}
    home.project(days=1).ledger.record_revocation(replace(lasting, serial=7), reason="keyCompromise", at=project.now)
    assert home.doit(days=3).made["crl:client-1"] == "1 new revocation"
    assert serials(home) == {5, 6, 7}, "an entry stays on one CRL after its certificate has ended"
    home.doit(days=11)
    assert serials(home) == {6, 7}


# -- what lies there is looked at -------------------------------------------------------------------------------------


def foreign_crl(home: Home, generation: str) -> x509.CertificateRevocationList:
    """A CRL by somebody who only bears our authority's name."""
    ours, key = issuer_of(home, generation), keys.new_key("ec-p384")
    dates = ours.not_valid_before_utc, ours.not_valid_after_utc
    false = certificate_signing.sign_certificate(ours.subject, key.public_key(), dates, profiles.root_extensions(), key)
    return crl_signing.sign_crl(certificate_signing.Issuer(false, key), EPOCH + 1000, START, START + 90 * DAY, [])


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGE: dict[str, tuple[str, Callable[[Home, bytes], bytes]]] = {
    "client-cut-short": ("client-1.crl", lambda _, data: data[:-20]),
    "client-empty": ("client-1.crl", lambda _, __: b""),
    "client-one-bit": ("client-1.crl", lambda _, data: flipped(data)),
    "client-of-another-key": ("client-1.crl", lambda home, _: der(foreign_crl(home, "client-1"))),
    "client-is-the-servers": ("client-1.crl", lambda home, _: der(crl_of(home, "server-1"))),
    "client-pem-is-another": ("client-1.pem", lambda home, _: pem(foreign_crl(home, "client-1"))),
    "client-pem-has-more": ("client-1.pem", lambda _, data: data + data),
    "server-garbage": ("server-1.crl", lambda _, __: b"nothing"),
    "root-one-bit": ("root-1.crl", lambda _, data: flipped(data)),
    "root-of-another-key": ("root-1.crl", lambda home, _: der(foreign_crl(home, "root-1"))),
    "root-pem-is-another": ("root-1.pem", lambda home, _: pem(foreign_crl(home, "root-1"))),
    "bundle-without-root": ("bundle-client.pem", lambda home, _: pem(crl_of(home, "client-1"))),
    "bundle-empty": ("bundle-client.pem", lambda _, __: b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_edited_or_foreign_crl_is_noticed_and_made_anew(after_revocation: Home, damage: str) -> None:
    home = after_revocation
    (serial,) = serials(home)
    name, spoil = DAMAGE[damage]
    path = home.path / "build/crl" / name
    path.write_bytes(spoil(home, path.read_bytes()))
    artifact = "bundle:client-crls" if name == "bundle-client.pem" else f"crl:{path.stem}"
    assert artifact in home.doit().made
    for generation in GENERATIONS:
        judges.assert_is_crl(crl_of(home, generation), issuer_of(home, generation), START)
        assert home.read(f"build/crl/{generation}.pem") == pem(crl_of(home, generation))
    assert home.read("build/crl/bundle-client.pem") == pem(crl_of(home, "client-1")) + pem(crl_of(home, "root-1"))
    assert serials(home) == {serial}
    assert home.doit().made == {}


@pytest.mark.parametrize("name", ["client-1.crl", "client-1.pem", "root-1.crl", "root-1.pem", "bundle-client.pem"])
def test_crl_that_was_taken_away_is_back_after_a_run(home: Home, name: str) -> None:
    (home.path / "build/crl" / name).unlink()
    assert home.doit().status == 0
    assert (home.path / "build/crl" / name).exists()


def test_older_crl_that_is_put_back_revokes_again(home: Home) -> None:
    """Revocation never goes back: an older CRL is well signed and current, and still not the last one."""
    before = {form: home.read(f"build/crl/client-1.{form}") for form in ("crl", "pem")}
    serial = revoke(home)
    home.doit()
    for form, data in before.items():
        (home.path / f"build/crl/client-1.{form}").write_bytes(data)
    assert serials(home) == set()
    home.doit()
    assert serials(home) == {serial}


def test_older_build_folder_that_is_put_back_revokes_again(home: Home) -> None:
    shutil.copytree(home.path / "build", home.path / "backup", symlinks=True)
    serial = revoke(home)
    home.doit()
    shutil.rmtree(home.path / "build")
    (home.path / "backup").rename(home.path / "build")
    home.doit()
    assert serials(home) == {serial}


def test_revoked_certificate_that_is_put_back_is_issued_anew(home: Home) -> None:
    folder = home.path / "build/certs/media"
    shutil.copytree(folder, home.path / "backup")
    serial = revoke(home, "cert:media")
    home.doit()
    shutil.rmtree(folder)
    (home.path / "backup").rename(folder)
    assert judges.certificate(folder / "cert.pem").serial_number == serial
    assert home.doit().made["cert:media"] == "was revoked"
    assert judges.certificate(folder / "cert.pem").serial_number != serial


# -- the bundle and the series of pre-signed CRLs ----------------------------------------------------------------------------------------


def test_client_bundle_holds_the_crl_of_every_authority_in_a_client_chain_and_no_other(home: Home) -> None:
    found = judges.crls(home.read("build/crl/bundle-client.pem"))
    expected = [issuer_of(home, "client-1").subject, issuer_of(home, "root-1").subject]
    assert [crl.issuer for crl in found] == expected
    assert home.read("build/crl/bundle-client.pem") == b"".join(pem(crl) for crl in found)


def test_root_signs_its_crls_ahead_and_each_begins_before_the_last_one_ends(home: Home) -> None:
    presigned_crls = [judges.crls(path.read_bytes())[0] for path in sorted((home.path / PRESIGNED).iterdir())]
    assert len(presigned_crls) == 2
    root = issuer_of(home, "root-1")
    for presigned_crl in presigned_crls:
        judges.assert_is_crl(presigned_crl, root, presigned_crl.last_update_utc)
        assert presigned_crl.next_update_utc == presigned_crl.last_update_utc + 390 * DAY
    first, second = presigned_crls
    assert first.last_update_utc == root.not_valid_before_utc
    assert second.last_update_utc == first.next_update_utc - 30 * DAY
    assert judges.number(first) < judges.number(second)


def test_rung_that_is_due_is_the_one_that_is_published(home: Home) -> None:
    first, second = [judges.crls(path.read_bytes())[0] for path in sorted((home.path / PRESIGNED).iterdir())]
    assert crl_of(home, "root-1") == first
    start = (second.last_update_utc - START) / DAY
    assert "crl:root-1" not in home.doit("crl", days=start - MINUTE).made
    assert crl_of(home, "root-1") == first
    report = home.doit("crl", "bundle", days=start)
    assert report.made["crl:root-1"] == "another of its pre-signed CRLs was due"
    assert crl_of(home, "root-1") == second
    assert judges.crls(home.read("build/crl/bundle-client.pem"))[-1] == second


def test_rung_by_a_foreign_key_is_never_published(home: Home) -> None:
    (home.path / PRESIGNED / "9999999999.pem").write_bytes(pem(foreign_crl(home, "root-1")))
    (home.path / PRESIGNED / "9999999998.pem").write_bytes(b"garbage")
    before = home.read("build/crl/root-1.crl")
    assert home.doit().made == {}
    assert home.read("build/crl/root-1.crl") == before


def test_end_of_the_ladder_is_said_with_a_remedy_and_stops_only_what_needs_it(tmp_path: Path) -> None:
    fresh = real_home(tmp_path)
    fresh.edit("crl: {lifetime: 13mo, presigned: 2}", "crl: {lifetime: 60d, presigned: 1}")
    fresh.ceremony()
    fresh.doit()
    before = fresh.read("build/crl/root-1.crl")
    report = fresh.doit(days=61)
    assert set(report.failed) == {"crl:root-1"}
    assert "none of its pre-signed CRLs is valid now" in report.failed["crl:root-1"]
    assert "ceremony" in report.failed["crl:root-1"]
    assert {"crl:client-1", "crl:server-1", "cert:media"} <= set(report.made)
    assert fresh.read("build/crl/root-1.crl") == before
    assert report.status != 0


# -- the ledger -------------------------------------------------------------------------------------------------------


def query(home: Home, statement: str) -> list[tuple[object, ...]]:
    """One SQL statement on the ledger's database, behind the ledger's back."""
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db, db:
        return db.execute(statement).fetchall()


def faults(home: Home) -> list[str]:
    project = home.project()
    try:
        return project.ledger.verify()
    finally:
        project.ledger.close()


def test_ledger_is_whole_after_runs_revocations_and_renewals(after_revocation: Home) -> None:
    home = after_revocation
    assert faults(home) == []
    home.doit(days=61)
    assert faults(home) == []
    kinds = [str(kind) for (kind,) in query(home, "select distinct kind from events order by kind")]
    assert kinds == ["certificate", "crl", "revocation"]


def test_everything_that_can_be_seen_is_in_the_ledger(after_revocation: Home) -> None:
    home = after_revocation
    recorded = {str(text).encode() for (text,) in query(home, "select pem from certificates")}
    digests = {str(digest) for (digest,) in query(home, "select sha256 from crls")}
    seen: dict[bytes, Path] = {}
    shutil.rmtree(home.path / "templates")
    for path in (path for path in home.path.rglob("*") if path.is_file() and path.suffix not in {".db", ".yaml"}):
        data = path.read_bytes()
        if path.suffix == ".crl":
            data = pem(x509.load_der_x509_crl(data))
        elif path.suffix == ".crt" and not data.startswith(b"-----"):
            cert = x509.load_der_x509_certificate(data)
            data = cert.public_bytes(serialization.Encoding.PEM)
        for found in (*judges.PEM_CERTIFICATE.findall(data), *judges.PEM_CRL.findall(data)):
            seen[found] = path
    assert len(seen) >= 7 + 4
    lists = [found for found in seen if found.startswith(b"-----BEGIN X509 CRL")]
    recorded |= {one for one in lists if hashlib.sha256(der(x509.load_pem_x509_crl(one))).hexdigest() in digests}
    assert len(lists) >= 4
    assert {str(path) for found, path in seen.items() if found not in recorded} == set()


def test_what_the_ledger_cannot_record_is_not_made(home: Home) -> None:
    before = home.read("build/certs/media/tls.pem"), home.read("build/crl/client-1.crl")
    query(home, "create trigger no_more before insert on events begin select raise(abort, 'disk is full'); end")
    report = home.doit(days=61)
    assert {"cert:media", "crl:client-1", "crl:server-1"} <= set(report.failed)
    assert report.failed["cert:media"].startswith("ca/ledger.db: disk is full")
    assert (home.read("build/certs/media/tls.pem"), home.read("build/crl/client-1.crl")) == before
    query(home, "drop trigger no_more")
    assert home.doit(days=61).status == 0
    assert faults(home) == []


def test_ledger_that_is_gone_is_never_begun_anew_by_itself(after_revocation: Home) -> None:
    home, listed = after_revocation, serials(after_revocation)
    before = home.read("build/crl/client-1.crl")
    lose_ledger(home)
    report = home.doit(days=61)
    assert {report.failed.get(name) for name in ("cert:media", "crl:client-1", "ledger")} == {
        f"{FILE_MISSING_TEXT} → {RESTORE_FILE_OR_ACCEPT_LOSS}"
    }
    assert report.status == 1
    assert listed
    assert home.read("build/crl/client-1.crl") == before
    assert not (home.path / "ca/ledger.db").exists()


def test_ledger_that_is_gone_for_good_is_begun_again_by_a_command_and_takes_back_what_was_revoked(
    after_revocation: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home, listed = after_revocation, serials(after_revocation)
    lose_ledger(home)
    said = said_by(capsys, "ledger.verify", pki_home=str(home.path), pki_now=home.moment(7))
    assert (said.status, said.error) == (1, f"{FILE_MISSING_TEXT}\n→ {RESTORE_FILE_OR_ACCEPT_LOSS}\n")
    said = said_by(capsys, "ledger.accept-loss", "--yes", pki_home=str(home.path), pki_now=home.moment(7))
    assert said.status == 0, said.error
    assert home.doit(days=7).status == 0
    assert serials(home) == listed
    assert faults(home) == []


def test_certificate_is_revoked_once(home: Home) -> None:
    revoke(home)
    with pytest.raises(LedgerError, match="is already revoked"):
        revoke(home)
    assert faults(home) == []


def test_ledger_knows_no_reason_but_those_of_the_rfc_that_end_a_certificate(home: Home) -> None:
    for reason in ("certificateHold", "removeFromCRL", "because"):
        with pytest.raises(LedgerError, match="expected one of"):
            revoke(home, reason=reason)
    assert faults(home) == []


TAMPERING = {
    "changed-row": (
        "update certificates set not_after = not_after + 1 where artifact = 'cert:media'",
        "its certificate of cert:media was changed",
    ),
    "changed-pem": (
        "update certificates set pem = '' where artifact = 'cert:media'",
        "its certificate of cert:media was changed",
    ),
    "changed-reason": ("update revocations set reason = 'superseded'", "was changed"),
    "changed-crl-number": ("update crls set number = number + 1 where issuer = 'server-1'", "was changed"),
    "deleted-row": (
        "delete from certificates where artifact = 'cert:media'",
        "its certificate of cert:media is missing",
    ),
    "deleted-revocation": ("delete from revocations", "its revocation of cert:client-admin is missing"),
    "deleted-crl": ("delete from crls where issuer = 'server-1'", "its crl of crl:server-1 is missing"),
    "inserted-row": ("insert into revocations values (99, '77', 'client-1', 'superseded', 1, 2)", "has no event"),
    "changed-event": ("update events set at = at + 1 where subject = 'cert:media'", "was changed"),
    "changed-subject": ("update events set subject = 'cert:other' where seq = 5", "was changed"),
    "changed-hash": ("update events set hash = '00' where seq = 5", "event 5 "),
    "deleted-event": ("delete from events where seq = 5", "event 5 is missing"),
    "deleted-first-event": ("delete from events where seq = 1", "event 1 is missing"),
    "deleted-last-events": (
        "delete from events where seq >= (select max(seq) - 1 from events)",
        "the newest events are missing",
    ),
    "changed-head": ("update head set seq = seq - 1", "the newest events are missing"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_ledger_that_was_tampered_with_says_where(after_revocation: Home, how: str) -> None:
    home = after_revocation
    statement, said = TAMPERING[how]
    query(home, statement)
    assert any(said in fault for fault in faults(home)), faults(home)


def test_last_rows_that_were_deleted_with_their_events_are_missed(home: Home) -> None:
    revoke(home)
    last = query(home, "select seq, kind from events order by seq desc limit 1")[0]
    assert last[1] == "revocation"
    query(home, "delete from events where seq = (select max(seq) from events)")
    query(home, "delete from revocations")
    assert faults(home) == [
        f"the newest events are missing: the head is event {last[0]}, the log ends at {int(str(last[0])) - 1}"
    ]


def sealed(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_forged_row_with_an_event_to_match_no_longer_fits_the_next_event(home: Home) -> None:
    """Whoever knows how events are sealed must seal every later one again, and the head."""
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db, db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("select * from certificates where artifact = 'cert:media'").fetchone())
        event = dict(db.execute("select * from events where subject = 'cert:media'").fetchone())
        assert (sealed(row), event.pop("hash")) == (event["row"], sealed(event))
        row["names"] = '["evil.lab.internal"]'
        event["row"] = sealed(row)
        db.execute("update certificates set names = ? where seq = ?", (row["names"], row["seq"]))
        db.execute("update events set row = ?, hash = ? where seq = ?", (event["row"], sealed(event), row["seq"]))
    assert faults(home) == [f"event {row['seq'] + 1} does not follow the previous one"]


def test_two_events_that_changed_places_are_noticed(home: Home) -> None:
    query(home, "update events set seq = -5 where seq = 5")
    query(home, "update events set seq = 5 where seq = 6")
    query(home, "update events set seq = 6 where seq = -5")
    assert faults(home) != []


def test_ledger_of_another_program_is_not_touched(home: Home) -> None:
    query(home, "update head set schema = 99")
    before = query(home, "select * from events")
    report = home.doit(days=61)
    assert "schema 99" in report.failed["cert:media"]
    assert query(home, "select * from events") == before
