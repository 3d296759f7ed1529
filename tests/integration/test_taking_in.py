"""A CA that easy-rsa or `openssl ca` really ran is taken in, and other programs judge the CRL that follows."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.conftest import LiveHome, run

EASY_RSA = Path("/usr/share/easy-rsa/easyrsa")
WHOLE, REVOKED = 500, 40
REASONS = ("", "keyCompromise", "superseded", "affiliationChanged", "cessationOfOperation")
ENTRY = re.compile(
    r"Serial Number: (\w+)\n\s+Revocation Date: (.+?) GMT\n(?:\s+CRL entry extensions:\n\s+X509v3 CRL Reason Code: \n\s+(.+)\n)?"
)


@dataclass(frozen=True)
class Kept:
    """An old CA's folder: its certificate, its last CRL, certificates that are good and that are revoked."""

    folder: Path
    certificate: Path
    good: Path
    revoked: Path


def requests(folder: Path, names: list[str]) -> Iterator[Path]:
    """Requests of one key: what is made of them is what matters here, five hundred times."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    for name in names:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        path = folder / f"{name}.req"
        path.write_bytes(request.public_bytes(serialization.Encoding.PEM))
        yield path


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A CA that easy-rsa founded and used, with 500 certificates of which 40 are revoked.

    easy-rsa takes 0.2 s for each; with its own database and settings, `openssl ca` made most of them in one go.
    """
    home = tmp_path_factory.mktemp("easy")
    pki = home / "pki"
    said = {"EASYRSA_BATCH": "1", "EASYRSA_PKI": str(pki), "EASYRSA_ALGO": "ec", "EASYRSA_CURVE": "prime256v1"}

    def easyrsa(*words: str, **more: str) -> None:
        run(EASY_RSA, *words, cwd=home, env={**os.environ, **said, **more})

    easyrsa("init-pki")
    easyrsa("build-ca", "nopass", EASYRSA_REQ_CN="Easy-RSA of 2019")
    easyrsa("build-server-full", "vpn.old.example", "nopass")
    for name in ("alice", "bob", "carol"):
        easyrsa("build-client-full", name, "nopass")
    config = pki / "safessl-easyrsa.cnf"
    many = list(requests(home / "requests", [f"device-{number}" for number in range(WHOLE - 4)]))
    run(
        "openssl",
        "ca",
        "-config",
        config,
        "-batch",
        "-notext",
        "-extfile",
        EASY_RSA.parent / "x509-types/client",
        "-infiles",
        *many,
    )
    easyrsa("revoke", "bob", "keyCompromise")
    easyrsa("revoke", "carol")
    rows = [row.split("\t") for row in (pki / "index.txt").read_text().splitlines()]
    devices = [row[3] for row in rows if "/CN=device-" in row[5]]
    for number, serial in enumerate(devices[: REVOKED - 2]):
        reason = REASONS[number % len(REASONS)]
        words = ("-crl_reason", reason) if reason else ()
        run("openssl", "ca", "-config", config, "-revoke", pki / f"certs_by_serial/{serial}.pem", *words)
    easyrsa("gen-crl")
    shutil.rmtree(home / "requests")
    revoked = pki / f"certs_by_serial/{devices[0]}.pem"
    return Kept(pki, pki / "ca.crt", pki / "issued/alice.crt", revoked)


CONFIG = """\
[ca]
default_ca = old
[old]
dir = {folder}
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
default_md = sha256
default_days = 400
default_crl_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = any
[ca_ext]
basicConstraints = critical,CA:true
subjectKeyIdentifier = none
"""


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A CA of `openssl ca`: an RSA key under a passphrase in OpenSSL's older form, no SKI, serial numbers from 01."""
    folder = tmp_path_factory.mktemp("classic") / "demoCA"
    (folder / "private").mkdir(parents=True)
    (folder / "newcerts").mkdir()
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "crlnumber").write_text("1000\n")
    config, key = folder.parent / "old.cnf", folder / "private/cakey.pem"
    config.write_text(CONFIG.format(folder=folder))
    opened = ("-passin", "pass:old words")
    run("openssl", "genrsa", "-traditional", "-aes256", "-passout", "pass:old words", "-out", key, "2048")
    run("openssl", "req", "-x509", "-config", config, "-extensions", "ca_ext", "-key", key, *opened, "-subj", "/CN=Old CA", "-days", "3650", "-out", folder / "cacert.pem")  # fmt: skip
    many = list(requests(folder.parent / "requests", [f"box-{number}" for number in range(1, 8)]))
    run("openssl", "ca", "-config", config, "-batch", *opened, "-infiles", *many[:5])
    for request, digest in zip(many[5:], ("sha1", "md5"), strict=True):  # as it was usual once
        run("openssl", "ca", "-config", config, "-batch", *opened, "-md", digest, "-infiles", request)
    ways = {2: ("-crl_compromise", "20260101000000Z"), 3: ("-crl_CA_compromise", "20260101000000Z"), 4: ("-crl_hold", "holdInstructionReject"), 5: ("-crl_reason", "superseded"), 6: ()}  # fmt: skip
    for serial, words in ways.items():
        run("openssl", "ca", "-config", config, *opened, "-revoke", folder / f"newcerts/0{serial}.pem", *words)
    run("openssl", "ca", "-config", config, *opened, "-gencrl", "-out", folder / "crl.pem")
    return Kept(folder, folder / "cacert.pem", folder / "newcerts/01.pem", folder / "newcerts/06.pem")


def adopt(home: LiveHome, kept: Kept) -> None:
    shutil.copytree(kept.folder, home.path / "ca/legacy")
    home.edit("  client: {lifetime: 2y,", "  legacy: {adopt: ca/legacy}\n  client: {lifetime: 2y,")


def listed(path: Path) -> set[tuple[str, str, str]]:
    """Serial number, date and reason of every entry, as openssl prints them."""
    text = run("openssl", "crl", "-in", path, "-noout", "-text")
    found = {(serial, date, reason.strip()) for serial, date, reason in ENTRY.findall(text)}
    assert len(found) == text.count("Serial Number:")
    return found


def verdict(kept: Kept, crl: Path, certificate: Path) -> str:
    text = run("openssl", "verify", "-crl_check", "-CAfile", kept.certificate, "-CRLfile", crl, certificate, ok=None)
    return "revoked" if "certificate revoked" in text else text.strip().rpartition(": ")[2]


def test_easy_rsa_ca_with_500_certificates_goes_on_with_the_same_40_revoked(home: LiveHome, easy: Kept) -> None:
    adopt(home, easy)
    said = home.invoke("ledger.import", str(home.path / "ca/legacy"))
    assert f"{WHOLE} certificates of legacy: {WHOLE - REVOKED} valid, 0 expired; {REVOKED} revocations" in said
    assert home.doit().failed == {}
    crl = home.path / "build/crl/legacy.pem"
    assert len(listed(crl)) == REVOKED
    assert listed(crl) == listed(easy.folder / "crl.pem")
    assert [verdict(easy, crl, one) for one in (easy.good, easy.revoked)] == ["OK", "revoked"]
    run("certtool", "--verify-crl", "--load-ca-certificate", easy.certificate, "--infile", crl)
    run("certtool", "--verify", "--load-ca-certificate", easy.certificate, "--load-crl", crl, "--infile", easy.good)
    run(
        "certtool",
        "--verify",
        "--load-ca-certificate",
        easy.certificate,
        "--load-crl",
        crl,
        "--infile",
        easy.revoked,
        ok=False,
    )
    assert "ledger intact" in home.invoke("ledger.verify")


def test_old_and_new_crl_side_by_side_count_as_the_new_one(home: LiveHome, easy: Kept) -> None:
    """A server may have both for a while; OpenSSL believes the newest thisUpdate."""
    adopt(home, easy)
    home.invoke("ledger.import", str(easy.folder))
    home.invoke("revoke", "alice", "--reason", "key-compromise", "--yes")
    crl, both = home.path / "build/crl/legacy.pem", home.path / "both.pem"
    assert len(listed(crl)) == REVOKED + 1
    for order in ((crl, easy.folder / "crl.pem"), (easy.folder / "crl.pem", crl)):
        both.write_bytes(b"".join(path.read_bytes() for path in order))
        assert verdict(easy, both, easy.good) == "revoked"


def test_openssl_ca_goes_on_with_every_reason_and_a_higher_number(home: LiveHome, classic: Kept) -> None:
    adopt(home, classic)
    secrets = home.path / "secrets.yaml"
    secrets.write_text(secrets.read_text() + "legacy: old words\n")
    assert "7 certificates of legacy: 2 valid, 0 expired; 5 revocations" in home.invoke(
        "ledger.import", str(classic.folder.parent)
    )
    assert home.doit().failed == {}
    crl = home.path / "build/crl/legacy.pem"
    text = run("openssl", "crl", "-in", crl, "-noout", "-text")
    assert "Authority Key Identifier" not in text, "the old CA has no SKI to name"
    number = re.search(r"X509v3 CRL Number: \n\s+(\w+)", text)
    assert number is not None
    assert int(number[1], 0) > 0x1000
    assert {(serial, reason) for serial, _, reason in listed(crl)} == {
        ("02", "Key Compromise"),
        ("03", "CA Compromise"),
        ("04", "Certificate Hold"),
        ("05", "Superseded"),
        ("06", ""),
    }
    assert [verdict(classic, crl, one) for one in (classic.good, classic.revoked)] == ["OK", "revoked"]
    run("certtool", "--verify-crl", "--load-ca-certificate", classic.certificate, "--infile", crl)
