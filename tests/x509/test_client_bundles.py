"""What is handed out to devices: shapes, refusals, and passphrases that stand in one place alone."""

from __future__ import annotations

import json
import os
import plistlib
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import LedgerError
from pki.ledger.ledger import SqlLedger
from pki.x509.export import chrome_policy, mobileconfig, passphrase_sheet
from pki.x509.export.client_identity import ClientIdentity
from pki.x509.export.generated_passphrase import ALPHABET, new_passphrase
from tests.support import judges
from tests.support.ceremonies import RealHome
from tests.support.export_desk import Desk, desk, folder
from tests.support.projects import START, Home

__all__ = ["desk"]

AES_256_CBC, PBES1_3DES = bytes.fromhex("060960864801650304012a"), bytes.fromhex("060a2a864886f70d010c0103")
SHA_256, SHA_1 = bytes.fromhex("0609608648016503040201"), bytes.fromhex("06052b0e03021a")
SEALED = ["p12", "p12-legacy", "mobileconfig"]
PASSPHRASE = re.compile(rf"[{ALPHABET}]{{4}}(-[{ALPHABET}]{{4}}){{5}}")
MTLS = ["grafana", "prometheus", "loki", "forgejo"]


def opened(data: bytes, passphrase: str) -> pkcs12.PKCS12KeyAndCertificates:
    return pkcs12.load_pkcs12(data, passphrase.encode())


def payloads(profile: bytes) -> dict[str, list[dict[str, Any]]]:
    """The payloads of a configuration profile by the end of their type: `root`, `pkcs12`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for payload in plistlib.loads(profile)["PayloadContent"]:
        found.setdefault(payload["PayloadType"].rpartition(".")[2], []).append(payload)
    return found


def identity(home: Home, name: str = "admin") -> ClientIdentity:
    bundle, roots = home.read("ca/clients/admin/tls.pem"), home.read("build/trust/roots.pem")
    return ClientIdentity.read(name, "Example Lab", bundle, roots)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- what a bundle holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p12", "p12-legacy"])
def test_a_bundle_holds_key_certificate_chain_and_root_under_the_clients_name(desk: Desk, kind: str) -> None:
    found = opened(*desk.sealed(kind))
    bundle = judges.Identity.read(desk.home.path / "ca/clients/admin/tls.pem")
    assert found.cert is not None
    assert found.key is not None
    assert found.cert.certificate == bundle.leaf
    assert found.key.public_key() == bundle.leaf.public_key()
    assert found.cert.friendly_name == b"admin (Example Lab)"
    root = judges.certificate(desk.home.path / "build/trust/roots.pem")
    assert [one.certificate for one in found.additional_certs] == [bundle.intermediate, root]
    assert [one.friendly_name for one in found.additional_certs] == [
        judges.common_name(one).encode() for one in (bundle.intermediate, root)
    ]


def test_each_format_is_encrypted_as_its_systems_can_read_it(desk: Desk) -> None:
    modern, legacy = desk.sealed("p12")[0], desk.sealed("p12-legacy", file="old")[0]
    (inner,) = payloads(desk.sealed("mobileconfig", file="profile")[0])["pkcs12"]
    for data, is_modern in ((modern, True), (legacy, False), (inner["PayloadContent"], False)):
        assert (AES_256_CBC in data, SHA_256 in data) == (is_modern, is_modern)
        assert (PBES1_3DES in data, SHA_1 in data) == (not is_modern, not is_modern)


def test_a_label_beyond_ascii_arrives_whole(home: Home) -> None:
    one = identity(home)
    foreign = ClientIdentity(one.name, "Müller 電子", one.key, one.certificate, one.chain, one.roots)
    data = mobileconfig.with_identity(foreign, "lab.internal", "abcd")
    (inner,) = payloads(data)["pkcs12"]
    cert = opened(inner["PayloadContent"], "abcd").cert
    assert cert is not None
    assert cert.friendly_name == "admin (Müller 電子)".encode()
    assert plistlib.loads(data)["PayloadOrganization"] == "Müller 電子"


def test_pem_files_are_for_their_owner_alone_and_trust_every_root(desk: Desk) -> None:
    code, said = desk.export("admin", "--format", "pem", "--yes")
    assert code == 0
    assert f"curl --cert {desk.here}/admin/tls.pem" in said
    assert desk.there == {f"admin/{name}.pem" for name in ("tls", "key", "fullchain", "roots")}
    assert mode(desk.here / "admin") == 0o700
    assert {mode(desk.here / name) for name in desk.there} == {0o600}
    clients = desk.home.path / "ca/clients/admin"
    for name in ("tls.pem", "key.pem", "fullchain.pem"):
        assert judges.certificates((desk.here / "admin" / name).read_bytes()) == judges.certificates(
            (clients / name).read_bytes()
        )
        assert judges.PEM_KEY.findall((desk.here / "admin" / name).read_bytes()) == judges.PEM_KEY.findall(
            (clients / name).read_bytes()
        )
    assert (desk.here / "admin/roots.pem").read_bytes() == desk.home.read("build/trust/roots.pem")


# -- Apple's profiles -------------------------------------------------------------------------------------------------


def test_a_profile_brings_root_and_identity_and_lets_the_device_ask_for_the_passphrase(desk: Desk) -> None:
    data, passphrase = desk.sealed("mobileconfig")
    profile, found = plistlib.loads(data), payloads(data)
    assert profile["PayloadType"] == "Configuration"
    assert profile["PayloadRemovalDisallowed"] is False
    assert set(found) == {"root", "pkcs12"}
    (root,), (bundle,) = found["root"], found["pkcs12"]
    expected = judges.certificate(desk.home.path / "build/trust/roots.pem")
    assert x509.load_der_x509_certificate(root["PayloadContent"]) == expected
    assert b"Password" not in data
    assert passphrase.encode() not in data
    inner = opened(bundle["PayloadContent"], passphrase)
    assert [one.certificate for one in inner.additional_certs] == [
        judges.Identity.read(desk.home.path / "ca/clients/admin/tls.pem").intermediate
    ]
    identifiers = [one["PayloadIdentifier"] for one in (profile, root, bundle)]
    assert all(one.startswith("internal.lab.doit-pki.client.") for one in identifiers)
    assert len(set(identifiers)) == len({one["PayloadUUID"] for one in (profile, root, bundle)}) == 3


def test_a_renewed_profile_replaces_the_one_before(desk: Desk) -> None:
    before = desk.sealed("mobileconfig")[0]
    assert "cert:client-admin" in desk.home.doit(days=151).made
    after = desk.sealed("mobileconfig", file="later", days=151)[0]
    assert before != after

    def marks(data: bytes) -> list[tuple[str, str]]:
        profile = plistlib.loads(data)
        return [(one["PayloadIdentifier"], one["PayloadUUID"]) for one in (profile, *profile["PayloadContent"])]

    assert marks(before) == marks(after)


def test_profiles_of_two_clients_stand_beside_each_other_however_alike_their_names(home: Home) -> None:
    made = [
        plistlib.loads(mobileconfig.with_identity(identity(home, name), "lab.internal", "abcd"))
        for name in ("admin@laptop", "admin-laptop", "admin")
    ]
    for key in ("PayloadIdentifier", "PayloadUUID"):
        assert len({profile[key] for profile in made}) == 3
        assert len({one[key] for profile in made for one in profile["PayloadContent"]}) == 6


def test_a_profile_for_trust_alone_holds_no_identity_and_is_another_profile(home: Home) -> None:
    roots = identity(home).roots
    data = mobileconfig.trust_only("Example Lab", "lab.internal", roots)
    assert set(payloads(data)) == {"root"}
    assert plistlib.loads(data)["PayloadIdentifier"] == "internal.lab.doit-pki.trust"
    assert data == mobileconfig.trust_only("Example Lab", "lab.internal", roots)


# -- policies ---------------------------------------------------------------------------------------------------------


def choices(policy: dict[str, Any]) -> list[tuple[str, str]]:
    """Pattern and issuer of each choice."""
    found = [json.loads(text) for text in policy["AutoSelectCertificateForUrls"]]
    return [(one["pattern"], one["filter"]["ISSUER"]["CN"]) for one in found]


def test_chrome_chooses_by_issuer_for_each_service_behind_mutual_tls_and_no_other(desk: Desk) -> None:
    code, said = desk.export("admin", "--format", "chrome-policy")
    assert code == 0
    assert "/etc/chromium/policies/managed/" in said
    policy = json.loads((desk.here / "example-lab-chrome.json").read_text())
    issuer = judges.common_name(judges.Identity.read(desk.home.path / "ca/clients/admin/tls.pem").intermediate)
    assert choices(policy) == [(f"https://{name}.lab.internal", issuer) for name in MTLS]
    (trusted,) = policy["CACertificatesWithConstraints"]
    assert trusted["constraints"] == {"permitted_dns_names": ["lab.internal"], "permitted_cidrs": ["10.0.0.0/8"]}


def test_chrome_knows_a_wildcard_by_its_own_sign(home: Home) -> None:
    names = ["*.wiki.lab.internal", "10.1.2.3"]
    said = json.loads(chrome_policy.policy(names, identity(home).chain, [], ["lab.internal"], []))
    assert [pattern for pattern, _ in choices(said)] == ["https://[*.]wiki.lab.internal", "https://10.1.2.3"]


def test_firefox_is_given_the_roots_as_files_and_need_not_ask(desk: Desk) -> None:
    assert desk.export("admin", "--format", "firefox-policy")[0] == 0
    place = desk.here / "example-lab-firefox"
    said = json.loads((place / "policies.json").read_text())["policies"]
    assert said["Preferences"]["security.default_personal_cert"]["Value"] == "Select Automatically"
    (name,) = said["Certificates"]["Install"]
    assert judges.certificate(place / name) == judges.certificate(desk.home.path / "build/trust/roots.pem")
    assert {mode(path) for path in place.iterdir()} == {0o644}


def test_during_a_rollover_policies_and_bundles_know_old_and_new(
    real: RealHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real.ceremony(RequestOptions(generations=("root", "client")), days=1)
    report = real.doit(days=1)
    assert report.status == 0, report.failed
    desk = Desk(real, folder(tmp_path), capsys)
    for kind in ("chrome-policy", "firefox-policy"):
        assert desk.export("admin", "--format", kind, days=1)[0] == 0
    roots = [real.certificate("root-2"), real.certificate("root-1")]
    policy = json.loads((desk.here / "example-lab-chrome.json").read_text())
    assert set(choices(policy)) == {
        (f"https://{name}.lab.internal", judges.common_name(real.certificate(generation)))
        for name in MTLS
        for generation in ("client-1", "client-2")
    }
    assert len(policy["CACertificatesWithConstraints"]) == 2
    assert len({path.name for path in (desk.here / "example-lab-firefox").glob("*.pem")}) == 2
    found = opened(*desk.sealed("p12", days=1))
    others = [one.certificate for one in found.additional_certs]
    assert others[0] == real.certificate("client-2")
    assert others[-2:] == roots
    profile = payloads(desk.sealed("mobileconfig", file="profile", days=1)[0])
    assert [x509.load_der_x509_certificate(one["PayloadContent"]) for one in profile["root"]] == roots


# -- the passphrase ---------------------------------------------------------------------------------------------------


def test_passphrases_are_long_and_plain_and_never_the_same() -> None:
    made = {new_passphrase() for _ in range(50)}
    assert len(made) == 50
    assert all(PASSPHRASE.fullmatch(one) for one in made)
    assert not set("ilo01") & set(ALPHABET)
    assert len(ALPHABET) ** 24 > 2**117


@pytest.mark.parametrize("kind", SEALED)
@pytest.mark.parametrize("option", ["--sheet", "--passphrase-to"])
def test_the_passphrase_stands_where_it_was_asked_for_and_nowhere_else(desk: Desk, kind: str, option: str) -> None:
    before = os.umask(0o000)
    try:
        code, said = desk.export("admin", "--format", kind, "--yes", option, "way/there.html", "--output", "it")
    finally:
        os.umask(before)
    assert code == 0, said
    assert desk.there == {"it", "way/there.html"}
    assert {mode(desk.here / name) for name in desk.there} == {0o600}
    text = re.sub(r"</span><span>", "", (desk.here / "way/there.html").read_text())
    found = PASSPHRASE.search(text)
    assert found
    passphrase = found[0]
    data = (desk.here / "it").read_bytes()
    (inner,) = payloads(data)["pkcs12"] if kind == "mobileconfig" else [{"PayloadContent": data}]
    assert opened(inner["PayloadContent"], passphrase).key is not None
    assert passphrase not in said
    for path in (*desk.home.path.rglob("*"), desk.here / "it"):
        if path.is_file():
            assert passphrase.encode() not in path.read_bytes(), path


def test_at_a_terminal_the_passphrase_is_shown_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, said = desk.export("admin", "--format", "p12", "--yes")
    assert code == 0
    (passphrase,) = [found[0] for found in PASSPHRASE.finditer(said)]
    assert opened((desk.here / "admin.p12").read_bytes(), passphrase).key is not None
    assert "client.installed admin" in said
    assert desk.there == {"admin.p12"}


def test_no_passphrase_shows_in_what_python_says_of_a_sheet(home: Home) -> None:
    told = passphrase_sheet.Sheet(identity(home), "p12", "admin.p12", "0" * 64, "abcd-efgh", START, "")
    assert "abcd" not in repr(told)
    assert b"abcd" in told.page()


def test_a_sheet_says_for_whom_with_which_file_and_until_when(home: Home) -> None:
    for kind in SEALED:
        page = passphrase_sheet.Sheet(
            identity(home, "a&b"), kind, "x.p12", "0a" * 32, "abcd-efgh", START, "wiki.lab.internal"
        ).page()
        for word in (
            "a&amp;b",
            "x.p12",
            "0a0a 0a0a",
            "2026-11-23",
            "2027-05-22",
            "https://wiki.lab.internal/",
            "Destroy",
        ):
            assert word in page.decode(), word
    assert "Windows" in passphrase_sheet.Sheet(identity(home), "p12", "", "", "", START, "").page().decode()
    assert "iPhone" in page.decode()


def test_an_export_says_what_to_do_with_each_file_and_what_to_type_next(desk: Desk) -> None:
    code, text = desk.export("admin", "--format", "p12", "--output", "phone.p12", "--yes", "--passphrase-to", "pw")
    assert code == 0
    assert "send it by another way than phone.p12, then destroy it" in text
    assert "next, when it is on the device: ./run invoke client.installed admin" in text


def test_a_key_that_browsers_do_not_take_is_told(desk: Desk) -> None:
    desk.home.edit("  admin: {", "  admin: {key: ed25519, ")
    desk.home.doit()
    code, said = desk.export("admin", "--format", "p12", "--yes", "--passphrase-to", "pw")
    assert (code, "do not accept Ed25519 keys" in said) == (0, True)


@pytest.mark.parametrize("kind", SEALED)
def test_a_format_that_cannot_have_an_ml_dsa_key_is_refused_before_anything_is_written(desk: Desk, kind: str) -> None:
    desk.home.edit("  admin: {", "  admin: {key: ml-dsa-65, ")
    desk.home.doit()
    before = desk.there
    code, text = desk.export("admin", "--format", kind, "--yes", "--passphrase-to", "pw")
    assert (code, desk.there) == (1, before)
    assert "admin: no PKCS#12 file can be written with a key of kind ml-dsa-65" in text
    assert "key: ec-p256" in text


def test_an_ml_dsa_key_is_exported_as_pem_with_a_warning(desk: Desk) -> None:
    desk.home.edit("  admin: {", "  admin: {key: ml-dsa-65, ")
    desk.home.doit()
    code, text = desk.export("admin", "--format", "pem", "--yes")
    assert (code, "only those with OpenSSL 3.5 or newer" in text) == (0, True)
    code, text = desk.export("admin@laptop", "--format", "pem", "--yes")
    assert (code, "OpenSSL 3.5" in text) == (0, False)


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_knows_which_certificate_was_handed_out_and_how(desk: Desk) -> None:
    for kind in SEALED:
        desk.sealed(kind, file=kind)
    assert desk.export("admin", "--format", "pem", "--yes")[0] == 0
    assert desk.export("admin", "--format", "chrome-policy")[0] == 0
    serial = judges.Identity.read(desk.home.path / "ca/clients/admin/tls.pem").leaf.serial_number
    ledger = desk.home.project().ledger
    told = [(one.artifact, one.decision, one.detail) for one in ledger.decisions()]
    assert told == [("cert:client-admin", "exported", f"{serial:x} {kind}") for kind in (*SEALED, "pem")]
    assert ledger.verify() == []


@pytest.mark.parametrize("kind", ["p12", "pem"])
def test_what_the_ledger_cannot_take_is_not_handed_out(desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def full(*_: object) -> None:
        raise LedgerError("ca/ledger.db: database or disk is full")

    monkeypatch.setattr(SqlLedger, "record_decision", full)
    arguments = ["--passphrase-to", "pw"] if kind == "p12" else []
    code, said = desk.export("admin", "--format", kind, "--yes", *arguments)
    assert (code, "disk is full" in said) == (1, True)
    assert list(desk.here.iterdir()) == []


# -- a person decides -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "files"), [("yes", {"admin.p12", "pw"}), ("no", set()), ("", set())])
def test_somebody_is_asked_and_may_say_no(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, files: set[str]
) -> None:
    asked: list[str] = []

    def typing(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", typing)
    desk.export("admin", "--format", "p12", "--passphrase-to", "pw")
    assert desk.there == files
    assert asked == [f"export the private key of admin as {desk.here}/admin.p12? (yes or no) "]


Prepare = Callable[[Desk], object]


def revoke(desk: Desk) -> None:
    project = desk.home.project()
    (issued,) = [one for one in project.ledger.certificates(artifact="cert:client-admin") if not one.revoked]
    project.ledger.record_revocation(issued, reason="keyCompromise", at=project.now)
    project.ledger.close()


REFUSED: dict[str, tuple[Prepare, list[str], str]] = {
    "without a format": (lambda _: None, ["admin"], "--format is missing"),
    "in an unknown format": (lambda _: None, ["admin", "--format", "p12-old"], "did you mean p12"),
    "an unknown client": (lambda _: None, ["amdin", "--format", "pem"], "did you mean admin"),
    "without a terminal to ask at": (
        lambda _: None,
        ["admin", "--format", "pem"],
        "there is no terminal to ask",
    ),
    "without a way for the passphrase": (
        lambda _: None,
        ["admin", "--format", "p12", "--yes"],
        "no terminal to show the passphrase",
    ),
    "with two ways for the passphrase": (
        lambda _: None,
        ["admin", "--format", "p12", "--yes", "--sheet", "a", "--passphrase-to", "b"],
        "exclude each other",
    ),
    "passphrase and bundle in one file": (
        lambda _: None,
        ["admin", "--format", "p12", "--yes", "--sheet", "x", "--output", "x"],
        "cannot be in the same file",
    ),
    "a passphrase for what has none": (
        lambda _: None,
        ["admin", "--format", "chrome-policy", "--sheet", "a"],
        "has no passphrase",
    ),
    "a client whose key is elsewhere": (
        lambda desk: desk.home.edit("  admin: {", "  admin: {request: requests/admin.csr, "),
        ["admin", "--format", "p12", "--yes", "--sheet", "s"],
        "its key is not in this project",
    ),
    "a client that doit has not seen": (
        lambda _: None,
        ["admin@laptop", "--format", "pem", "--yes"],
        "does not exist",
    ),
    "a revoked client": (revoke, ["admin", "--format", "pem", "--yes"], "is revoked"),
    "a damaged identity": (
        lambda desk: desk.home.write("ca/clients/admin/tls.pem", "nothing"),
        ["admin", "--format", "pem", "--yes"],
        "tls.pem is damaged",
    ),
    "over a bundle": (
        lambda desk: (desk.here / "admin.p12").write_text("mine"),
        ["admin", "--format", "p12", "--yes", "--sheet", "s"],
        "exists already, and is not overwritten",
    ),
    "over a sheet": (
        lambda desk: (desk.here / "s").write_text("mine"),
        ["admin", "--format", "p12", "--yes", "--sheet", "s"],
        "exists already, and is not overwritten",
    ),
    "into a folder that cannot be": (
        lambda desk: (desk.here / "file").write_text("mine"),
        ["admin", "--format", "pem", "--yes", "--output", "file/admin"],
        "file/admin: cannot be created: Not a directory",
    ),
    "over a policy": (
        lambda desk: (desk.here / "example-lab-chrome.json").write_text("mine"),
        ["admin", "--format", "chrome-policy"],
        "exists already, and is not overwritten",
    ),
    "into a folder that others may write to": (
        lambda desk: desk.here.chmod(0o777),
        ["admin", "--format", "pem", "--yes"],
        "can be written by other users",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_is_handed_out(desk: Desk, what: str) -> None:
    prepare, arguments, reason = REFUSED[what]
    prepare(desk)
    before = {name: (desk.here / name).read_bytes() for name in desk.there}
    code, said = desk.export(*arguments)
    assert (code, "Traceback" in said) == (1, False), said
    assert reason in said
    assert "→" in said
    assert {name: (desk.here / name).read_bytes() for name in desk.there} == before
    assert desk.home.project().ledger.decisions() == []


def test_an_expired_certificate_is_not_handed_out(desk: Desk) -> None:
    code, said = desk.export("admin", "--format", "pem", "--yes", days=181)
    assert code == 1
    assert "cert:client-admin: expired on 2027-05-22" in said
    assert desk.there == set()


def test_names_of_devices_become_names_of_files(desk: Desk) -> None:
    desk.home.doit()
    for name in ("admin@laptop", "client-admin@laptop", "cert:client-admin@laptop"):
        code, said = desk.export(name, "--format", "p12", "--yes", "--passphrase-to", "pw")
        assert code == 0, said
        assert desk.there == {"admin-laptop.p12", "pw"}
        for file in desk.there:
            (desk.here / file).unlink()
