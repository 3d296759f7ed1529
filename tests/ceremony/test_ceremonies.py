"""Every kind of root ceremony, held outside the sandbox from the request to the proxies' files, and judged from outside."""

from __future__ import annotations

import plistlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.authority import crls
from pki.ceremony import audit, request_response, shares, transcript_chain
from pki.ceremony.offline import key_storage, machine_check, root_passphrase, session
from pki.ceremony.offline import steps as ceremony_steps
from pki.ceremony.online import ceremony_archive, make_request, needs, rehearsal
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.transcript import Transcript
from pki.ceremony.vault import Vault
from pki.cli import prompt as asking_people
from pki.common.errors import PkiError
from pki.config.proxies import PROGRAMS
from pki.monitor import forecast, revocation_publication
from pki.monitor.timeline import events
from tests.support import judges
from tests.support.ceremonies import SECRET, RealHome, Typist, drives_at, first_ceremony, fit_typist, real_home
from tests.support.commands import said_by
from tests.support.pages import Page
from tests.support.projects import START, Home

URL = "http://pki.lab.internal"
NETWORKS = ["10.0.0.0/8"]
DAY = timedelta(days=1)
COMPROMISED = RequestOptions(revoke=(("client-1", "keyCompromise"),))
NEW_ROOT = RequestOptions(generations=("root",))
PROXIES = ("monitoring/etc/nginx/conf.d/pki-services.conf", "forge/etc/haproxy/haproxy.cfg")


@pytest.fixture(scope="module")
def held_once(tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    return first_ceremony(tmp_path_factory.mktemp("held"))


@pytest.fixture
def real(held_once: RealHome, tmp_path: Path) -> RealHome:
    """A project after its first ceremony."""
    return held_once.copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def revoked_once(held_once: RealHome, tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    home = held_once.copy(tmp_path_factory.mktemp("revoked") / "copy")
    home.ceremony(COMPROMISED, days=10)
    assert home.doit(days=10).status == 0
    return home


@pytest.fixture
def revoked(revoked_once: RealHome, tmp_path: Path) -> RealHome:
    """A project that revoked its first client authority ten days later."""
    return revoked_once.copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def rolled_once(held_once: RealHome, tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    home = held_once.copy(tmp_path_factory.mktemp("rolled") / "copy")
    home.ceremony(NEW_ROOT, days=20)
    assert home.doit(days=20).status == 0
    return home


@pytest.fixture
def rolled(rolled_once: RealHome, tmp_path: Path) -> RealHome:
    """A project whose second root took over after twenty days."""
    return rolled_once.copy(tmp_path / "copy")


def at(days: float) -> datetime:
    return START + timedelta(days=days)


def assert_sound(home: RealHome) -> None:
    """What holds after every ceremony: vault, project and ledger tell the same story."""
    for folder in (home.vault.folder, home.path / "ca"):
        assert audit.verify(folder).faults == []
    kept, carried = (folder / "transcript.jsonl" for folder in (home.path / "ca", home.vault.folder))
    assert carried.read_bytes().startswith(kept.read_bytes())
    ledger = home.project().ledger
    assert ledger.verify() == []
    recorded = {(found.issuer, found.pem) for found in ledger.certificates()}
    ledger.close()
    for past in home.vault.history():
        assert {(one.issuer, one.pem) for one in past.response.certificates} <= recorded
        for one in past.response.certificates:
            file = "cert.pem" if one.name == one.issuer or "root" not in one.name else f"cross-{one.issuer}.pem"
            assert home.project().store.authority_file(one.name, file).read_text() == one.pem


def assert_no_gap(series: list[x509.CertificateRevocationList], start: datetime, end: datetime) -> None:
    """On every day there is a CRL that has begun and not ended, and numbers and thisUpdates only rise."""
    assert [judges.number(crl) for crl in series] == sorted({judges.number(crl) for crl in series})
    begins = [crl.last_update_utc for crl in series]
    assert begins == sorted(set(begins))
    day = start
    while day < end:
        assert any(crl.last_update_utc <= day < crl.next_update_utc for crl in series), day
        day += DAY


def serials(crl: x509.CertificateRevocationList) -> set[int]:
    return {entry.serial_number for entry in crl}


def identity(home: RealHome, leaf: str = "media") -> judges.Identity:
    folder = f"ca/clients/{leaf.removeprefix('client-')}" if leaf.startswith("client-") else f"build/certs/{leaf}"
    return judges.Identity.read(home.path / folder / "tls.pem")


def rendered(home: RealHome) -> Iterator[str]:
    for path in PROXIES:
        yield (home.path / "build/hosts" / path).read_text()


def bundled(home: RealHome, name: str) -> set[str]:
    return {judges.common_name(cert) for cert in judges.certificates(home.read(f"build/trust/{name}.pem"))}


def crl_issuers(home: RealHome) -> set[x509.Name]:
    return {crl.issuer for crl in judges.crls(home.read("build/crl/bundle-client.pem"))}


# -- the first --------------------------------------------------------------------------------------------------------


def test_the_first_ceremony_makes_a_root_and_both_intermediates_of_the_published_profiles(real: RealHome) -> None:
    root = real.certificate("root-1")
    judges.assert_is_root(root)
    for purpose in ("server", "client"):
        ca = real.certificate(f"{purpose}-1")
        judges.assert_is_ca(ca, root, purpose, url=URL, domains=["lab.internal"], networks=NETWORKS)
        assert judges.common_name(ca) == f"Example Lab {purpose.title()} CA 1"
        assert judges.lint(ca) == []
    for crl in real.series():
        judges.assert_is_crl(crl, root, crl.last_update_utc)
        assert judges.lint(crl) == []
    assert_no_gap(real.series(), START, at(2 * 365))
    assert_sound(real)


def test_after_the_first_ceremony_doit_serves_chains_that_others_accept(real: RealHome) -> None:
    roots, revocations = [real.certificate("root-1")], judges.crls(real.read("build/crl/bundle-client.pem"))
    server, client = identity(real, "forge-mtls"), identity(real, "client-admin")
    assert judges.openssl_fault(client, roots, START, revocations) == ""
    assert judges.x509_verification_fault(server, roots, START, x509.DNSName("forgejo.lab.internal")) == ""
    assert judges.handshake_fault(server, client, roots, START, revocations) == ""


def test_the_root_key_is_nowhere_in_the_project_nor_in_a_response(real: RealHome) -> None:
    key = real.vault.open_key("root-1", SECRET, "the test")
    secret = key.private_numbers().private_value.to_bytes(48)
    encrypted = judges.PEM_KEY.search((real.vault.folder / "root-1/key.pem").read_bytes())
    assert encrypted
    for folder in (real.path, real.out):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            assert secret not in content, path
            assert encrypted[1].splitlines()[2] not in content, path
            assert SECRET.encode() not in content, path
    assert all(b"PRIVATE KEY" not in path.read_bytes() for path in (real.path / "ca/root").rglob("*") if path.is_file())


def test_nothing_is_asked_for_while_nothing_is_needed(real: RealHome) -> None:
    with pytest.raises(PkiError, match="no ceremony is needed now"):
        real.ask()
    assert not real.doit(days=300).failed
    assert ceremony_archive.open_requests(real.project(300).store) == []


@pytest.mark.parametrize(
    ("old", "new", "tried"),
    [
        ("lab.internal", "example.com", ["www.example.org", "203.0.113.7"]),
        ("[10.0.0.0/8]", "[10.0.0.0/8, 203.0.113.0/24]", ["www.example.com", "198.51.100.7"]),
        ("[10.0.0.0/8]", "[0.0.0.0/0]", ["www.example.com"]),
    ],
)
def test_a_project_may_own_what_ceremonies_try_in_vain(fresh: Home, old: str, new: str, tried: list[str]) -> None:
    """Then something else is tried, which it does not own."""
    fresh.edit(old, new)
    report = fresh.doit()
    assert report.status == 0, report.failed
    said = "".join(path.read_text() for path in (fresh.path / "offline").rglob("transcript*"))
    for name in tried:
        assert f"under server-1, a server certificate for {name} is refused" in said


# -- a new generation, by date ----------------------------------------------------------------------------------------


def test_doit_asks_for_the_next_generation_in_time_and_says_who_holds_it_by_when(real: RealHome) -> None:
    assert "ceremony:request" not in real.doit(days=489).made
    made = real.doit(days=490).made["ceremony:request"]
    assert made.startswith("for client-2: client-1 can issue certificates of full lifetime until 2028-05-26")
    (note,) = [one for one in forecast.required_actions(real.project(490), real.plan(490)) if one.subject == "ceremony"]
    assert note.text.startswith("a root ceremony is due by 2028-05-26, for the root's owner and a witness: client-2")
    (waiting,) = ceremony_archive.open_requests(real.project(490).store)
    assert {one.name for one in waiting.request.intermediates} == {"client-2", "server-2"}
    assert "ceremony:request" not in real.doit(days=491).made
    assert real.doit(days=521).made["ceremony:request"] == "request 2 is 31 days old"


def test_an_old_generation_serves_until_its_end_beside_the_new_one(real: RealHome) -> None:
    real.doit(days=490)
    real.doit(days=500)
    before = identity(real, "client-admin").leaf
    real.accept(real.answer(ceremony_archive.open_requests(real.project(500).store)[-1].path, days=500), days=500)
    assert_sound(real)
    report = real.doit(days=500)
    assert report.status == 0, report.failed
    assert report.made["cert:media"] == "it was not issued by server-2, the current issuer"
    root, two = real.certificate("root-1"), real.certificate("server-2")
    judges.assert_is_ca(two, root, "server", url=URL, domains=["lab.internal"], networks=NETWORKS)
    judges.assert_is_leaf(
        identity(real).leaf,
        two,
        "server",
        url=URL,
        names=[str(name.value) for name in judges.extension_of(identity(real).leaf, x509.SubjectAlternativeName)],
        issuer_name="server-2",
    )
    for day in (500, 720):  # a little later, and shortly before the end
        assert real.doit(days=day).status == 0
        revocations = judges.crls(real.read("build/crl/bundle-client.pem"))
        old = judges.Identity(before, real.certificate("client-1"), None)
        assert judges.openssl_fault(old, [root], at(day), revocations) == (
            "" if day < 600 else "certificate has expired"
        )
        assert bundled(real, "client-ca") == {"Example Lab Client CA 1", "Example Lab Client CA 2"}
        assert {real.certificate(name).subject for name in ("client-1", "client-2", "root-1")} == crl_issuers(real)
        assert all("Client CA 1" in text and "Client CA 2" in text for text in rendered(real))
        for name in ("server-1", "client-1"):
            judges.assert_is_crl(real.published(name), real.certificate(name), at(day))
            assert (real.path / f"build/hosts/monitoring/var/www/pki/crl/{name}.crl").exists()
            assert (real.path / f"build/hosts/monitoring/var/www/pki/ca/{name}.crt").exists()
    assert real.doit(days=731).status == 0
    assert bundled(real, "client-ca") == {"Example Lab Client CA 2"}
    assert all("Client CA 1" not in text for text in rendered(real))
    assert not (real.path / "build/crl/client-1.crl").exists()


# -- growth -----------------------------------------------------------------------------------------------------------


def test_a_service_under_a_new_domain_waits_for_wider_name_constraints_and_is_then_issued(real: RealHome) -> None:
    real.edit("domains: [lab.internal]", "domains: [lab.internal, new.internal]")
    real.edit("loki:       {upstream", "loki:       {names: [loki.new.internal], upstream")
    report = real.doit(days=30)
    assert report.status == 0, report.failed
    assert "for server-2: server-1 does not permit new.internal" in report.made["ceremony:request"]
    texts = [note.text for note in forecast.required_actions(real.project(30), real.plan(30))]
    assert "loki.new.internal waits: server-1 does not permit it; needs a ceremony" in texts
    (waiting,) = ceremony_archive.open_requests(real.project(30).store)
    assert {one.name: one.domains for one in waiting.request.intermediates} == {
        "server-2": ("lab.internal", "new.internal"),
        "client-2": ("lab.internal", "new.internal"),
    }
    real.accept(real.answer(waiting.path, days=30), days=30)
    assert real.doit(days=30).status == 0
    server, leaf = real.certificate("server-2"), identity(real, "monitoring-mtls")
    domains = ["lab.internal", "new.internal"]
    judges.assert_is_ca(server, real.certificate("root-1"), "server", url=URL, domains=domains, networks=NETWORKS)
    host = x509.DNSName("loki.new.internal")
    assert judges.x509_verification_fault(leaf, [real.certificate("root-1")], at(30), host) == ""
    assert not [note for note in forecast.required_actions(real.project(30), real.plan(30)) if "waits" in note.text]
    assert_sound(real)


# -- series of pre-signed CRLs ----------------------------------------------------------------------------------------------------------


def test_a_ladder_is_extended_half_a_year_before_its_last_rung_ends(real: RealHome) -> None:
    real.edit("server: {lifetime: 2y,", "server: {lifetime: 4y,")
    real.edit("client: {lifetime: 2y,", "client: {lifetime: 4y,")
    real.ceremony(RequestOptions(generations=("server", "client")), days=1)
    before = real.series()
    end = before[-1].next_update_utc
    ask = (end - timedelta(days=183) - START) / DAY
    assert "ceremony:request" not in real.doit(days=int(ask)).made
    made = real.doit(days=int(ask) + 1).made
    assert made["ceremony:request"] == f"for root-1 CRLs: the last CRL of root-1 expires on {end:%Y-%m-%d}"
    (waiting,) = ceremony_archive.open_requests(real.project(ask + 1).store)
    assert (waiting.request.intermediates, waiting.request.roots) == ((), ())
    real.accept(real.answer(waiting.path, days=ask + 30), days=ask + 30)
    after = real.series()
    assert_no_gap(after, at(ask + 30), at(ask + 30) + timedelta(days=2 * 365 - 10))
    assert judges.number(after[0]) > judges.number(before[-1])
    assert_sound(real)


def test_no_pre_signed_crl_is_asked_for_that_begins_after_its_root_has_ended(tmp_path: Path) -> None:
    home = real_home(tmp_path / "real")
    home.edit("root:   {lifetime: 10y", "root:   {lifetime: 400d, overlap: 60d")
    for authority in ("server", "client"):
        home.edit(f"{authority}: {{lifetime: 2y", f"{authority}: {{lifetime: 220d")
    home.edit("client: {lifetime: 180d", "client: {lifetime: 90d")
    home.ceremony()
    end = home.certificate("root-1").not_valid_after_utc
    for days in (100, 130):  # new intermediates; then a new root too, whose CRLs begin before its end
        assert make_request.outdated_reasons(
            (project := home.project(days)).inventory,
            project.store,
            project.now,
            project.authorities,
            needs.find_requirements(home.project(days).authorities),
        )
        asked = home.ask(RequestOptions(crls=True), days)
        assert (
            make_request.outdated_reasons(
                (project := home.project(days)).inventory,
                project.store,
                project.now,
                project.authorities,
                needs.find_requirements(home.project(days).authorities),
            )
            == []
        )
        home.accept(home.answer(asked.path, days), days)
        starts = [crl.last_update_utc for crl in home.series()]
        assert starts[-1] < end <= max(crl.next_update_utc for crl in home.series() if crl.next_update_utc)
    assert home.project(130).store.generations("root")[-1] == "root-2"


def test_in_every_month_of_several_ladders_the_published_crl_is_newer_than_the_one_before(real: RealHome) -> None:
    real.edit("root:   {lifetime: 10y,", "root:   {lifetime: 20y,")
    last = 0, START - 2 * DAY
    for day in range(0, 1500, 30):
        if needs.find_requirements(real.project(day).authorities):
            real.ceremony(days=day)
        project = real.project(day)
        crl = crls.Crls(project).due_presigned("root-1")
        project.close(run_succeeded=False)
        assert crl is not None, day
        assert crl.last_update_utc <= at(day) < crl.next_update_utc
        assert (judges.number(crl), crl.last_update_utc) >= last
        last = judges.number(crl), crl.last_update_utc
    assert len(real.vault.history()) >= 3


@pytest.mark.parametrize("lifetime", ["3mo", "30mo"])
def test_a_ladder_has_no_gap_after_the_lifetime_of_root_crls_was_changed(real: RealHome, lifetime: str) -> None:
    before = real.series()[-1]
    real.edit("crl: {lifetime: 13mo, presigned: 2}", f"crl: {{lifetime: {lifetime}, presigned: 2}}")
    real.ceremony(RequestOptions(crls=True), days=5)
    assert_no_gap(real.series(), at(5), max(before.next_update_utc, real.series()[-1].next_update_utc))
    assert real.series()[-1].next_update_utc >= before.next_update_utc
    assert_sound(real)


# -- emergency --------------------------------------------------------------------------------------------------------


def test_revoking_an_intermediate_brings_its_successor_in_the_same_ceremony(revoked: RealHome) -> None:
    one, two = revoked.certificate("client-1"), revoked.certificate("client-2")
    root = revoked.certificate("root-1")
    judges.assert_is_ca(two, root, "client", url=URL, domains=["lab.internal"], networks=NETWORKS)
    assert bundled(revoked, "client-ca") == {"Example Lab Client CA 2"}
    assert bundled(revoked, "client-chain") == {"Example Lab Client CA 2", "Example Lab Root CA 1"}
    assert all("Client CA 1" not in text and "Client CA 2" in text for text in rendered(revoked))
    assert crl_issuers(revoked) == {two.subject, root.subject}
    assert identity(revoked, "client-admin").leaf.issuer == two.subject
    assert identity(revoked).intermediate == revoked.certificate("server-1")
    assert serials(revoked.published()) == {one.serial_number}
    judges.assert_is_crl(revoked.published(), root, at(10))
    (issued,) = revoked.project(10).ledger.certificates(serial=one.serial_number)
    assert issued.revoked == "keyCompromise"
    assert_sound(revoked)


def test_a_leaf_of_the_revoked_intermediate_is_refused_and_a_new_one_accepted(
    held_once: RealHome, revoked: RealHome
) -> None:
    roots, revocations = [revoked.certificate("root-1")], judges.crls(revoked.read("build/crl/bundle-client.pem"))
    server, old, new = (
        identity(revoked, "forge-mtls"),
        identity(held_once, "client-admin"),
        identity(revoked, "client-admin"),
    )
    published = [revoked.published(), held_once.published("client-1")]
    assert judges.openssl_fault(old, roots, at(10), published) == "certificate revoked"
    assert judges.handshake_fault(server, new, roots, at(10), revocations) == ""


def test_a_leaf_of_a_revoked_intermediate_is_revoked_without_a_crl_of_its_own(
    held_once: RealHome, revoked: RealHome, capsys: pytest.CaptureFixture[str]
) -> None:
    """The root's CRL makes it invalid: its intermediate issues no CRL any more, so none of it can be missing."""
    serial = f"{identity(held_once, 'client-admin').leaf.serial_number:x}"
    arguments = ("revoke", serial, "--reason", "superseded", "--yes")
    said = said_by(capsys, *arguments, pki_home=str(revoked.path), pki_now=at(11))
    assert (
        "will be refused by  every program that checks the CRL of root-1, which lists client-1, its issuer\n"
        in said.out
    )
    assert "; failed: " not in said.out, said.out
    assert said.status in {0, 2}, said
    (issued,) = revoked.project(11).ledger.certificates(serial=int(serial, 16))
    assert issued.revoked == "superseded"


def test_the_timeline_has_no_crls_of_a_revoked_intermediate(revoked: RealHome) -> None:
    rhythms = events.timeline(revoked.project(11), revoked.plan(11), 1).rhythms
    assert {rhythm.subject for rhythm in rhythms if rhythm.kind == "CRLs"} == {"crl:server-1", "crl:client-2"}


def test_a_leaf_of_a_revoked_intermediate_is_not_called_revoked_while_the_root_crl_lacks_the_intermediate(
    held_once: RealHome, revoked: RealHome
) -> None:
    revoked.path.joinpath("build/crl/root-1.crl").write_bytes(held_once.read("build/crl/root-1.crl"))
    serial, project = identity(held_once, "client-admin").leaf.serial_number, revoked.project(11)
    result = revocation_publication.check(project, project.ledger.certificates(serial=serial), {})
    assert result.failures.keys() == {"crl:root-1"}


def test_revoking_replaces_every_rung_that_has_not_ended_and_names_what_to_destroy(
    real: RealHome, held_once: RealHome
) -> None:
    before = held_once.series()
    told = real.ceremony(COMPROMISED, days=10)
    assert [re.search(r"CRL (\d+) of root-1", line)[1] for line in told] == [str(judges.number(crl)) for crl in before]
    after = real.series()
    assert all(serials(crl) == {real.certificate("client-1").serial_number} for crl in after)
    for old in before:
        newer = [crl for crl in after if old.last_update_utc < crl.last_update_utc]
        assert min(crl.last_update_utc for crl in newer) - max(old.last_update_utc, at(10)) <= timedelta(hours=1)
        assert all(judges.number(crl) > judges.number(old) for crl in after)
    names = {path.name for path in real.vault.folder.rglob("root-1-crl-*.pem")}
    assert names == {f"root-1-crl-{judges.number(crl)}.pem" for crl in after}
    assert_no_gap(after, at(10), before[-1].next_update_utc)


@pytest.mark.parametrize("days", [10, 11, 200, 361, 390, 700])
def test_an_old_rung_that_a_restored_backup_put_back_is_never_published(
    revoked: RealHome, held_once: RealHome, days: int
) -> None:
    """Also the second one, whose thisUpdate comes later than that of the first new one."""
    for path in held_once.project().store.presigned_crls("root-1"):
        (revoked.path / "ca/root/root-1/crl" / path.name).write_bytes(path.read_bytes())
    revoked.doit("crl:root-1", days=days)
    assert serials(revoked.published()) == {revoked.certificate("client-1").serial_number}
    assert serials(crls.Crls(revoked.project(days)).due_presigned("root-1")) != set()


@pytest.mark.parametrize("days", [11, 390])
def test_old_rungs_alone_are_never_published_and_the_run_says_why(
    revoked: RealHome, held_once: RealHome, days: int
) -> None:
    folder = revoked.path / "ca/root/root-1/crl"
    for path in folder.iterdir():
        path.unlink()
    for path in held_once.project().store.presigned_crls("root-1"):
        (folder / path.name).write_bytes(path.read_bytes())
    report = revoked.doit(days=days)
    assert "does not list the revoked" in report.failed["crl:root-1"]
    assert "never published" in report.failed["crl:root-1"]
    assert serials(revoked.published()) == {revoked.certificate("client-1").serial_number}


def test_an_old_rung_is_seen_also_where_the_published_crl_was_restored_with_it(
    revoked: RealHome, held_once: RealHome
) -> None:
    revoked.doit(days=10)
    folder = revoked.path / "ca/root/root-1/crl"
    for path in folder.iterdir():
        path.unlink()
    for path in held_once.project().store.presigned_crls("root-1"):
        (folder / path.name).write_bytes(path.read_bytes())
    for form in ("crl", "pem"):
        (revoked.path / f"build/crl/root-1.{form}").write_bytes(held_once.read(f"build/crl/root-1.{form}"))
    assert "never published" in revoked.doit(days=10).failed["crl:root-1"]


def test_an_expired_intermediate_leaves_the_ladder_and_ceremonies_go_on(revoked: RealHome) -> None:
    """An entry may leave once its certificate ended: RFC 5280, section 3.3."""
    revoked.ceremony(days=500)
    assert all(serials(crl) for crl in revoked.series())
    revoked.ceremony(RequestOptions(crls=True), days=735)
    assert not any(serials(crl) for crl in revoked.series())
    assert crls.Crls(revoked.project(735)).due_presigned("root-1") is not None
    assert_sound(revoked)


def test_an_entry_stays_while_a_rung_that_begins_before_the_end_would_lack_it(revoked: RealHome) -> None:
    end = (revoked.certificate("client-1").not_valid_after_utc - START) / DAY
    revoked.ceremony(days=500)
    for after in (1 / 1440, 59 / 1440, 61 / 1440):
        revoked.ceremony(RequestOptions(crls=True), days=end + after)
        assert crls.Crls(revoked.project(end + after)).due_presigned("root-1") is not None, after


# -- custody ----------------------------------------------------------------------------------------------------------


def records(home: RealHome) -> list[transcript_chain.Record]:
    return transcript_chain.load(home.vault.transcript.read_bytes(), "transcript.jsonl")


def steps(home: RealHome) -> list[str]:
    return [record.step for record in records(home)]


def change_passphrase(home: RealHome, target: Vault, secret: str, days: float = 1) -> None:
    root_passphrase.change_passphrase(
        home.vault,
        target,
        "root-1",
        lambda _: SECRET,
        lambda key: key_storage.store_in_file(key, secret),
        lambda: at(days),
    )


def test_a_new_passphrase_replaces_the_old_one(real: RealHome) -> None:
    change_passphrase(real, real.vault, "another-very-long-passphrase")
    with pytest.raises(PkiError, match="cannot be opened"):
        real.vault.open_key("root-1", SECRET, "the test")
    real.accept(real.answer(real.ask(RequestOptions(crls=True), 2).path, 2, secret="another-very-long-passphrase"), 2)
    assert steps(real).index("changed") > steps(real).index("exported")
    assert_sound(real)


def test_a_new_medium_goes_on_and_the_old_one_then_refuses(real: RealHome) -> None:
    medium = Vault(real.path.parent / "medium")
    (medium.folder / "lost+found").mkdir(parents=True)
    change_passphrase(real, medium, "another-very-long-passphrase")
    assert audit.verify(medium.folder).faults == []
    old = {path: path.read_bytes() for path in real.vault.folder.rglob("*") if path.is_file()}
    asked = real.ask(RequestOptions(crls=True), 2)
    held = session.open_session(medium, asked.path.read_bytes(), str(asked.path), lambda: at(2))
    folder = ceremony_steps.sign(held, lambda _: "another-very-long-passphrase", real.out)
    real.accept(folder, 2)
    assert {path: path.read_bytes() for path in old} == old
    asked = real.ask(RequestOptions(crls=True), 3)
    with pytest.raises(PkiError, match="it does not follow ceremony 1, the last one in this vault"):
        real.answer(asked.path, 3)
    held = session.open_session(medium, asked.path.read_bytes(), str(asked.path), lambda: at(3))
    real.accept(ceremony_steps.sign(held, lambda _: "another-very-long-passphrase", real.out), 3)
    assert audit.verify(medium.folder).faults == []
    assert audit.verify(real.path / "ca").faults == []


def test_a_new_medium_never_holds_the_key_under_its_old_passphrase(
    real: RealHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flash remembers what was written to it, whatever is written over it."""
    fresh, copied = Vault(real.path.parent / "fresh"), list[Path]()
    fresh.folder.mkdir()

    def looked(folder: Path) -> audit.AuditResult:
        copied.extend(folder.rglob("*.pem"))
        return audit.verify(folder)

    monkeypatch.setattr(root_passphrase, "verify", looked)
    change_passphrase(real, fresh, "another-very-long-passphrase")
    assert fresh.folder / "root-1/cert.pem" in copied
    assert fresh.folder / "root-1/key.pem" not in copied
    assert fresh.open_key("root-1", "another-very-long-passphrase", "a test")


def test_a_wrong_passphrase_or_a_used_medium_leaves_both_vaults_as_they_were(real: RealHome) -> None:
    used = Vault(real.path.parent / "used")
    used.folder.mkdir()
    (used.folder / "holiday.jpg").write_bytes(b"")
    before = {path: path.read_bytes() for path in real.path.parent.rglob("*") if path.is_file()}
    with pytest.raises(PkiError, match="is not empty"):
        change_passphrase(real, used, "another-very-long-passphrase")
    with pytest.raises(PkiError, match="cannot be opened"):
        root_passphrase.change_passphrase(
            real.vault, real.vault, "root-1", lambda _: "wrong", lambda _: pytest.fail("asked"), lambda: START
        )
    with pytest.raises(PkiError, match="its roots: root-1"):
        root_passphrase.change_passphrase(
            real.vault, real.vault, "root-2", lambda _: SECRET, lambda _: pytest.fail("asked"), lambda: START
        )
    assert {path: path.read_bytes() for path in real.path.parent.rglob("*") if path.is_file()} == before


def test_shares_hold_the_root_key_and_too_few_do_not_open_it(real: RealHome) -> None:
    passphrase, parts = shares.split(2, 3)
    root_passphrase.change_passphrase(
        real.vault,
        real.vault,
        "root-1",
        lambda _: SECRET,
        lambda key: key_storage.store_in_file(key, passphrase, "2of3"),
        lambda: START,
    )
    assert key_storage.share_rule(real.vault, "root-1") == (2, 3)
    real.accept(real.answer(real.ask(RequestOptions(crls=True), 2).path, 2, secret=shares.combine(parts[1:])), 2)
    with pytest.raises(PkiError, match="1 of 2 shares given"):
        shares.combine(parts[:1])
    told = real.vault.transcript.read_text()
    assert not any(secret in told for secret in (passphrase, *parts))
    assert_sound(real)


# -- a new root -------------------------------------------------------------------------------------------------------


def test_a_new_root_is_certified_by_the_old_one_and_takes_over(rolled: RealHome) -> None:
    old, new = rolled.certificate("root-1"), rolled.certificate("root-2")
    judges.assert_is_root(new)
    cross = rolled.certificate("root-2", "cross-root-1.pem")
    judges.assert_is_cross(cross, new, old, "root-1", url=URL)
    assert judges.lint(cross) == []
    for purpose in ("server", "client"):
        judges.assert_is_ca(
            rolled.certificate(f"{purpose}-2"),
            new,
            purpose,
            url=URL,
            domains=["lab.internal"],
            networks=NETWORKS,
            root_name="root-2",
        )
    assert bundled(rolled, "roots") == {"Example Lab Root CA 1", "Example Lab Root CA 2"}
    names = ("client-1", "client-2", "root-1", "root-2")
    assert crl_issuers(rolled) == {rolled.certificate(name).subject for name in names}
    assert_no_gap(rolled.series("root-1"), at(20), old.not_valid_after_utc)
    assert_no_gap(rolled.series("root-2"), at(20), at(20 + 700))
    assert_sound(rolled)


def test_while_a_root_follows_another_the_page_and_the_profile_show_both(rolled: RealHome) -> None:
    found = Page(rolled.read("build/trust/index.html").decode())
    assert found.faults == []
    roots = [text for level, text in found.headings if "Root CA" in text]
    assert [text.strip() for text in roots] == ["Example Lab Root CA 2", "Example Lab Root CA 1"]
    assert (
        found.text.index("the new one")
        < found.text.index("the older one")
        < found.text.index("This root is being replaced")
    )
    assert "SANDBOX" not in found.html
    assert found.html.count("<svg") == 2
    assert "doit-pki-root-1.crt" in found.text
    assert "doit-pki-root-2.crt" in found.text
    profile = plistlib.loads(rolled.read("build/trust/roots.mobileconfig"))
    ders = [rolled.read(f"build/trust/{root}.crt") for root in ("root-2", "root-1")]
    assert [payload["PayloadContent"] for payload in profile["PayloadContent"]] == ders


def test_haproxy_gets_a_page_of_two_roots_that_it_can_serve(rolled: RealHome) -> None:
    rolled.edit("host: monitoring}", "host: forge}")
    assert rolled.doit(days=20).status == 0
    served = rolled.read("build/hosts/forge/var/www/pki/index.html")
    assert len(served) <= PROGRAMS["haproxy"].largest_file
    assert Page(served.decode()).faults == []
    assert b"Example Lab Root CA 1" in served
    assert b"<svg" not in served
    domains = ", ".join(f"branch-{number}.example.lab.internal" for number in range(60))
    rolled.edit("domains: [lab.internal]", f"domains: [lab.internal, {domains}]")
    assert rolled.doit("page:trust", days=20).status == 0
    found = Page(rolled.read("build/trust/index.html").decode())
    assert len(found.html) <= PROGRAMS["haproxy"].largest_file
    assert found.faults == []
    assert "trust/roots.mobileconfig" in found.links
    assert "Windows" not in found.text


@pytest.mark.parametrize("trusted", ["root-1", "root-2"])
def test_a_chain_is_valid_for_who_trusts_only_one_of_the_roots(rolled: RealHome, trusted: str) -> None:
    roots, host = [rolled.certificate(trusted)], x509.DNSName("forgejo.lab.internal")
    revocations = judges.crls(rolled.read("build/crl/bundle-client.pem"))
    server, client = identity(rolled, "forge-mtls"), identity(rolled, "client-admin")
    assert server.above == (rolled.certificate("root-2", "cross-root-1.pem"),)
    assert judges.x509_verification_fault(server, roots, at(20), host) == ""
    assert judges.x509_verification_fault(client, roots, at(20), None) == ""
    assert judges.openssl_fault(client, roots, at(20), revocations) == ""
    assert judges.handshake_fault(server, client, roots, at(20), revocations) == ""


def test_the_leaves_of_the_old_root_stay_valid_after_the_takeover(held_once: RealHome, rolled: RealHome) -> None:
    revocations = judges.crls(rolled.read("build/crl/bundle-client.pem"))
    for trusted in (["root-1"], ["root-1", "root-2"]):
        roots = [rolled.certificate(name) for name in trusted]
        assert judges.openssl_fault(identity(held_once, "client-admin"), roots, at(20), revocations) == ""


def test_an_aging_root_is_succeeded_by_date_with_both_intermediates(real: RealHome) -> None:
    real.edit("root:   {lifetime: 10y, key: ec-p384,", "root:   {lifetime: 10y, key: ec-p384, overlap: 2700d,")
    day = 3650 - 730 - 2700
    assert "ceremony:request" not in real.doit(days=day - 1).made
    assert (
        "for root-2: root-1 can certify intermediates of full lifetime until"
        in (real.doit(days=day).made["ceremony:request"])
    )
    (waiting,) = ceremony_archive.open_requests(real.project(day).store)
    request = waiting.request
    assert [one.name for one in request.roots] == ["root-2"]
    assert [(one.name, one.issuer) for one in request.intermediates] == [("server-2", "root-2"), ("client-2", "root-2")]
    assert [(one.name, one.issuer) for one in request.cross_certificates] == [("root-2", "root-1")]
    assert {series.root for series in request.crl_series} == {"root-1", "root-2"}
    real.accept(real.answer(waiting.path, days=day), days=day)
    assert real.doit(days=day).status == 0
    assert "ceremony:request" not in real.doit(days=day + 1).made
    assert_sound(real)


# -- the end of a root ------------------------------------------------------------------------------------------------


def test_a_root_that_handed_over_can_be_destroyed_and_nothing_is_asked_of_it_again(rolled: RealHome) -> None:
    rolled.ceremony(RequestOptions(destroy=("root-1",)), days=30)
    assert not rolled.vault.has_key("root-1")
    assert rolled.vault.has_key("root-2")
    assert (rolled.vault.folder / "root-1/cert.pem").exists()
    ends = [rolled.certificate(name).not_valid_after_utc for name in ("server-1", "client-1")]
    ends.append(rolled.certificate("root-2", "cross-root-1.pem").not_valid_after_utc)
    assert_no_gap(rolled.series("root-1"), at(30), max(ends))
    assert rolled.doit(days=30).status == 0
    names = ("client-1", "client-2", "root-1", "root-2")
    assert crl_issuers(rolled) == {rolled.certificate(name).subject for name in names}
    asked = rolled.ask(RequestOptions(generations=("server",), crls=True), days=40).request
    assert asked.root_names == ("root-2",)
    rolled.ceremony(RequestOptions(generations=("server",)), days=41)
    assert rolled.doit(days=41).status == 0
    with pytest.raises(PkiError, match="the key of the root that signed it was destroyed"):
        rolled.ask(RequestOptions(revoke=(("client-1", "keyCompromise"),)), days=42)
    assert_sound(rolled)


def test_the_only_root_is_never_destroyed(real: RealHome) -> None:
    with pytest.raises(PkiError, match="root-1: is the only root that can sign"):
        real.ask(RequestOptions(destroy=("root-1",)), days=30)
    asked = real.ask(RequestOptions(crls=True), days=30)
    forged = asked.request.model_copy(update={"destroy": ("root-1",)})
    asked.path.write_bytes(request_response.dump(forged))
    with pytest.raises(
        PkiError, match="root-1 is the root that signs; there must be another one before its key is destroyed"
    ):
        real.answer(asked.path, days=30)
    assert real.vault.has_key("root-1")


def test_a_third_root_is_not_made_while_the_first_vouches_for_the_second(real: RealHome) -> None:
    real.ceremony(RequestOptions(generations=("root",)), days=30)
    with pytest.raises(PkiError, match="root-1 certifies root-2 until 2036-11-20"):
        real.ask(RequestOptions(generations=("root",)), days=60)


def test_what_was_wished_is_wished_again_when_something_else_is_needed_before_the_answer(real: RealHome) -> None:
    """Whoever carries the newest request to the vault carries the emergency along."""
    real.ask(RequestOptions(revoke=(("server-1", "keyCompromise"),)), days=480)
    assert "ceremony:request" in real.doit(days=490).made  # the client authority's time has come
    newest = real.ask(days=490).request
    assert {one.name for one in newest.intermediates} == {"server-2", "client-2"}
    assert [one.generation for series in newest.crl_series for one in series.revoked] == ["server-1"]
    assert "server-1 is to be revoked: keyCompromise" in newest.because


def test_a_wish_is_taken_back_by_asking_anew(real: RealHome) -> None:
    real.ask(RequestOptions(revoke=(("server-1", "keyCompromise"),)), days=30)
    project = real.project(30)
    newest = make_request.RequestPreparation(project).prepare(RequestOptions(crls=True), drop_earlier=True).request
    project.close(run_succeeded=False)
    assert newest.because == ("new CRLs are requested",)
    assert newest.crl_series[0].revoked == ()


def test_a_root_is_replaced_and_destroyed_in_one_ceremony(real: RealHome) -> None:
    real.ceremony(RequestOptions(generations=("root",), destroy=("root-1",)), days=30)
    assert not real.vault.has_key("root-1")
    assert real.doit(days=30).status == 0
    assert (
        judges.openssl_fault(
            identity(real, "client-admin"),
            [real.certificate("root-1")],
            at(30),
            judges.crls(real.read("build/crl/bundle-client.pem")),
        )
        == ""
    )
    assert_sound(real)


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def typist(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typist:
    """Before the first ceremony, with a passphrase in the file `secret`."""
    return fit_typist(tmp_path, capsys, monkeypatch)


def test_a_ceremony_is_held_from_the_command_line_and_each_step_names_the_next(typist: Typist) -> None:
    status, said = typist("ceremony.request", "--output", "out")
    assert status == 0, said
    assert "make root-1, “Example Lab Root CA 1”: a new ec-p384 key" in said
    assert "the operator and a witness perform it now" in said
    spoken = typist.words_of("out/request-0001.yaml")
    assert re.findall(r"\d+ ([a-z]+)", said.rpartition("SHA-256")[2])[:8] == spoken.split()
    assert "./run invoke ceremony.root REQUEST --vault DIR" in said
    assert f"  PKI_HOME={typist.home.path} ./run invoke ceremony.accept DIR/response-0001" in said
    asked = ("out/request-0001.yaml", "--vault", "vault", "--words", spoken, "--passphrase-file", "secret")
    told = [said]
    for command, expected in (
        (("ceremony.root", *asked), "continue: sh run invoke ceremony.sign out/request-0001.yaml --vault vault"),
        (("ceremony.sign", *asked, "--output", "out"), "./run invoke ceremony.accept response-0001"),
    ):
        status, said = typist(*command)
        assert (status, expected in said) == (0, True), said
        told.append(said)
    spoken = typist.words_of("out/response-0001/response.yaml")
    assert re.findall(r"\d+ ([a-z]+)", told[-1].rpartition("SHA-256")[2])[:8] == spoken.split()
    status, said = typist("ceremony.accept", "out/response-0001", "--words", spoken)
    assert (status, f"ceremony 1 is accepted; now: PKI_HOME={typist.home.path} ./run doit" in said) == (0, True), said
    assert "new root certificate root-1; it will be trusted from now on: SHA-256" in said
    for folder in ((), ("vault",)):
        status, said = typist("ceremony.verify", *folder)
        assert (status, "all is as it was made" in said) == (0, True), said
    assert not any(SECRET in text for text in told)
    assert_sound(typist.home)


def test_a_rehearsal_of_the_same_request_gives_the_same_texts(typist: Typist) -> None:
    typist("ceremony.request")
    texts = []
    for days in (0, 1):
        status, said = typist("ceremony.rehearse", "--output", f"rehearsal-{days}", days=days)
        assert (status, "request 1 can be performed: every check passed with throw-away keys" in said) == (0, True)
        texts.append({path.name: path.read_bytes() for path in (typist.desk / f"rehearsal-{days}").iterdir()})
    assert texts[0] == texts[1]
    assert {"plan.txt", "root-1.txt", "server-1.txt", "client-1.txt"} < texts[0].keys()


@pytest.mark.parametrize(
    "options",
    [
        RequestOptions(revoke=(("client-1", "keyCompromise"),)),
        RequestOptions(generations=("root",)),
        RequestOptions(generations=("root",), destroy=("root-1",)),
        RequestOptions(crls=True),
    ],
)
def test_every_kind_of_request_can_be_rehearsed(revoked: RealHome, options: RequestOptions) -> None:
    """Also one that lists what an earlier ceremony revoked."""
    options = replace(options, revoke=tuple(("client-2", reason) for _, reason in options.revoke))
    asked = revoked.ask(options, 30)
    project = revoked.project(31)
    assert rehearsal.rehearse(project.now, project.authorities, asked) == rehearsal.rehearse(
        (project := revoked.project(32)).now, project.authorities, asked
    )
    revoked.accept(revoked.answer(asked.path, 32), 32)
    assert_sound(revoked)


REQUEST = ("out/request-0001.yaml", "--vault", "vault")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("rehearse",), "there is no open request to rehearse"),
        (("verify",), "ca/transcript.jsonl: does not exist"),
        (("verify", "nowhere"), "nowhere/transcript.jsonl: does not exist"),
        (("accept", "nowhere"), "nowhere: has no response.yaml"),
        (("request", "--output", "nowhere"), "nowhere: is not a folder"),
        (("request", "--revoke", "client-1"), "--revoke needs a reason"),
        (("request", "--reason", "superseded"), "--reason is only valid with --revoke"),
        (("request", "--revoke", "client-1", "--reason", "bored"), "unknown reason 'bored'"),
        (("request", "--revoke", "../x-1", "--reason", "superseded"), "../x-1: is not an intermediate"),
        (("request", "--revoke", "root-1", "--reason", "superseded"), "root-1: is not an intermediate"),
        (("request", "--new", "frontend"), "frontend: unknown authority"),
        (("request", "--destroy", "root-4"), "root-4: is not a root"),
        (("root", "nothing.yaml", "--vault", "vault"), "nothing.yaml: does not exist"),
        (("root", "secret", "--vault", "vault"), "secret: is not a ceremony request"),
        (("root", "out/request-0001.yaml", "--vault", "nowhere"), "nowhere: is not a folder"),
        (("root", *REQUEST, "--own", "--shares", "2of3"), "exclude each other"),
        (("root", *REQUEST, "--own", "--passphrase-file", "secret"), "exclude each other"),
        (("root", *REQUEST, "--shares", "2of3", "--passphrase-file", "secret"), "exclude each other"),
        (("root", *REQUEST, "--cards", "."), "--cards is only valid with --shares"),
        (("root", *REQUEST, "--shares", "1of3"), "a single share would open the key"),
        (("root", *REQUEST, "--words", "acid"), "this is not the request that was printed: word 1"),
        (("root", *REQUEST), "there is no terminal to ask: first 8 words of the request"),
        (("change-passphrase", "--vault", "nowhere"), "nowhere: is not a folder"),
        (("change-passphrase", "--vault", "vault"), "vault: is empty: is this the vault?"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_with_a_hint_and_exit_1(
    typist: Typist, command: tuple[str, ...], expected: str
) -> None:
    if "out/request-0001.yaml" in command:
        typist("ceremony.request", "--output", "out")
    status, said = typist(f"ceremony.{command[0]}", *command[1:])
    assert (status, expected in said) == (1, True), said
    assert "\n→ " in said
    assert "Traceback" not in said
    assert not list(typist.home.vault.folder.glob("root-*"))


def test_a_passphrase_that_is_missing_weak_or_wrong_is_said_and_nothing_is_made(typist: Typist) -> None:
    typist("ceremony.request", "--output", "out")
    spoken = typist.words_of("out/request-0001.yaml")
    (typist.desk / "weak").write_text("hello\n")
    for file, expected in {"absent": "absent: is not there", "weak": "weak: can be guessed in"}.items():
        status, said = typist("ceremony.root", *REQUEST, "--words", spoken, "--passphrase-file", file)
        assert (status, expected in said) == (1, True), said
        assert not (typist.home.vault.folder / "root-1").exists()
    typist("ceremony.root", *REQUEST, "--words", spoken, "--passphrase-file", "secret")
    signing = ("ceremony.sign", *REQUEST, "--words", spoken, "--output", "out", "--passphrase-file")
    status, said = typist(*signing, "weak")
    assert (status, "its key cannot be opened" in said) == (1, True), said
    assert typist.records()[-1].step == "refused"
    assert not (typist.home.out / "response-0001").exists()


@pytest.mark.parametrize(
    "content", [f"{SECRET}\n", f"server-1: {SECRET}\n", f"- {SECRET}\n", f"'{SECRET}\n", f"a: b: {SECRET}\n"]
)
def test_a_file_of_passphrases_that_is_taken_for_a_request_is_not_quoted(typist: Typist, content: str) -> None:
    (typist.desk / "secret").write_text(content)
    transcript = typist.home.vault.transcript
    commands = [("ceremony.root", "secret"), ("ceremony.sign", "secret", "--output", "out")]
    for is_vault in (False, True):
        if is_vault:
            Transcript(transcript, typist.home.moment).record("verified")
        for command in commands:
            status, said = typist(*command, "--vault", "vault")
            assert status == 1
            assert SECRET not in said
        assert is_vault or not list(typist.home.vault.folder.iterdir())
    assert [record.step for record in typist.records()[1:]] == ["opened", "refused"] * len(commands)
    assert SECRET not in transcript.read_text()


def words_on(card: Path) -> str:
    return " ".join(re.findall(r'<li class="word"><b>\d+</b>([a-z]+)', card.read_text()))


@pytest.fixture
def cards_typed_back(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Custodians who type what is printed on their cards; the questions that they were asked."""
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        found = re.match(r"share (\d) of 3, typed back", question)
        return words_on(typist.desk / f"cards/share-{found[1]}-of-3.html") if found else ""

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(asking_people, "getpass", answer)
    return asked


def test_shares_are_written_as_cards_typed_back_and_read_from_files(
    typist: Typist, cards_typed_back: list[str]
) -> None:
    typist("ceremony.request", "--output", "out")
    spoken = typist.words_of("out/request-0001.yaml")
    status, said = typist("ceremony.root", *REQUEST, "--words", spoken, "--shares", "2of3", "--cards", "cards")
    assert status == 0, said
    assert [question for question in cards_typed_back if "typed back" in question] == [
        f"share {number} of 3, typed back from the card (nothing is shown): " for number in (1, 2, 3)
    ]
    files = []
    for number, card in enumerate(sorted((typist.desk / "cards").iterdir()), 1):
        assert card.stat().st_mode & 0o777 == 0o600
        (typist.desk / f"share-{number}").write_text(f"{words_on(card)}\n")
        files += ["--share-file", f"share-{number}"]
    sign = ("ceremony.sign", *REQUEST, "--words", spoken, "--output", "out")
    status, said = typist(*sign, *files[:2])
    assert (status, "1 of 2 shares given: 1 missing" in said) == (1, True), said
    status, said = typist(*sign, *files[2:])
    assert status == 0, said
    spoken = typist.words_of("out/response-0001/response.yaml")
    assert typist("ceremony.accept", "out/response-0001", "--words", spoken)[0] == 0
    assert_sound(typist.home)


def test_an_unfit_machine_is_refused_with_what_to_type_or_goes_on_record(
    typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        machine_check, "check_machine", partial(machine_check.check_machine, interfaces=lambda: ["eth0"])
    )
    typist("ceremony.request", "--output", "out")
    order = (
        "ceremony.root",
        *REQUEST,
        "--words",
        typist.words_of("out/request-0001.yaml"),
        "--passphrase-file",
        "secret",
    )
    status, said = typist(*order, days=100)
    assert status == 1
    for expected in ("NOT FIT network: the network interface eth0 is up", "ip link set eth0 down", "more than 90 days"):
        assert expected in said
    assert typist(*order, "--despite", "a test", days=100)[0] == 0
    (record,) = [one for one in records(typist.home) if one.step == "deviation"]
    assert record.facts["reason"] == "a test"


def test_rewrapping_from_the_command_line_changes_the_passphrase(
    real: RealHome, typist: Typist, tmp_path: Path
) -> None:
    typist = Typist(real, typist.capsys)
    drives_at({"sda": real.vault.folder, "sdc": typist.desk / "medium"}, tmp_path / "mounts")
    (typist.desk / "secret").write_text(f"{SECRET}\n")
    (typist.desk / "new").write_text("another-very-long-passphrase-of-words\n")
    order = ("ceremony.change-passphrase", "--vault", "vault", "--passphrase-file")
    assert "the new passphrase is the old one" in typist(*order, "secret", "--new-passphrase-file", "secret")[1]
    status, said = typist(*order, "secret", "--new-passphrase-file", "new")
    assert (status, "its key has a new passphrase" in said) == (0, True), said
    status, said = typist(*order, "secret", "--new-passphrase-file", "new")
    assert (status, "its key cannot be opened" in said) == (1, True), said
    (typist.desk / "medium").mkdir()
    status, said = typist(*order, "new", "--new-passphrase-file", "secret", "--to", "medium")
    assert (status, "try the new drive, then destroy the old one" in said) == (0, True), said
    assert "another-very-long" not in said + real.vault.transcript.read_text()
    assert typist("ceremony.verify", "medium")[0] == 0


def test_verify_fails_over_a_changed_file(real: RealHome, typist: Typist) -> None:
    typist = Typist(real, typist.capsys)
    path = real.path / "ca/server/server-1/cert.pem"
    path.write_bytes(real.read("ca/client/client-1/cert.pem"))
    status, said = typist("ceremony.verify")
    assert (status, f"{path}: is from no recorded ceremony" in said) == (1, True), said
    assert "all is as it was made" not in said


@pytest.mark.parametrize(
    "command", ["request", "rehearse", "root", "sign", "accept", "verify", "change-passphrase", "copy"]
)
def test_help_names_every_option_and_where_the_command_is_typed(typist: Typist, command: str) -> None:
    status, said = typist(f"ceremony.{command}", "--help")
    text, _, options = said.partition("Usage:")[2].partition("Arguments and options:")
    assert status == 0
    assert len(text.split()) >= 15
    for option in re.findall(r"--[a-z-]+", text.splitlines()[0]):
        assert re.search(rf"^  {option} .*[a-z]{{3}}", options, re.MULTILINE), option
    assert ("Offline." in text) == (command in {"root", "sign", "change-passphrase", "copy"})


# -- nothing secret ---------------------------------------------------------------------------------------------------


def test_no_secret_is_in_transcripts_pages_or_responses(revoked: RealHome) -> None:
    key = revoked.vault.open_key("root-1", SECRET, "the test")
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    bare = SECRET.replace("-", "")
    files = [*revoked.out.rglob("*"), *revoked.vault.folder.glob("*.jsonl")]
    files += [*(revoked.vault.folder / "ceremonies").rglob("*"), *(revoked.path / "ca/ceremonies").rglob("*")]
    for path in (path for path in files if path.is_file()):
        content = path.read_bytes()
        assert der not in content
        assert b"PRIVATE KEY" not in content
        assert bare not in re.sub(r"[\W_]+", "", content.decode()).casefold(), path
    with sqlite3.connect(revoked.path / "ca/ledger.db") as database:
        assert not any(SECRET in line for line in database.iterdump())
