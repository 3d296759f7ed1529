"""OpenSSL as the judge: chains, purposes, revocation, dates, keys and CRLs of the built example."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import LiveHome, run
from tests.integration.openssl_judge import GENERATIONS, LEAVES, PURPOSES, certificate_of, verify

DAY = 86400


def key_of(home: LiveHome, generation: str) -> Path:
    if generation == "root-1":
        return home.path / "offline/root-1/key.pem"
    return certificate_of(home, generation).with_name("key.pem")


# -- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leaf", "purpose"), PURPOSES)
def test_every_leaf_verifies_for_its_purpose(shown: LiveHome, leaf: str, purpose: str) -> None:
    assert verify(shown, leaf, purpose).endswith(": OK\n")


@pytest.mark.parametrize(("leaf", "purpose"), PURPOSES)
def test_no_leaf_verifies_for_the_other_purpose(shown: LiveHome, leaf: str, purpose: str) -> None:
    other = "sslclient" if purpose == "sslserver" else "sslserver"
    assert "unsuitable certificate purpose" in verify(shown, leaf, other, ok=False)


def test_server_leaf_verifies_for_its_name_and_for_no_other(shown: LiveHome) -> None:
    verify(shown, "build/certs/media", "sslserver", "-verify_hostname", "jellyfin.lab.internal")
    said = verify(shown, "build/certs/media", "sslserver", "-verify_hostname", "grafana.lab.internal", ok=False)
    assert "hostname mismatch" in said


@pytest.mark.parametrize(("days", "reason"), [(22, "CRL has expired"), (91, "certificate has expired")])
def test_chain_ends_with_its_crl_and_its_certificate(shown: LiveHome, days: int, reason: str) -> None:
    moment = ("-attime", str(int(time.time()) + days * DAY))
    assert reason in verify(shown, "build/certs/media", "sslserver", *moment, ok=False)


def test_hosts_with_slow_clocks_accept_new_certificates_and_crls(shown: LiveHome) -> None:
    verify(shown, "build/certs/media", "sslserver", "-attime", str(int(time.time()) - 3000))


def test_revoked_client_is_refused_and_its_successor_is_not(revoked_client: LiveHome) -> None:
    assert "certificate revoked" in verify(revoked_client, "old", "sslclient", ok=False)
    verify(revoked_client, "ca/clients/admin", "sslclient")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_chain_without_the_crl_of_one_authority_is_refused(shown: LiveHome, generation: str, tmp_path: Path) -> None:
    """Why the bundle for servers holds the root's CRL too."""
    crls = tmp_path / "crls.pem"
    crls.write_bytes(b"".join(shown.read(f"build/crl/{g}.pem") for g in GENERATIONS if g != generation))
    command = (
        *("openssl", "verify", "-crl_check_all", "-CAfile", shown.path / "build/trust/roots.pem"),
        *("-CRLfile", crls, "-untrusted", shown.path / "ca/clients/admin/chain.pem"),
    )
    said = run(*command, shown.path / "ca/clients/admin/cert.pem", ok=generation == "server-1")
    assert ("unable to get certificate CRL" in said) == (generation != "server-1")


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", LEAVES)
def test_key_is_sound_and_belongs_to_its_certificate(shown: LiveHome, leaf: str) -> None:
    folder = shown.path / leaf
    assert "Key is valid" in run("openssl", "pkey", "-check", "-noout", "-in", folder / "key.pem")
    public = run("openssl", "pkey", "-pubout", "-in", folder / "key.pem")
    for name in ("cert.pem", "fullchain.pem", "tls.pem"):
        assert run("openssl", "x509", "-pubkey", "-noout", "-in", folder / name) == public
    assert run("openssl", "pkey", "-pubout", "-in", folder / "tls.pem") == public


@pytest.mark.parametrize("generation", GENERATIONS)
def test_authority_key_opens_with_its_passphrase_alone(shown: LiveHome, generation: str) -> None:
    passphrase = yaml.safe_load(shown.read("secrets.yaml"))[generation]
    command = ("openssl", "pkcs8", "-in", key_of(shown, generation), "-passin")
    plain = run(*command, f"pass:{passphrase}")
    public = run("openssl", "pkey", "-pubout", stdin=plain)
    assert run("openssl", "x509", "-pubkey", "-noout", "-in", certificate_of(shown, generation)) == public
    for wrong in ("pass:", "pass:changeit", f"pass:{passphrase}x"):
        run(*command, wrong, ok=False)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_authority_key_costs_a_guesser_600_000_rounds_a_try(shown: LiveHome, generation: str) -> None:
    said = run("openssl", "asn1parse", "-in", key_of(shown, generation))
    for word in ("PBKDF2", "hmacWithSHA256", f"INTEGER           :{600_000:06X}", "aes-256-cbc"):
        assert word in said


# -- CRLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
def test_crl_verifies_in_both_forms(shown: LiveHome, generation: str) -> None:
    for form, name in (("DER", "crl"), ("PEM", "pem")):
        crl = shown.path / f"build/crl/{generation}.{name}"
        command = ("openssl", "crl", "-verify", "-noout", "-inform", form, "-in", crl, "-CAfile")
        assert "verify OK" in run(*command, certificate_of(shown, generation))


@pytest.mark.parametrize("presigned_crl", [0, 1])
def test_every_rung_of_the_root_ladder_verifies(shown: LiveHome, presigned_crl: int) -> None:
    crl = sorted((shown.path / "ca/root/root-1/crl").iterdir())[presigned_crl]
    said = run("openssl", "crl", "-verify", "-noout", "-in", crl, "-CAfile", certificate_of(shown, "root-1"))
    assert "verify OK" in said


def test_crl_lists_the_revoked_serial_with_its_reason(revoked_client: LiveHome) -> None:
    serial = run("openssl", "x509", "-serial", "-noout", "-in", revoked_client.path / "old/cert.pem")
    said = run("openssl", "crl", "-text", "-noout", "-in", revoked_client.path / "build/crl/client-1.pem")
    assert serial.partition("=")[2].strip() in said
    assert "Key Compromise" in said
