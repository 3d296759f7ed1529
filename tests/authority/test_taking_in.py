"""Taking in what exists: the records of an old CA are imported whole, and its CRL goes on without losing an entry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.authority.import_ca import openssl_index
from pki.cli.json_output import LedgerImportOutput
from pki.common.errors import PkiError
from pki.deploy import crl_files
from pki.deploy.preflight import Trust
from pki.ledger.types import Issued
from pki.monitor import forecast
from pki.pipeline.desired_state import DesiredState
from pki.project.generations import Generation
from pki.project.project import Project
from tests.support import judges, old_ledgers
from tests.support.adopted_cas import adopt
from tests.support.commands import Invoke, Said, said_by
from tests.support.oldca import DAY, NO_CRL_USAGE, OldCa, pem, utc, write
from tests.support.projects import START, Home

SECOND = timedelta(seconds=1)
REVOKED = START - 100 * DAY


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed beside the project."""

    def call(*arguments: str, days: float = 0) -> Said:
        moment = {"pki_now": home.moment(days), "pki_called_from": str(home.path.parent)}
        return said_by(capsys, *arguments, pki_home=str(home.path), **moment)

    return call


@pytest.fixture
def old() -> OldCa:
    """Three certificates, serial numbers from 1: valid, revoked, ended."""
    ca = OldCa()
    ca.issue("web", 1, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,), names=("web.old.example",))
    ca.issue("alice", 2)
    ca.issue("bob", 3, days=-30)
    ca.revoke(2, "keyCompromise")
    return ca


@pytest.fixture
def adopted(home: Home, old: OldCa) -> Home:
    """The example, which has adopted the old CA; its records are in `issuance_records/`, beside the project."""
    adopt(home)
    old.keep(home.path / "ca/legacy")
    old.openssl_ca(home.path.parent / "issuance_records")
    return home


def crl_of(home: Home, name: str = "legacy") -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(home.read(f"build/crl/{name}.crl"))


def entries(home: Home, name: str = "legacy") -> dict[int, tuple[datetime, str]]:
    """Serial number → date and reason, as a reader of the CRL sees them."""
    found = {}
    for entry in crl_of(home, name):
        reasons = [extension.value.reason.value for extension in entry.extensions]
        found[entry.serial_number] = (entry.revocation_date_utc, reasons[0] if reasons else "")
    return found


def recorded(home: Home, name: str = "legacy") -> dict[str, Issued]:
    project = home.project()
    found = {one.artifact: one for one in project.ledger.certificates(issuer=name)}
    assert project.ledger.verify() == []
    project.ledger.close()
    return found


# -- what is taken in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["openssl", "easy-rsa", "files"])
def test_records_are_imported_whole_whatever_wrote_them(adopted: Home, old: OldCa, invoke: Invoke, layout: str) -> None:
    issuance_records = adopted.path.parent / "issuance_records"
    if layout == "easy-rsa":
        issuance_records = old.easy_rsa(adopted.path.parent / "pki")
    elif layout == "files":
        issuance_records = adopted.path.parent / "scanned_files"
        for serial, cert in old.issued.items():
            der = cert.public_bytes(serialization.Encoding.DER)
            write(
                issuance_records / (f"{serial}.der" if serial % 2 else f"{serial}.pem"),
                der if serial % 2 else pem(cert),
            )
        write(issuance_records / "crl.pem", pem(old.crl({2: "keyCompromise"})))
    told = json.loads(invoke("ledger.import", str(issuance_records), "--dry-run", "--json").out)
    assert LedgerImportOutput.model_validate(told).recorded is False
    assert {name: told[name] for name in ("authority", "certificates", "valid", "ended", "revocations", "known")} == {
        "authority": "legacy",
        "certificates": 3,
        "valid": 1,
        "ended": 1,
        "revocations": 1,
        "known": 0,
    }
    said = invoke("ledger.import", str(issuance_records))
    assert said.status == 0, said.error
    assert "3 certificates of legacy: 1 valid, 1 expired; 1 revocation" in said.out
    found = recorded(adopted)
    assert sorted(found) == ["legacy:alice", "legacy:bob", "legacy:web"]
    assert [found[name].profile for name in sorted(found)] == ["client", "client", "server"]
    assert found["legacy:web"].names == ("web.old.example",)
    assert x509.load_pem_x509_certificate(found["legacy:bob"].pem.encode()) == old.issued[3]
    assert adopted.doit().made == {"crl:legacy": "did not exist"}
    crl = crl_of(adopted)
    assert crl.is_signature_valid(old.certificate.public_key())  # type: ignore[arg-type]
    assert crl.issuer == old.certificate.subject
    judges.assert_points_at_key_of(crl, old.certificate)
    day = START - 50 * DAY if layout == "files" else REVOKED
    assert entries(adopted) == {2: (day, "keyCompromise")}
    assert adopted.doit().made == {}


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", ""),
        ("unspecified", ""),
        ("superseded", "superseded"),
        ("CACompromise", "cACompromise"),
        ("cessationOfOperation", "cessationOfOperation"),
        ("affiliationChanged", "affiliationChanged"),
        ("certificateHold", "certificateHold"),
        ("holdInstruction,holdInstructionReject", "certificateHold"),
        ("keyTime,20250101000000Z", "keyCompromise"),
        ("CAkeyTime,20250101000000Z", "cACompromise"),
    ],
)
def test_every_way_in_which_openssl_writes_a_reason_shows_on_the_crl(
    adopted: Home, old: OldCa, invoke: Invoke, written: str, reason: str
) -> None:
    old.revoke(2, written)
    old.openssl_ca(adopted.path.parent / "issuance_records")
    assert invoke("ledger.import", "issuance_records").status == 0
    assert adopted.doit().status == 0
    assert entries(adopted) == {2: (REVOKED, reason)}


def test_what_the_old_crl_lists_and_the_index_does_not_stays_revoked(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    write(
        adopted.path.parent / "issuance_records/crl.pem", pem(old.crl({2: "", 1: "superseded", 77: "certificateHold"}))
    )
    assert "3 revocations" in invoke("ledger.import", "issuance_records").out
    adopted.doit()
    day = START - 50 * DAY
    assert entries(adopted) == {2: (REVOKED, "keyCompromise"), 1: (day, "superseded"), 77: (day, "certificateHold")}
    assert recorded(adopted)["legacy:web"].revoked == "superseded"


def test_what_ended_long_ago_stays_on_the_crl_as_openssl_keeps_it(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    old.revoke(3)
    old.openssl_ca(adopted.path.parent / "issuance_records")
    invoke("ledger.import", "issuance_records")
    for days in (0, 8, 600):
        adopted.doit(days=days)
        assert set(entries(adopted)) == {2, 3}


def test_row_without_its_certificate_is_recorded_by_what_it_says(adopted: Home, invoke: Invoke) -> None:
    (adopted.path.parent / "issuance_records/newcerts/01.pem").unlink()
    (adopted.path.parent / "issuance_records/newcerts/02.pem").unlink()
    assert "2 from index.txt alone" in invoke("ledger.import", "issuance_records").out
    found = recorded(adopted)
    assert (found["legacy:web"].pem, found["legacy:web"].not_after) == ("", START + 400 * DAY)
    assert found["legacy:alice"].revoked == "keyCompromise"
    assert invoke("revoke", "01", "--reason", "superseded", "--yes").status == 0
    assert set(entries(adopted)) == {1, 2}
    assert "its certificate was not available" in invoke("ledger.show", "01").out


def test_certificates_of_another_ca_are_told_and_left_out(adopted: Home, invoke: Invoke) -> None:
    other, namesake = OldCa("Other CA"), OldCa("Old CA")
    write(adopted.path.parent / "issuance_records/newcerts/guest.pem", pem(other.issue("guest", 9)))
    write(adopted.path.parent / "issuance_records/newcerts/false.crt", pem(namesake.issue("false", 10)))
    write(adopted.path.parent / "issuance_records/crl.pem", pem(other.crl({1: ""})))
    said = invoke("ledger.import", "issuance_records")
    assert (
        "left out: issuance_records/newcerts/guest.pem: CN=guest was signed by CN=Other CA, not by legacy" in said.out
    )
    assert "left out: issuance_records/newcerts/false.crt: CN=false names legacy as its issuer, but is not" in said.out
    assert "left out: issuance_records/crl.pem: legacy did not sign this CRL" in said.out
    assert sorted(recorded(adopted)) == ["legacy:alice", "legacy:bob", "legacy:web"]
    adopted.doit()
    assert set(entries(adopted)) == {2}


def test_row_of_a_certificate_that_another_ca_signed_goes_with_it(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    """A CA that got a new key keeps its index: what the old key signed cannot be revoked by the new one."""
    before = OldCa("Old CA")
    write(adopted.path.parent / "issuance_records/newcerts/09.pem", pem(before.issue("early", 9)))
    old.row("early", 9, START + 400 * DAY, utc(REVOKED))
    write(adopted.path.parent / "issuance_records/index.txt", "".join(f"{row}\n" for row in old.rows).encode())
    assert "CN=early names legacy" in invoke("ledger.import", "issuance_records").out
    adopted.doit()
    assert set(entries(adopted)) == {2}


def test_folder_of_another_ca_is_refused(adopted: Home, invoke: Invoke) -> None:
    other = OldCa("Other CA")
    other.issue("guest", 9)
    other.openssl_ca(adopted.path.parent / "other")
    said = invoke("ledger.import", "other")
    assert said.status == 1
    assert "other: contains nothing that legacy signed (CN=Old CA); 2 certificates found" in said.error


def test_a_name_stands_for_one_ca_for_ever(adopted: Home, invoke: Invoke) -> None:
    invoke("ledger.import", "issuance_records")
    other = OldCa("Old CA")
    other.issue("guest", 9)
    other.keep(adopted.path / "ca/legacy")
    other.openssl_ca(adopted.path.parent / "other")
    said = invoke("ledger.import", "other")
    assert (said.status, "the ledger records another CA under this name" in said.error) == (1, True)


def test_every_fault_is_told_at_once_and_nothing_is_taken_in(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    issuance_records = adopted.path.parent / "issuance_records"
    rows = [
        *old.rows,
        "V\t270101000000Z\t\t04\tunknown",
        "X\t270101000000Z\t\t05\tunknown\t/CN=x",
        "V\t271301000000Z\t\t06\tunknown\t/CN=x",
        "R\t270101000000Z\t\t07\tunknown\t/CN=x",
        "R\t270101000000Z\t250101000000Z,boredom\t08\tunknown\t/CN=x",
        "R\t270101000000Z\t250101000000Z,removeFromCRL\t09\tunknown\t/CN=x",
        "V\t270101000000Z\t\tzz\tunknown\t/CN=x",
        "V\t270101000000Z\t\t01\tunknown\t/CN=x",
    ]
    write(issuance_records / "index.txt", "\n".join(rows).encode())
    write(issuance_records / "crlnumber", b"soon\n")
    write(issuance_records / "newcerts/AA.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    write(issuance_records / "newcerts/AB.pem", pem(old.issued[1])[:200])
    twin = OldCa(key=old.key)
    write(issuance_records / "newcerts/twin.pem", pem(twin.issue("twin", 1)))
    write(issuance_records / "broken.der", b"no")
    events = len(adopted.project().ledger.events())
    said = invoke("ledger.import", "issuance_records")
    assert said.status == 1
    assert said.error.splitlines()[1:-1] == [
        "issuance_records/broken.der: contains a certificate that cannot be read",
        "issuance_records/newcerts/AA.pem: contains a certificate that cannot be read",
        "issuance_records/newcerts/AB.pem: contains a truncated certificate",
        "issuance_records/index.txt:4: expected 6 fields between tabs, got 5",
        "issuance_records/index.txt:5: expected V, R or E, got 'X'",
        "issuance_records/index.txt:6: expected a date such as 270228130208Z, got '271301000000Z'",
        "issuance_records/index.txt:7: is revoked without a date",
        "issuance_records/index.txt:8: 'boredom' is not a revocation reason",
        "issuance_records/index.txt:9: is revoked with removeFromCRL, which undoes a revocation; write V, or another reason",
        "issuance_records/index.txt:10: expected a serial number in hexadecimal, got 'zz'",
        "issuance_records/index.txt:11: serial 01 is on line 1 too",
        "issuance_records/crlnumber:1: expected a number in hexadecimal, got 'soon'",
        "issuance_records/newcerts/twin.pem: serial 01 also belongs to another certificate, in issuance_records/newcerts/01.pem",
    ]
    assert len(adopted.project().ledger.events()) == events


def test_dry_run_shows_what_it_found_and_records_nothing(adopted: Home, invoke: Invoke) -> None:
    events = len(adopted.project().ledger.events())
    said = invoke("ledger.import", "issuance_records", "--dry-run")
    assert "to do     ledger" in said.out
    assert "3 certificates of legacy: 1 valid, 1 expired; 1 revocation" in said.out
    assert len(adopted.project().ledger.events()) == events


def test_second_import_takes_in_only_what_is_new(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    invoke("ledger.import", "issuance_records")
    events = len(adopted.project().ledger.events())
    assert (
        "nothing new: the ledger contains 3 certificates of legacy" in invoke("ledger.import", "issuance_records").out
    )
    assert len(adopted.project().ledger.events()) == events
    old.issue("carol", 4)
    old.revoke(1, "superseded")
    old.openssl_ca(adopted.path.parent / "issuance_records")
    said = invoke("ledger.import", "issuance_records")
    assert "1 certificate of legacy: 1 valid, 0 expired; 1 revocation; 3 already in the ledger" in said.out
    assert len(adopted.project().ledger.events()) == events + 2
    adopted.doit()
    assert set(entries(adopted)) == {1, 2}


def test_revocation_that_the_old_ca_took_back_stays(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    old.revoke(1, "certificateHold")
    old.openssl_ca(adopted.path.parent / "issuance_records")
    invoke("ledger.import", "issuance_records")
    old.rows[0] = f"V\t{utc(START + 400 * DAY)}\t\t01\tunknown\t/CN=web"
    old.openssl_ca(adopted.path.parent / "issuance_records")
    assert (
        "line 1 of index.txt: serial 01 was revoked; it stays revoked"
        in invoke("ledger.import", "issuance_records").out
    )
    adopted.doit()
    assert entries(adopted)[1] == (REVOKED, "certificateHold")


def test_names_are_unique_and_stay(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    """A CA that renews issues one name again and again, and what has a name keeps it."""
    old.issue("web", 0xABCDEF012345)
    old.issue("John Smith/Ops\twest", 5)
    old.rows[-1] = old.rows[-1].replace("Ops\twest", "Ops\\\twest")
    old.issue("*.old.example", 6)
    old.openssl_ca(adopted.path.parent / "issuance_records")
    assert invoke("ledger.import", "issuance_records").status == 0
    first = {one.serial: name for name, one in recorded(adopted).items()}
    assert first[1] == "legacy:web"
    assert first[0xABCDEF012345] == "legacy:web-abcdef01"
    assert (first[5], first[6]) == ("legacy:John-Smith-Ops-west", "legacy:old.example")
    old.issue("web", 0xABCDEF019999)
    old.openssl_ca(adopted.path.parent / "issuance_records")
    invoke("ledger.import", "issuance_records")
    again = {one.serial: name for name, one in recorded(adopted).items()}
    assert again == {**first, 0xABCDEF019999: "legacy:web-abcdef019"}


@pytest.mark.parametrize(
    ("line", "end", "common_name"),
    [
        (
            "V\t491231235959Z\t\t0A\tunknown\t/C=DE/O=A/B GmbH/CN=x/y",
            datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
            "x/y",
        ),
        ("V\t500101000000Z\t\t0A\tunknown\t/CN=x", datetime(1950, 1, 1, tzinfo=UTC), "x"),
        (
            "V\t20510101000000Z\t\t0A\tunknown\t/CN=M\\xC3\\xBCller/emailAddress=m@x",
            datetime(2051, 1, 1, tzinfo=UTC),
            "Müller",
        ),
    ],
)
def test_index_is_read_as_openssl_writes_it(line: str, end: datetime, common_name: str) -> None:
    rows, faults = openssl_index.parse(f"# a comment\r\n\r\n{line}\r\n".encode(), "index.txt")
    assert faults == []
    assert [(row.line, row.serial, row.not_after, row.common_name) for row in rows] == [(3, 10, end, common_name)]


def test_five_hundred_certificates_come_in_as_one_transaction(adopted: Home, invoke: Invoke, old: OldCa) -> None:
    for serial in range(100, 600):
        old.row(f"device-{serial}", serial, START + 400 * DAY, utc(REVOKED) if serial < 140 else "")
    old.openssl_ca(adopted.path.parent / "issuance_records")
    with closing(sqlite3.connect(adopted.path / "ca/ledger.db")) as db:
        db.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON revocations WHEN NEW.serial LIKE '%8b' BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        db.commit()
    events = len(adopted.project().ledger.events())
    assert invoke("ledger.import", "issuance_records").status == 1
    assert len(adopted.project().ledger.events()) == events, "all of it, or nothing"
    with closing(sqlite3.connect(adopted.path / "ca/ledger.db")) as db:
        db.execute("DROP TRIGGER stop")
        db.commit()
    assert invoke("ledger.import", "issuance_records").status == 0
    assert len(recorded(adopted)) == 503
    adopted.doit()
    assert len(crl_of(adopted)) == 41


# -- the CRL ----------------------------------------------------------------------------------------------------------


def test_no_crl_is_made_before_the_old_revocations_are_known(adopted: Home, invoke: Invoke) -> None:
    """It would take them back."""
    report = adopted.doit()
    assert report.failed == {
        "crl:legacy": "the ledger contains no issuance records of legacy → "
        "./run invoke ledger.import DIR --authority legacy, where DIR holds its index.txt or its certificates"
    }
    assert not (adopted.path / "build/crl/legacy.crl").exists()
    assert "its issuance records are not imported yet" in invoke("status").out


@pytest.mark.parametrize(
    ("listed", "written", "expected"),
    [
        (None, "", int(START.timestamp())),
        (1 << 40, "", (1 << 40) + 1),
        (7, f"{1 << 41:X}", 1 << 41),
        (None, "0A", int(START.timestamp())),
    ],
)
def test_crl_follows_the_last_one_of_the_old_ca(
    adopted: Home, old: OldCa, invoke: Invoke, listed: int | None, written: str, expected: int
) -> None:
    """OpenSSL believes the newest thisUpdate, others the highest number."""
    issuance_records = adopted.path.parent / "issuance_records"
    write(issuance_records / "crl.pem", pem(old.crl({2: ""}, number=listed, at=START - timedelta(minutes=5))))
    write(issuance_records / "crlnumber", written.encode())
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    crl = crl_of(adopted)
    assert judges.number(crl) == expected
    assert crl.last_update_utc == START - timedelta(minutes=5) + SECOND
    assert crl.next_update_utc == crl.last_update_utc + 21 * DAY


def test_number_of_a_crl_that_was_never_seen_is_known_from_crlnumber(adopted: Home, invoke: Invoke) -> None:
    write(adopted.path.parent / "issuance_records/crlnumber", f"{1 << 41:X}".encode())
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    assert judges.number(crl_of(adopted)) == 1 << 41


def test_number_that_no_ledger_can_count_is_refused(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    write(adopted.path.parent / "issuance_records/crl.pem", pem(old.crl({}, number=1 << 150)))
    said = invoke("ledger.import", "issuance_records")
    assert (said.status, "is larger than the ledger can store" in said.error) == (1, True)


def test_crl_comes_anew_by_its_own_rule(adopted: Home, invoke: Invoke) -> None:
    adopted.edit("{adopt: ca/legacy}", "{adopt: ca/legacy, crl: {lifetime: 90d, refresh: 30d}}")
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    first = crl_of(adopted)
    assert first.next_update_utc == first.last_update_utc + 90 * DAY
    assert "crl:legacy" not in adopted.doit(days=29).made
    assert adopted.doit(days=31).made["crl:legacy"] == "was 31 days old; refreshed every 30"
    assert judges.number(crl_of(adopted)) > judges.number(first)


def test_run_with_nothing_to_do_opens_no_ledger(adopted: Home, invoke: Invoke) -> None:
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    assert adopted.doit().made == {}
    project = adopted.project()
    plan = adopted.plan()
    assert [one.name for one, _ in forecast.due_artifacts(plan)] == []
    list(forecast.required_actions(project, plan))
    assert not project.ledger_view.is_open


def test_ca_without_a_key_identifier_signs_crls_without_one(home: Home, invoke: Invoke) -> None:
    old = OldCa(has_identifier=False, usage=None, basic=None)
    old.issue("web", 1)
    adopt(home)
    old.openssl_ca(home.path / "ca/legacy")
    assert invoke("ledger.import", str(home.path / "ca/legacy")).status == 0
    assert home.doit().status == 0
    assert [type(one.value) for one in crl_of(home).extensions] == [x509.CRLNumber]
    assert crl_of(home).is_signature_valid(old.certificate.public_key())  # type: ignore[arg-type]


def test_weak_keys_and_names_of_ours_are_no_obstacle_in_an_old_ca(home: Home, invoke: Invoke) -> None:
    """What was issued years ago must be known to be revoked, however bad it is."""
    old = OldCa(key=rsa.generate_private_key(3, 2048))
    old.issue("admin", 1)
    old.issue("grafana", 2, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,), names=("grafana.lab.internal",))
    adopt(home)
    old.openssl_ca(home.path / "ca/legacy")
    assert invoke("ledger.import", str(home.path / "ca/legacy")).status == 0
    assert home.doit().status == 0
    assert set(recorded(home)) == {"legacy:admin", "legacy:grafana"}
    assert invoke("revoke", "admin", "--reason", "superseded", "--yes").status in {0, 2}
    assert not any(one.revoked for one in recorded(home).values())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"usage": NO_CRL_USAGE}, "does not permit its key to sign CRLs (key usage lacks cRLSign)"),
        ({"basic": x509.BasicConstraints(ca=False, path_length=None)}, "is not a CA certificate"),
    ],
)
def test_ca_whose_crls_nobody_would_believe_is_refused(
    home: Home, invoke: Invoke, changes: dict[str, object], why: str
) -> None:
    old = OldCa(**changes)  # type: ignore[arg-type]
    old.issue("web", 1)
    adopt(home)
    old.openssl_ca(home.path / "ca/legacy")
    assert invoke("ledger.import", str(home.path / "ca/legacy")).status == 0
    assert why in home.doit().failed["crl:legacy"]
    assert not (home.path / "build/crl/legacy.crl").exists()


def test_ca_that_ended_makes_no_more_crls_and_a_person_is_told(home: Home, invoke: Invoke) -> None:
    old = OldCa(until=START + 10 * DAY)
    old.issue("web", 1, days=5)
    adopt(home)
    old.openssl_ca(home.path / "ca/legacy")
    invoke("ledger.import", str(home.path / "ca/legacy"))
    assert home.doit().status == 0
    before = home.read("build/crl/legacy.crl")
    assert "crl:legacy" not in home.doit(days=40).made
    assert home.read("build/crl/legacy.crl") == before
    notes = {one.subject: one.text for one in forecast.required_actions(home.project(40), home.plan(40))}
    assert notes["authority:legacy"] == "expired on 2026-12-03; its CRL is no longer issued"


NAMELESS = {
    "Certification": [
        (NameOID.COUNTRY_NAME, "CH"),
        (NameOID.ORGANIZATION_NAME, "Old Lab"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Certification"),
    ],
    "Old Lab": [(NameOID.ORGANIZATION_NAME, "Old Lab"), (NameOID.COUNTRY_NAME, "CH")],
    "CH": [(NameOID.COUNTRY_NAME, "CH")],
    "legacy": [],
}


@pytest.mark.parametrize("shown", NAMELESS)
def test_ca_without_a_cn_is_known_by_another_attribute(shown: str) -> None:
    ca = OldCa(full_name=x509.Name([x509.NameAttribute(*one) for one in NAMELESS[shown]])).certificate
    assert Generation("legacy", ca, b"", "", b"", "").common_name == shown


def test_ca_without_a_cn_stops_nothing(home: Home, invoke: Invoke) -> None:
    old = OldCa(full_name=x509.Name([x509.NameAttribute(*one) for one in NAMELESS["Certification"]]))
    old.issue("web", 1)
    adopt(home)
    old.openssl_ca(home.path / "ca/legacy")
    assert invoke("ledger.import", str(home.path / "ca/legacy")).status == 0
    report = home.doit()
    assert (report.status, report.failed) == (0, {})
    assert ">Certification<" in home.read("build/report/status.html").decode()
    for command in ("status", "plan"):
        said = invoke(command)
        assert (said.status, said.error) == (0, ""), said


# -- its key ----------------------------------------------------------------------------------------------------------

WORDS = "correct horse battery staple"


def traditional(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """`-----BEGIN RSA PRIVATE KEY-----` with `Proc-Type: 4,ENCRYPTED`: what OpenSSL wrote before PKCS#8."""
    hidden = serialization.BestAvailableEncryption(WORDS.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, hidden)


@pytest.mark.parametrize("kind", ["rsa-pkcs8", "ec-traditional", "rsa-traditional", "plain"])
def test_key_is_opened_with_the_passphrase_of_its_name(adopted: Home, old: OldCa, invoke: Invoke, kind: str) -> None:
    if kind.startswith("rsa"):
        old = OldCa(key=rsa.generate_private_key(65537, 2048))
        old.issue("web", 1)
    folder = old.openssl_ca(adopted.path.parent / "again")
    hidden = serialization.BestAvailableEncryption(WORDS.encode()) if kind == "rsa-pkcs8" else None
    old.keep(adopted.path / "ca/legacy", encryption=hidden)
    if kind.endswith("traditional"):
        write(adopted.path / "ca/legacy/key.pem", traditional(old.key), 0o600)
    assert invoke("ledger.import", str(folder)).status == 0
    if kind != "plain":
        key = "its key is encrypted and secrets.yaml holds no passphrase for it"
        assert adopted.doit().failed["crl:legacy"] == (
            f"ca/legacy/key.pem: {key} → write into secrets.yaml: legacy: PASSPHRASE; or name where it comes from in "
            "pki.yaml: secrets: {legacy: prompt}"
        )
        write(adopted.path / "secrets.yaml", adopted.read("secrets.yaml") + b"legacy: wrong\n", 0o600)
        wrong = adopted.doit().failed["crl:legacy"]
        assert wrong.endswith(
            "the passphrase from secrets.yaml is wrong, or the file is damaged; correct it in secrets.yaml: legacy: PASSPHRASE"
        )
        adopted.edit("legacy: wrong", f"legacy: {WORDS}", "secrets.yaml")
    report = adopted.doit()
    assert (report.failed, list(report.made)) == ({}, ["crl:legacy"])


def test_passphrase_may_come_from_a_source_of_its_own(
    adopted: Home, old: OldCa, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.keep(adopted.path / "ca/legacy", encryption=serialization.BestAvailableEncryption(WORDS.encode()))
    adopted.edit("secrets: secrets.yaml", "secrets: {legacy: {env: OLD_WORDS}}")
    monkeypatch.setenv("OLD_WORDS", WORDS)
    invoke("ledger.import", "issuance_records")
    assert adopted.doit().failed == {}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "key.pem").unlink(), "ca/legacy/key.pem: the key of legacy is missing"),
        (lambda folder: (folder / "key.pem").chmod(0o640), "ca/legacy/key.pem: can be read by other users → chmod 600"),
        (
            lambda folder: (
                OldCa().keep(folder.parent / "x") and (folder.parent / "x/key.pem").rename(folder / "key.pem")
            ),
            "the signing key does not belong to the CA's certificate",
        ),
        (lambda folder: (folder / "cert.pem").unlink(), "ca/legacy: contains no CA certificate"),
        (lambda folder: write(folder / "cert.pem", b"no"), "ca/legacy/cert.pem: is not a certificate"),
    ],
)
def test_folder_that_is_not_as_it_should_be_fails_its_crl_alone(
    adopted: Home, invoke: Invoke, spoil: Callable[[Path], object], why: str
) -> None:
    invoke("ledger.import", "issuance_records")
    spoil(adopted.path / "ca/legacy")
    report = adopted.doit()
    assert list(report.failed) == ["crl:legacy"]
    assert why in report.failed["crl:legacy"]
    assert invoke("status").status == 0


@pytest.mark.parametrize("layout", ["easy_rsa", "openssl_ca"])
def test_layouts_of_other_programs_are_found(home: Home, old: OldCa, invoke: Invoke, layout: str) -> None:
    adopt(home, folder="old/pki-of-2019")
    folder = getattr(old, layout)(home.path / "old/pki-of-2019")
    assert invoke("ledger.import", str(folder)).status == 0
    assert home.doit().failed == {}


# -- one issuer's serial numbers say nothing about another's ----------------------------------------------------------


def test_two_adopted_cas_may_both_count_from_one(adopted: Home, invoke: Invoke) -> None:
    vpn = OldCa("VPN CA")
    vpn.issue("web", 1)
    vpn.issue("laptop", 2)
    vpn.revoke(1)
    adopt(adopted, "vpn")
    vpn.openssl_ca(adopted.path / "ca/vpn")
    assert "expected one of the adopted authorities" in invoke("ledger.import", "issuance_records").error
    assert invoke("ledger.import", "issuance_records", "--authority", "legacy").status == 0
    assert invoke("ledger.import", str(adopted.path / "ca/vpn"), "--authority", "vpn").status == 0
    assert adopted.doit().failed == {}
    assert (set(entries(adopted)), set(entries(adopted, "vpn"))) == ({2}, {1})
    assert recorded(adopted, "vpn")["vpn:laptop"].revoked == ""
    assert invoke("ledger.show", "02").out.count("serial ") == 2
    said = invoke("revoke", "2", "--reason", "superseded", "--yes")
    assert (said.status, "2: means legacy:alice and vpn:laptop" in said.error) == (1, True)
    assert invoke("revoke", "vpn:laptop", "--reason", "superseded", "--yes").status == 0
    assert (set(entries(adopted)), set(entries(adopted, "vpn"))) == ({2}, {1, 2})


def test_revoked_serial_of_an_old_ca_does_not_revoke_ours(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    ours = recorded(adopted, "client-1")["cert:client-admin"].serial
    old.issue("twin", ours)
    old.revoke(ours, "keyCompromise")
    old.openssl_ca(adopted.path.parent / "issuance_records")
    assert invoke("ledger.import", "issuance_records").status == 0
    assert list(adopted.doit().made) == ["crl:legacy"]
    project = adopted.project()
    assert not project.revocations.is_revoked(ours, certificate_unchanged=False)
    assert recorded(adopted, "client-1")["cert:client-admin"].revoked == ""
    assert ours not in {entry.serial_number for entry in crl_of(adopted, "client-1")}


EVENTS = "SELECT seq, at, kind, subject, row, previous, hash FROM events"
ALL_ROWS = (EVENTS, "SELECT * FROM certificates", "SELECT * FROM revocations")


def rows_and_indexes(home: Home) -> tuple[list[object], set[str], int]:
    """What is in a ledger's database: rows, names of its indexes, schema."""
    with closing(sqlite3.connect(home.path / "ca/ledger.db")) as db:
        rows: list[object] = [db.execute(query).fetchall() for query in ALL_ROWS]
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%'")}
        [(schema,)] = db.execute("SELECT schema FROM head").fetchall()
        return rows, names, schema


def test_ledger_of_the_first_schema_is_taken_over_with_every_hash_as_it_was(adopted: Home, invoke: Invoke) -> None:
    invoke("revoke", "admin", "--reason", "superseded", "--yes")
    old_ledgers.lay(adopted.path, 1)
    rows, names, schema = rows_and_indexes(adopted)
    assert (len(rows[2]), schema) == (1, 1)  # type: ignore[arg-type]
    assert adopted.project().ledger.verify() == []  # of a copy
    assert rows_and_indexes(adopted) == (rows, names, 1)
    project = Project.open(adopted.path, START, upgrades_ledger=True)
    assert project.ledger.verify() == []
    project.ledger.close()
    assert rows_and_indexes(adopted) == (rows, names | {"ix_decisions_artifact", "ix_crls_sha256"}, 3)
    vpn = OldCa("VPN CA")
    vpn.issue("web", 1)
    adopt(adopted, "vpn")
    vpn.openssl_ca(adopted.path / "ca/vpn")
    for name, folder in (("legacy", "issuance_records"), ("vpn", str(adopted.path / "ca/vpn"))):
        assert invoke("ledger.import", folder, "--authority", name).status == 0


# -- watched, revoked, delivered, kept --------------------------------------------------------------------------------


def test_status_sums_up_and_plan_does_not_flood(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    for serial in range(10, 50):
        old.issue(f"device-{serial}", serial, days=60 + serial)
    old.openssl_ca(adopted.path.parent / "issuance_records")
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    said = invoke("status").out
    assert "adopted: signs CRLs only; 41 valid certificates, the next expires on 2027-02-01 (device-10)" in said
    assert "device-11" not in said
    assert "legacy" not in invoke("plan").out
    notes = [
        one
        for one in forecast.required_actions(adopted.project(44), adopted.plan(44))
        if one.subject == "authority:legacy"
    ]
    ends = [(f"legacy:device-{day}", f"2027-02-0{day - 9}") for day in (10, 11, 12, 13)]
    text = ", ".join(f"{name} on {end}" for name, end in ends)
    assert [one.text for one in notes] == [f"certificates of this CA expire soon: {text}"]
    notes = [
        one
        for one in forecast.required_actions(adopted.project(60), adopted.plan(60))
        if one.subject == "authority:legacy"
    ]
    assert "legacy:device-14 on 2027-02-05 and 15 more" in notes[0].text
    assert notes[0].remedy.startswith("declare the service that uses it in pki.yaml (docs/how-to/adopt.md)")


def test_what_was_renewed_or_moved_over_is_not_noted_when_it_ends(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    old.issue("mail", 10, days=20)
    old.issue("mail", 11, days=500)
    old.issue("grafana", 12, days=20, names=("grafana.lab.internal",))
    old.issue("forgotten", 13, days=20, names=("forgotten.lab.internal",))
    old.openssl_ca(adopted.path.parent / "issuance_records")
    invoke("ledger.import", "issuance_records")
    [note] = [
        one for one in forecast.required_actions(adopted.project(), adopted.plan()) if one.subject == "authority:legacy"
    ]
    assert note.text == "certificates of this CA expire soon: legacy:forgotten on 2026-12-13"


@pytest.mark.parametrize("named", ["web", "legacy:web", "01", "1"])
def test_old_certificate_is_revoked_by_name_or_serial_number(adopted: Home, invoke: Invoke, named: str) -> None:
    invoke("ledger.import", "issuance_records")
    said = invoke("revoke", named, "--reason", "key-compromise", "--yes")
    assert said.status == 0, said.error
    assert entries(adopted) == {2: (REVOKED, "keyCompromise"), 1: (START, "keyCompromise")}
    assert "is revoked already" in invoke("revoke", named, "--reason", "superseded", "--yes").error


def test_serial_number_of_an_old_ca_is_not_taken_for_a_name_of_ours(adopted: Home, old: OldCa, invoke: Invoke) -> None:
    """`revoke ad` with a client `ad` means the client, whatever small number an old CA gave away."""
    old.issue("printer", 0xAD)
    old.openssl_ca(adopted.path.parent / "issuance_records")
    invoke("ledger.import", "issuance_records")
    adopted.edit("clients:\n", "clients:\n  ad: {email: ad@lab.internal}\n")
    adopted.doit()
    assert invoke("revoke", "ad", "--reason", "superseded", "--yes").status == 2
    assert 0xAD not in entries(adopted)
    assert recorded(adopted)["legacy:printer"].revoked == ""


def test_crl_travels_as_a_managed_file(adopted: Home, invoke: Invoke) -> None:
    adopted.write(
        "templates/old.crl",
        "# deploy-target: /srv/www/old.crl\n# deploy-hosts: monitoring\n# deploy-artifact: crl:legacy\n",
    )
    adopted.write(
        "templates/old.crt",
        "# deploy-target: /etc/old-ca.pem\n# deploy-hosts: monitoring\n# deploy-artifact: ca-pem:legacy\n",
    )
    invoke("ledger.import", "issuance_records")
    assert adopted.doit().failed == {}
    assert adopted.read("build/hosts/monitoring/srv/www/old.crl") == adopted.read("build/crl/legacy.crl")
    assert adopted.read("build/hosts/monitoring/etc/old-ca.pem") == adopted.read("ca/legacy/cert.pem")
    assert invoke("revoke", "web", "--reason", "superseded", "--yes").status == 0
    delivered = x509.load_der_x509_crl(adopted.read("build/hosts/monitoring/srv/www/old.crl"))
    assert {entry.serial_number for entry in delivered} == {1, 2}


def test_service_in_between_may_trust_both_cas_by_two_files_of_its_own(adopted: Home, invoke: Invoke) -> None:
    head = "# deploy-target: /etc/{}.pem\n# deploy-hosts: forge\n"
    trust = '{{ artifact("trust:client-chain") }}{{ artifact("ca-pem:legacy") }}\n'
    crls = '{{ artifact("crl:bundle-client") }}{{ artifact("crl-pem:legacy") }}\n'
    adopted.write("templates/both-cas.pem", head.format("both-cas") + trust)
    adopted.write("templates/both-crls.pem", head.format("both-crls") + crls)
    invoke("ledger.import", "issuance_records")
    assert adopted.doit().failed == {}
    assert adopted_ca(adopted) in judges.certificates(adopted.read("build/hosts/forge/etc/both-cas.pem"))
    assert crl_of(adopted) in judges.crls(adopted.read("build/hosts/forge/etc/both-crls.pem"))
    assert invoke("revoke", "web", "--reason", "superseded", "--yes").status == 0
    assert crl_of(adopted) in judges.crls(adopted.read("build/hosts/forge/etc/both-crls.pem"))


def test_deployer_takes_crls_of_an_adopted_ca_and_certificates_not(old: OldCa) -> None:
    trust = Trust(b"", b"", adopted_pem=pem(old.certificate))
    (listed,) = crl_files.parse_crls(old.crl({}).public_bytes(serialization.Encoding.DER))
    assert trust.has_signed(listed)
    assert trust.issuer(old.issued[1]) is None


def test_nothing_treats_an_adopted_ca_as_one_of_ours(adopted: Home, invoke: Invoke) -> None:
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    for path in (adopted.path / "build/trust").iterdir():
        assert b"legacy" not in path.name.encode()
        assert pem(adopted_ca(adopted)) not in path.read_bytes()
    assert len(judges.crls(adopted.read("build/crl/bundle-client.pem"))) == 2
    assert adopted.project().authorities.issuing("legacy") is None


def adopted_ca(home: Home) -> x509.Certificate:
    return judges.certificate(home.path / "ca/legacy/cert.pem")


def test_authority_that_left_pki_yaml_takes_its_crl_with_it(adopted: Home, invoke: Invoke) -> None:
    invoke("ledger.import", "issuance_records")
    adopted.doit()
    adopted.edit("  legacy: {adopt: ca/legacy}\n", "")
    assert "build/crl/legacy.crl was no longer needed" in adopted.doit().made["cleanup:build"]
    assert not (adopted.path / "build/crl/legacy.crl").exists()
    assert invoke("plan").status == 0


@pytest.mark.parametrize("folder", ["ca/legacy", "old-ca"])
def test_backup_holds_the_adopted_folder_and_restore_loses_no_revocation(
    home: Home, old: OldCa, invoke: Invoke, tmp_path: Path, folder: str
) -> None:
    adopt(home, folder=folder)
    old.revoke(2, "certificateHold")
    old.openssl_ca(home.path / folder)
    words = write(tmp_path / "words", b"six random words that nobody ever guesses\n", 0o600)
    said = invoke("backup", str(tmp_path / "kept.age"), "--passphrase-file", str(words))
    assert said.status == 0, said.error
    invoke("ledger.import", str(home.path / folder))
    assert home.doit().failed == {}
    home.path.joinpath("ca").rename(tmp_path / "lost")
    if folder != "ca/legacy":
        home.path.joinpath(folder).rename(tmp_path / "lost-too")
    said = invoke("restore", str(tmp_path / "kept.age"), "--to", str(home.path), "--passphrase-file", str(words))
    assert said.status == 0, said.error
    assert (home.path / folder / "private/cakey.pem").stat().st_mode & 0o777 == 0o600
    home.doit(days=8)
    assert entries(home) == {2: (REVOKED, "certificateHold")}


def test_backup_says_when_an_adopted_folder_is_not_in_it(
    home: Home, old: OldCa, invoke: Invoke, tmp_path: Path
) -> None:
    adopt(home, folder=str(tmp_path / "elsewhere"))
    old.openssl_ca(tmp_path / "elsewhere")
    words = write(tmp_path / "words", b"six random words that nobody ever guesses\n", 0o600)
    said = invoke("backup", str(tmp_path / "kept.age"), "--passphrase-file", str(words))
    assert f"{tmp_path}/elsewhere is outside the project and NOT in this file" in said.out


def test_import_names_what_is_missing(home: Home, old: OldCa, invoke: Invoke) -> None:
    assert "pki.yaml adopts no authority" in invoke("ledger.import", "issuance_records").error
    adopt(home)
    assert "issuance_records: is not a folder" in invoke("ledger.import", "issuance_records").error
    old.openssl_ca(home.path.parent / "issuance_records")
    assert "ca/legacy: contains no CA certificate" in invoke("ledger.import", "issuance_records").error
    old.keep(home.path / "ca/legacy")
    (home.path.parent / "empty").mkdir()
    assert (
        "empty: contains nothing that legacy signed (CN=Old CA); no certificate found"
        in invoke("ledger.import", "empty").error
    )


def test_project_without_an_adopted_authority_knows_none(home: Home) -> None:
    project = Project.open(home.path, START)
    assert project.inventory.authorities.adopted == {}
    with pytest.raises(PkiError, match="unknown artifact"):
        DesiredState.of(project).artifact_files("crl:legacy")


def test_explain_knows_an_adopted_ca_and_its_crl_before_and_after_the_import(adopted: Home, invoke: Invoke) -> None:
    before = invoke("explain", "legacy")
    assert before.out.splitlines()[0] == "authority:legacy"
    assert "authorities.legacy; its folder: ca/legacy" in before.out
    assert "ledger.import DIR --authority legacy" in before.out
    assert "does not exist" in invoke("explain", "crl:legacy").out
    assert invoke("ledger.import", "issuance_records").status == 0
    adopted.doit()
    after = invoke("explain", "authority:legacy").out
    assert "1 valid certificate" in after
    assert "ledger.import" not in after
    assert "invoke revoke legacy:web" in after
    crl = invoke("explain", "crl:legacy").out
    assert "1 certificate; number" in crl
    assert "refuse every certificate that legacy issued" in crl
    assert "did you mean legacy?" in invoke("explain", "legasy").error


def test_a_folder_of_a_ca_that_issued_nothing_is_refused_with_what_to_do(adopted: Home, invoke: Invoke) -> None:
    (adopted.path.parent / "new").mkdir()
    (adopted.path.parent / "new/index.txt").write_text("")
    assert "remove authorities.legacy from pki.yaml" in invoke("ledger.import", "new").error
