"""GnuTLS, NSS and Java as judges of the built example: what OpenSSL lets pass, one of them may not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import LiveHome, run
from tests.integration.gnutls_judge import USAGE, gnutls
from tests.integration.openssl_judge import CLIENTS, GENERATIONS, LEAVES, PURPOSES, SERVERS, certificate_of

NSS_USAGE = {"sslserver": "V", "sslclient": "C"}
CHAIN = Path(__file__).parent / "Chain.java"


# -- GnuTLS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leaf", "purpose"), PURPOSES)
def test_gnutls_verifies_every_leaf_for_its_purpose(shown: LiveHome, leaf: str, purpose: str) -> None:
    assert "Chain verification output: Verified." in gnutls(shown, leaf, purpose)


@pytest.mark.parametrize(("leaf", "purpose"), PURPOSES)
def test_gnutls_refuses_every_leaf_for_the_other_purpose(shown: LiveHome, leaf: str, purpose: str) -> None:
    other = "sslclient" if purpose == "sslserver" else "sslserver"
    assert "Not verified" in gnutls(shown, leaf, other, ok=False)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_gnutls_verifies_every_crl(shown: LiveHome, generation: str) -> None:
    said = run(
        *("certtool", "--verify-crl", "--load-ca-certificate", certificate_of(shown, generation)),
        *("--infile", shown.path / f"build/crl/{generation}.pem"),
    )
    assert "Verification output: Verified." in said


@pytest.mark.parametrize("leaf", LEAVES)
def test_gnutls_reads_every_extension(shown: LiveHome, leaf: str) -> None:
    said = run("certtool", "-i", "--infile", shown.path / leaf / "cert.pem")
    for word in ("Basic Constraints (critical)", "Certificate Authority (CA): FALSE", "Key Usage (critical)"):
        assert word in said
    assert "http://pki.lab.internal/crl/" in said
    assert "error" not in said.lower()


# -- NSS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(revoked_client: LiveHome, tmp_path: Path) -> str:
    """An NSS database, as a browser keeps it: root, intermediates, leaves, a revoked client and every CRL."""
    home, name = revoked_client, f"sql:{tmp_path}"
    run("certutil", "-N", "-d", name, "--empty-password")
    for generation in GENERATIONS:
        trust = "CT,," if generation == "root-1" else ",,"
        run("certutil", "-A", "-d", name, "-n", generation, "-t", trust, "-i", certificate_of(home, generation))
    for leaf in (*LEAVES, "old"):
        run("certutil", "-A", "-d", name, "-n", leaf, "-t", ",,", "-i", home.path / leaf / "cert.pem")
    for generation in GENERATIONS:
        run("crlutil", "-I", "-d", name, "-t", "1", "-i", home.path / f"build/crl/{generation}.crl")
    return name


def test_nss_verifies_every_leaf_for_its_purpose_and_refuses_the_revoked(database: str) -> None:
    command = ("certutil", "-V", "-e", "-d", database)
    for leaf, purpose in PURPOSES:
        assert "certificate is valid" in run(*command, "-n", leaf, "-u", NSS_USAGE[purpose])
        other = "C" if purpose == "sslserver" else "V"
        assert "not approved" in run(*command, "-n", leaf, "-u", other, ok=False)
    assert "revoked" in run(*command, "-n", "old", "-u", "C", ok=False).lower()
    listed = run("crlutil", "-L", "-d", database)
    assert all(generation in listed for generation in GENERATIONS)


# -- Java -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", LEAVES)
def test_keytool_reads_every_certificate(shown: LiveHome, leaf: str) -> None:
    said = run("keytool", "-printcert", "-file", shown.path / leaf / "fullchain.pem")
    assert "Certificate[2]" in said
    assert "Warning" not in said


def test_keytool_takes_the_root_into_a_truststore(shown: LiveHome, tmp_path: Path) -> None:
    store = ("-keystore", tmp_path / "trust.p12", "-storepass", "changeit")
    root = ("-alias", "root", "-file", shown.path / "build/trust/root-1.crt")
    run("keytool", "-importcert", "-noprompt", *root, *store)
    assert "trustedCertEntry" in run("keytool", "-list", *store)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_keytool_reads_every_crl(shown: LiveHome, generation: str) -> None:
    assert "CRL Number" in run("keytool", "-printcrl", "-file", shown.path / f"build/crl/{generation}.crl")


ASKED = [
    *((leaf, purpose, "valid") for leaf, purpose in PURPOSES),
    *((leaf, "sslclient", "refused") for leaf in SERVERS),
    *((leaf, "sslserver", "refused") for leaf in CLIENTS),
    ("old", "sslclient", "refused"),
]


@pytest.fixture(scope="session")
def java(revoked_client: LiveHome) -> dict[tuple[str, str], str]:
    """Java's verdict on each leaf and purpose, with revocation: one start of Java for all."""
    if shutil.which("javac") is None:
        pytest.skip("a JRE alone runs no source; keytool has judged")
    home = revoked_client
    crls = ",".join(str(home.path / f"build/crl/{generation}.crl") for generation in GENERATIONS)
    lines = [f"{home.path / leaf / 'fullchain.pem'} {USAGE[purpose]} {crls}\n" for leaf, purpose, _ in ASKED]
    said = run("java", CHAIN, home.path / "build/trust/root-1.crt", stdin="".join(lines)).splitlines()
    return {(leaf, purpose): verdict for (leaf, purpose, _), verdict in zip(ASKED, said, strict=True)}


@pytest.mark.parametrize(("leaf", "purpose", "verdict"), ASKED)
def test_java_judges_as_the_others(java: dict[tuple[str, str], str], leaf: str, purpose: str, verdict: str) -> None:
    said = java[leaf, purpose]
    assert said.startswith(verdict), said
    assert (leaf == "old") == ("revoked" in said.lower())
