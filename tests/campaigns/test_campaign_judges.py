"""The judges of the campaigns notice what they are for."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.child_processes import STOPPED
from pki.monitor.check_result import STATUS
from tests.campaigns import odd, person, together
from tests.campaigns.deployed import Chain, Deployed, identity_in
from tests.campaigns.killed import killed_at
from tests.support import judges
from tests.support.ceremonies import RealHome
from tests.support.projects import START

HOSTS = "build/hosts"


def judged(home: RealHome) -> Deployed:
    """What is deployed, which nobody objects to."""
    found = Deployed(home.path / HOSTS, "monitoring")
    for path in home.path.glob("ca/clients/*/tls.pem"):
        found.clients[path.read_bytes()] = identity_in(path.read_bytes())
    assert list(found.faults(START)) == []
    assert list(found.lost(START, set())) == []
    return found


def test_an_ended_crl_a_foreign_key_and_a_missing_crl_are_faults_of_their_hosts(real: RealHome) -> None:
    found = judged(real)
    late = list(found.faults(START + timedelta(days=22)))
    assert {host for host, _ in late} == {"monitoring", "forge", "media"}
    own, other = (
        real.path / HOSTS / place for place in ("media/etc/doit-pki/media.pem", "forge/etc/doit-pki/forge-mtls.pem")
    )
    key = judges.PEM_KEY.search(other.read_bytes())
    assert key
    own.write_bytes(judges.PEM_KEY.sub(key[0], own.read_bytes()))
    assert [host for host, _ in found.faults(START)] == ["media"]
    (real.path / HOSTS / "monitoring/var/www/pki/crl/server-1.crl").unlink()
    assert {host for host, _ in found.faults(START)} == {"monitoring", "forge", "media"}


def test_a_client_that_a_host_refuses_is_a_fault_unless_it_is_revoked(real: RealHome) -> None:
    found = judged(real)
    (real.path / HOSTS / "forge/etc/doit-pki/client-crl.pem").write_bytes(real.read("build/crl/root-1.pem"))
    assert [host for host, _ in found.faults(START)] == ["forge"]
    for one in found.clients.values():
        found.revoked[one.leaf.serial_number] = one.leaf
    assert list(found.faults(START)) == []
    assert [host for host, _ in found.unlisted(START)] == ["monitoring"]


def test_an_entry_that_leaves_a_crl_is_lost_until_its_certificate_ends(real: RealHome) -> None:
    found = judged(real)
    (client,) = found.clients.values()
    found.revoked[client.leaf.serial_number] = client.leaf
    found.listed["forge/client-crl.pem"] = {client.leaf.serial_number: client.leaf.not_valid_after_utc}
    assert [host for host, _ in found.lost(START, {"monitoring"})] == ["forge"]
    assert list(found.lost(START, {"forge"})) == []
    assert list(found.lost(client.leaf.not_valid_after_utc, set())) == []


def test_an_entry_of_a_certificate_that_somebody_else_revoked_leaves_a_crl_when_that_ends(real: RealHome) -> None:
    """Commands that are typed as printed, such as `retire`, revoke certificates that the campaign did not choose."""
    found = judged(real)
    _, issued = Chain(real.path / "ca/ledger.db").look()
    (client,) = found.clients.values()
    serial, end = client.leaf.serial_number, client.leaf.not_valid_after_utc
    found.ends = {certificate.serial: certificate.end for certificate in issued}
    assert found.ends[serial] == end
    path = real.path / HOSTS / "forge/etc/doit-pki/client-crl.pem"
    empty = path.read_bytes()
    revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START).build()
    crl = (
        x509.CertificateRevocationListBuilder()
        .add_revoked_certificate(revoked)
        .issuer_name(client.leaf.issuer)
        .last_update(START)
        .next_update(end)
        .sign(client.key, hashes.SHA256())
    )
    path.write_bytes(crl.public_bytes(Encoding.PEM))
    assert list(found.lost(START, set())) == []
    path.write_bytes(empty)
    assert [host for host, _ in found.lost(end - timedelta(seconds=1), set())] == ["forge"]
    assert list(found.lost(end, set())) == []


def test_a_changed_row_a_missing_event_and_a_false_head_break_the_chain(real: RealHome) -> None:
    path = real.path / "ca/ledger.db"
    wrong, issued = Chain(path).look()
    assert wrong == []
    assert {"cert:media", "cert:client-admin"} <= {one.artifact for one in issued}
    for number, change in enumerate(
        (
            "UPDATE certificates SET reason = 'other' WHERE seq = (SELECT max(seq) FROM certificates)",
            "UPDATE events SET at = at + 1 WHERE seq = 3",
            "DELETE FROM events WHERE seq = 3",
            "UPDATE head SET seq = seq - 1",
        )
    ):
        copy = shutil.copy(path, real.path.parent / f"{number}.db")
        with closing(sqlite3.connect(copy)) as db:
            db.execute(change)
            db.commit()
        wrong, _ = Chain(Path(copy)).look()
        assert wrong, change


def test_the_commands_behind_an_arrow_are_what_a_person_types() -> None:
    said = (
        "failed key:x  is lost\n    → ./run invoke restore FILE; where it is lost: PKI_HOME=/x ./run invoke ledger.accept-loss\n"
        "1 failed; 1 critical: PKI_HOME=/x ./run invoke health\n→ ./run invoke restore FILE\n"
    )
    assert person.printed(said) == [["invoke", "restore", "FILE"], ["invoke", "ledger.accept-loss"]]


def test_a_question_is_answered_by_the_word_that_it_asks_for() -> None:
    with person.at_a_terminal() as screen:
        assert [input("type LOST to continue: "), input("replace it? (yes or no) ")] == ["LOST", "LOST"]
        screen.write("x" * 500)
        assert input("replace it? (yes or no) ") == "yes"


def test_a_run_is_killed_before_the_same_change_each_time(tmp_path: Path) -> None:
    def work() -> None:
        for number in range(5):
            (tmp_path / str(number)).write_text("x")

    assert killed_at(3, work)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert not killed_at(6, work)


def test_each_finding_of_health_is_expected_beside_other_commands() -> None:
    assert set(STATUS.values()) <= set(together.STARTS["looks"].statuses)
    assert STOPPED not in together.STARTS["looks"].statuses


def test_oddities_that_close_the_same_channel_go_together(tmp_path: Path) -> None:
    start = odd.Start(
        ("-c", "import os, sys; os._exit([sys.stdin, sys.stdout, sys.stderr].count(None))"),
        tmp_path,
        dict(os.environ),
        tmp_path,
        tmp_path / "log",
        program=[sys.executable],
    )
    for name in ("all channels closed", "standard error closed"):
        assert odd.ODD[name].apply(start, random.Random(0))  # noqa: S311 - no secret hangs on it
    assert start.begin().wait() == 3
