"""Chain verification: what comes out verifies, in programs of other people, and what should not verify does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pki.monitor.forecast import required_actions
from pki.pipeline import plan
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from tests.support import judges
from tests.support.hierarchy import URL, client, crls_of, every_crl, intermediate_of, root_of, server, signed_on_purpose
from tests.support.judges import DAY, HOUR, SECOND, Identity
from tests.support.projects import START, Home

SERVERS = {
    "monitoring-mtls": ["grafana.lab.internal", "prometheus.lab.internal", "loki.lab.internal"],
    "forge-mtls": ["forgejo.lab.internal"],
    "media": ["jellyfin.lab.internal"],
}
JELLYFIN = x509.DNSName("jellyfin.lab.internal")
DEVICE = '  device: {network: av, names: [device.lab.internal], request: "device.csr", deliver: none}\n'


def add_host(home: Home, line: str) -> None:
    home.edit("hosts:\n", f"hosts:\n{line}")


# -- what verifies ----------------------------------------------------------------------------------------------------


def test_every_server_certificate_verifies_for_each_of_its_names_and_for_no_other(home: Home) -> None:
    for leaf, names in SERVERS.items():
        for name in names:
            host = x509.DNSName(name)
            assert judges.x509_verification_fault(server(home, leaf), [root_of(home)], START, host) == ""
        other = x509.DNSName("other.lab.internal")
        fault = judges.x509_verification_fault(server(home, leaf), [root_of(home)], START, other)
        assert "no matching subjectAltName" in fault


def test_every_client_certificate_verifies_as_a_client(home: Home) -> None:
    assert judges.x509_verification_fault(client(home), [root_of(home)], START, None) == ""


def test_openssl_verifies_every_chain_strictly_with_the_crls_of_all_its_authorities(home: Home) -> None:
    for identity in [*(server(home, leaf) for leaf in SERVERS), client(home)]:
        assert judges.openssl_fault(identity, [root_of(home)], START, every_crl(home)) == ""


def test_openssl_asks_for_the_root_crl_too(home: Home) -> None:
    fault = judges.openssl_fault(client(home), [root_of(home)], START, crls_of(home, "client-1"))
    assert fault == "unable to get certificate CRL"


def test_server_and_client_agree_in_a_mutual_handshake(home: Home) -> None:
    crls = crls_of(home, "root-1", "client-1")
    assert judges.handshake_fault(server(home), client(home), [root_of(home)], START, crls) == ""


def test_nothing_verifies_before_its_time_or_after_it(home: Home) -> None:
    leaf, roots = server(home), [root_of(home)]
    end, start = leaf.leaf.not_valid_after_utc, leaf.leaf.not_valid_before_utc
    for at, is_valid in ((start, True), (start - SECOND, False), (end, True), (end + SECOND, False)):
        assert (judges.x509_verification_fault(leaf, roots, at, JELLYFIN) == "") is is_valid, at
        assert (judges.openssl_fault(leaf, roots, at, []) == "") is is_valid, at


# -- profiles ---------------------------------------------------------------------------------------------------------


def test_root_is_a_root_and_nothing_else(home: Home) -> None:
    judges.assert_is_root(root_of(home))


@pytest.mark.parametrize("authority", ["server", "client"])
def test_intermediates_serve_one_purpose_under_their_domains_and_networks(home: Home, authority: str) -> None:
    cert = intermediate_of(home, authority)
    judges.assert_is_ca(cert, root_of(home), authority, url=URL, domains=["lab.internal"], networks=["10.0.0.0/8"])


def test_server_leaves_name_what_their_services_are_called(home: Home) -> None:
    for leaf, names in SERVERS.items():
        found = server(home, leaf)
        judges.assert_is_leaf(found.leaf, intermediate_of(home, "server"), "server", url=URL, names=names)
        assert judges.common_name(found.leaf) == names[0]
        assert found.intermediate == intermediate_of(home, "server")


def test_client_leaves_name_an_e_mail_address_and_their_owner(home: Home) -> None:
    issuer = intermediate_of(home, "client")
    judges.assert_is_leaf(
        client(home).leaf, issuer, "client", url=URL, names=["admin.client.lab.internal", "admin@lab.internal"]
    )
    assert judges.common_name(client(home).leaf) == "admin"


def test_each_authority_has_a_subject_of_its_own(home: Home) -> None:
    found = [root_of(home), intermediate_of(home, "server"), intermediate_of(home, "client")]
    assert [judges.common_name(cert) for cert in found] == [
        "Example Lab SANDBOX Root CA 1",
        "Example Lab SANDBOX Server CA 1",
        "Example Lab SANDBOX Client CA 1",
    ]


def test_publishing_address_is_signed_into_every_certificate_and_its_change_reissues_leaves(home: Home) -> None:
    home.edit("http://pki.lab.internal", "http://crl.lab.internal:8080")
    made = home.doit().made
    assert {name for name in made if name.startswith("cert:")} == {
        *(f"cert:{leaf}" for leaf in SERVERS),
        "cert:client-admin",
    }
    judges.assert_is_leaf(
        server(home).leaf,
        intermediate_of(home, "server"),
        "server",
        url="http://crl.lab.internal:8080",
        names=["jellyfin.lab.internal"],
    )


def test_addresses_and_wildcards_stand_beside_names_and_verify(home: Home) -> None:
    home.edit("access: tls}", 'access: tls, names: ["*.av.lab.internal", jellyfin.lab.internal, 10.30.0.10]}')
    assert home.doit().status == 0
    judges.assert_is_leaf(
        server(home).leaf,
        intermediate_of(home, "server"),
        "server",
        url=URL,
        names=["*.av.lab.internal", "jellyfin.lab.internal", "10.30.0.10"],
    )
    for host in (x509.DNSName("tv.av.lab.internal"), x509.IPAddress(ip_address("10.30.0.10"))):
        assert judges.x509_verification_fault(server(home), [root_of(home)], START, host) == ""
    assert judges.openssl_fault(server(home), [root_of(home)], START, every_crl(home)) == ""
    assert judges.lint(server(home).leaf) == []


def test_name_too_long_for_a_cn_stands_in_the_san_alone_which_stays_uncritical(home: Home) -> None:
    name = f"{'long-' * 10}name.{'sub-' * 5}domain.lab.internal"
    home.edit("access: tls}", f"access: tls, names: {name}}}")
    assert home.doit().status == 0
    found = server(home)
    assert judges.common_name(found.leaf) == ""
    assert [str(n.value) for n in judges.extension_of(found.leaf, x509.SubjectAlternativeName)] == [name]
    assert len(list(found.leaf.subject)) == 1, "the organisation"
    assert judges.criticalities(found.leaf) == judges.LEAF
    assert judges.x509_verification_fault(found, [root_of(home)], START, x509.DNSName(name)) == ""


def test_pkilint_has_nothing_to_say_from_warnings_upwards(home: Home) -> None:
    for cert in [root_of(home), intermediate_of(home, "server"), intermediate_of(home, "client")]:
        assert judges.lint(cert) == []
    for leaf in [*(server(home, leaf).leaf for leaf in SERVERS), client(home).leaf]:
        assert judges.lint(leaf) == []
    for crl in every_crl(home):
        assert judges.lint(crl) == []


# -- dates ------------------------------------------------------------------------------------------------------------


def test_certificates_begin_an_hour_ago_and_last_their_days_to_the_second(home: Home) -> None:
    lifetimes = {
        root_of(home): 3650,
        intermediate_of(home, "server"): 730,
        intermediate_of(home, "client"): 730,
        server(home).leaf: 90,
        client(home).leaf: 180,
    }
    for cert, days in lifetimes.items():
        assert cert.not_valid_before_utc == START - HOUR
        assert cert.not_valid_after_utc == START - HOUR + days * DAY - SECOND


def test_last_certificates_of_an_authority_end_with_it(real: Home) -> None:
    home = real
    home.doit(days=690)
    end = intermediate_of(home, "server").not_valid_after_utc
    assert end < START + 690 * DAY - HOUR + 90 * DAY
    assert server(home).leaf.not_valid_after_utc == end
    assert judges.openssl_fault(server(home), [root_of(home)], end, []) == ""


def test_no_certificate_begins_before_its_authority(home: Home) -> None:
    (home.path / "build/certs/media/tls.pem").unlink()
    assert "cert:media" in home.doit(days=-0.02).made
    assert server(home).leaf.not_valid_before_utc == START - HOUR


# -- what does not verify ---------------------------------------------------------------------------------------------


def test_leaf_of_the_server_authority_never_passes_as_a_client(home: Home) -> None:
    forged = signed_on_purpose(home, "client-admin", [x509.RFC822Name("admin@lab.internal")], by="server")
    assert judges.extension_of(forged.leaf, x509.ExtendedKeyUsage)[0] == judges.PURPOSE["client"]
    assert judges.x509_verification_fault(forged, [root_of(home)], START, None) != ""
    fault = judges.handshake_fault(server(home), forged, [root_of(home)], START, every_crl(home))
    assert "certificate verify failed" in fault


def test_leaf_of_the_client_authority_never_passes_as_a_server(home: Home) -> None:
    forged = signed_on_purpose(home, "media", [JELLYFIN], by="client")
    assert judges.extension_of(forged.leaf, x509.ExtendedKeyUsage)[0] == judges.PURPOSE["server"]
    assert judges.x509_verification_fault(forged, [root_of(home)], START, JELLYFIN) != ""
    fault = judges.handshake_fault(forged, client(home), [root_of(home)], START, every_crl(home))
    assert "certificate verify failed" in fault


@pytest.mark.parametrize("role", ["server", "client"])
def test_certificates_do_not_change_sides(home: Home, role: str) -> None:
    sides = (client(home), client(home)) if role == "server" else (server(home), server(home))
    fault = judges.handshake_fault(*sides, [root_of(home)], START, every_crl(home))
    assert "certificate verify failed" in fault


@pytest.mark.parametrize("like", ["media", "client-admin"])
@pytest.mark.parametrize(
    "outside",
    [
        x509.DNSName("jellyfin.example.org"),
        x509.DNSName("jellyfin.notlab.internal"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.IPAddress(ip_address("2001:db8::1")),
    ],
    ids=["another-domain", "a-domain-that-ends-alike", "another-network", "any-ipv6"],
)
def test_both_verifiers_refuse_a_name_outside_the_constraints(home: Home, like: str, outside: x509.GeneralName) -> None:
    forged = signed_on_purpose(home, like, [JELLYFIN, outside])
    host = JELLYFIN if like == "media" else None
    assert "name constraint" in judges.x509_verification_fault(forged, [root_of(home)], START, host).lower()
    assert judges.openssl_fault(forged, [root_of(home)], START, every_crl(home)) == "permitted subtree violation"


@pytest.mark.parametrize("like", ["media", "client-admin"])
def test_both_verifiers_take_the_same_leaf_with_names_inside_the_constraints(home: Home, like: str) -> None:
    inside = [JELLYFIN, x509.IPAddress(ip_address("10.99.0.1"))]
    found, host = signed_on_purpose(home, like, inside), JELLYFIN if like == "media" else None
    assert judges.x509_verification_fault(found, [root_of(home)], START, host) == ""
    assert judges.openssl_fault(found, [root_of(home)], START, every_crl(home)) == ""


def test_foreign_root_of_the_same_name_is_refused(home: Home) -> None:
    key, ours = keys.new_key("ec-p384"), root_of(home)
    dates = ours.not_valid_before_utc, ours.not_valid_after_utc
    foreign = certificate_signing.sign_certificate(
        ours.subject, key.public_key(), dates, profiles.root_extensions(), key
    )
    for identity, host in ((server(home), JELLYFIN), (client(home), None)):
        assert judges.x509_verification_fault(identity, [foreign], START, host) != ""
        assert judges.openssl_fault(identity, [foreign], START, []) != ""


def test_authority_that_only_bears_the_name_of_ours_is_refused(home: Home) -> None:
    key, ours = keys.new_key("ec-p384"), intermediate_of(home, "server")
    dates = ours.not_valid_before_utc, ours.not_valid_after_utc
    false = certificate_signing.sign_certificate(ours.subject, key.public_key(), dates, profiles.root_extensions(), key)
    forged = signed_on_purpose(home, "media", [JELLYFIN], issuer=certificate_signing.Issuer(false, key))
    for chain in (forged, replace(forged, intermediate=ours)):
        assert judges.x509_verification_fault(chain, [root_of(home)], START, JELLYFIN) != ""
        assert judges.openssl_fault(chain, [root_of(home)], START, []) != ""


def test_chain_through_the_wrong_intermediate_is_refused(home: Home) -> None:
    crossed = replace(server(home), intermediate=intermediate_of(home, "client"))
    assert judges.x509_verification_fault(crossed, [root_of(home)], START, JELLYFIN) != ""
    assert judges.openssl_fault(crossed, [root_of(home)], START, []) != ""


def test_leaf_whose_signature_does_not_hold_is_issued_anew(home: Home) -> None:
    """The artifact is the state: a certificate that no verifier takes is not fresh, whatever else it says."""
    old = server(home)
    der = bytearray(old.leaf.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    damaged = x509.load_der_x509_certificate(bytes(der)).public_bytes(serialization.Encoding.PEM)
    whole = old.leaf.public_bytes(serialization.Encoding.PEM)
    for name in ("tls.pem", "cert.pem", "fullchain.pem"):
        path = home.path / "build/certs/media" / name
        path.write_bytes(path.read_bytes().replace(whole, damaged))
    assert judges.x509_verification_fault(server(home), [root_of(home)], START, JELLYFIN) != ""
    assert "cert:media" in home.doit().made
    assert judges.x509_verification_fault(server(home), [root_of(home)], START, JELLYFIN) == ""


# -- kinds of keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-3072", "ec-p256", "ec-p384", "ed25519", "ml-dsa-65"])
def test_leaves_of_every_kind_of_key_verify_on_both_sides(home: Home, kind: str) -> None:
    add_host(home, f"  kind: {{network: av, names: [kind.lab.internal], key: {kind}, deliver: none}}\n")
    home.edit("clients:\n", f"clients:\n  kind: {{email: kind@lab.internal, key: {kind}}}\n")
    assert home.doit().status == 0
    pair = server(home, "kind"), client(home, "kind")
    for identity, purpose, names in zip(
        pair,
        ("server", "client"),
        (["kind.lab.internal"], ["kind.client.lab.internal", "kind@lab.internal"]),
        strict=True,
    ):
        assert keys.key_kind(identity.key) == keys.key_kind(identity.leaf.public_key()) == kind
        judges.assert_is_leaf(identity.leaf, intermediate_of(home, purpose), purpose, url=URL, names=names)
        assert judges.openssl_fault(identity, [root_of(home)], START, every_crl(home)) == ""
        assert judges.lint(identity.leaf) == []
    assert judges.handshake_fault(*pair, [root_of(home)], START, crls_of(home, "root-1", "client-1")) == ""
    if kind != "ed25519":  # x509.verification follows the web's rules, which have no Ed25519
        host = x509.DNSName("kind.lab.internal")
        assert judges.x509_verification_fault(pair[0], [root_of(home)], START, host) == ""
        assert judges.x509_verification_fault(pair[1], [root_of(home)], START, None) == ""


def test_authorities_of_other_kinds_of_keys_hold_the_same_profiles(fresh: Home) -> None:
    root_kind, server_kind, client_kind = "rsa-3072", "ec-p256", "rsa-3072"
    for authority, kind in (("root:", root_kind), ("server:", server_kind), ("client:", client_kind)):
        text = (fresh.path / "pki.yaml").read_text()
        line = next(found for found in text.splitlines() if authority in found and "key: ec-p384" in found)
        fresh.edit(line, line.replace("ec-p384", kind))
    assert fresh.doit().status == 0
    root = root_of(fresh)
    judges.assert_is_root(root)
    assert keys.key_kind(root.public_key()) == root_kind
    for authority, kind in (("server", server_kind), ("client", client_kind)):
        cert = intermediate_of(fresh, authority)
        assert keys.key_kind(cert.public_key()) == kind
        judges.assert_is_ca(cert, root, authority, url=URL, domains=["lab.internal"], networks=["10.0.0.0/8"])
        assert judges.lint(cert) == []
    for identity, host in ((server(fresh), JELLYFIN), (client(fresh), None)):
        assert judges.x509_verification_fault(identity, [root], START, host) == ""
        assert judges.openssl_fault(identity, [root], START, every_crl(fresh)) == ""
    for crl in every_crl(fresh):
        assert judges.lint(crl) == []


# -- requests made elsewhere ------------------------------------------------------------------------------------------


def request(key: Any, names: tuple[str, ...] = ("evil.example.org",)) -> bytes:
    """A request as a device would write it, asking for much more than it will get."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([judges.PURPOSE["client"]]), critical=False)
    )
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def put_request(home: Home, data: bytes) -> None:
    (home.path / "device.csr").write_bytes(data)


def device(home: Home) -> Identity:
    return Identity.read(home.path / "build/certs/device/fullchain.pem")


def test_nothing_but_the_public_key_of_a_request_is_believed(home: Home) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    put_request(home, request(key))
    add_host(home, DEVICE)
    assert home.doit().status == 0
    names = ["device.lab.internal"]
    judges.assert_is_leaf(device(home).leaf, intermediate_of(home, "server"), "server", url=URL, names=names)
    assert device(home).leaf.public_key() == key.public_key()
    assert judges.common_name(device(home).leaf) == "device.lab.internal"
    assert home.doit().made == {}


def test_request_leaves_no_key_behind(home: Home) -> None:
    put_request(home, request(ed25519.Ed25519PrivateKey.generate()))
    add_host(home, DEVICE)
    assert home.doit().status == 0
    folder = home.path / "build/certs/device"
    assert {path.name for path in folder.iterdir()} == {"fullchain.pem", "cert.pem", "chain.pem"}
    assert not any(b"PRIVATE" in path.read_bytes() for path in folder.iterdir())


def test_client_on_its_own_device_keeps_its_key_too(home: Home) -> None:
    put_request(home, request(rsa.generate_private_key(65537, 2048)))
    home.edit("clients:\n", "clients:\n  phone: {email: phone@lab.internal, request: device.csr}\n")
    assert home.doit().status == 0
    found = Identity.read(home.path / "ca/clients/phone/fullchain.pem")
    judges.assert_is_leaf(
        found.leaf,
        intermediate_of(home, "client"),
        "client",
        url=URL,
        names=["phone.client.lab.internal", "phone@lab.internal"],
    )
    assert not (home.path / "ca/clients/phone/key.pem").exists()
    assert not (home.path / "ca/clients/phone/tls.pem").exists()


def test_changed_request_brings_a_new_certificate_for_the_new_key(home: Home) -> None:
    put_request(home, request(ec.generate_private_key(ec.SECP256R1())))
    add_host(home, DEVICE)
    home.doit()
    key = ec.generate_private_key(ec.SECP384R1())
    put_request(home, request(key))
    assert home.doit().made == {"cert:device": "device.csr contained another key"}
    assert device(home).leaf.public_key() == key.public_key()


def broken_signature() -> bytes:
    der = bytearray(
        x509.load_pem_x509_csr(request(ec.generate_private_key(ec.SECP256R1()))).public_bytes(
            serialization.Encoding.DER
        )
    )
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


def unknown_curve() -> bytes:
    """A request whose key nobody can read: prime256v1's identifier turned into one that means nothing."""
    pem = request(ec.generate_private_key(ec.SECP256R1()))
    der = x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER)
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    return pem_encoding.encode_pem("CERTIFICATE REQUEST", der.replace(p256, unknown))


BAD_REQUESTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "garbage": (lambda: b"not a request\n", "device.csr: not a PEM certificate request"),
    "empty": (lambda: b"", "device.csr: not a PEM certificate request"),
    "broken-signature": (broken_signature, "device.csr: the request's signature does not verify"),
    "rsa-1024": (
        lambda: request(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - weak on purpose
        "device.csr: an RSA key of 1024 bits",
    ),
    "ec-p521": (lambda: request(ec.generate_private_key(ec.SECP521R1())), "device.csr: a key of kind ec-p521"),
    "unknown-curve": (unknown_curve, "device.csr: not a PEM certificate request"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_bad_request_fails_its_own_leaf_with_a_sentence(home: Home, kind: str) -> None:
    make, sentence = BAD_REQUESTS[kind]
    put_request(home, make())
    add_host(home, DEVICE)
    home.edit("clients:\n", "clients:\n  other: {email: other@lab.internal}\n")
    report = home.doit()
    assert set(report.failed) == {"cert:device"}
    assert report.failed["cert:device"].startswith(sentence)
    assert "cert:client-other" in report.made
    assert not (home.path / "build/certs/device").exists()


@pytest.mark.parametrize("kind", ["garbage", "broken-signature", "unknown-curve"])
def test_bad_request_leaves_the_certificate_of_the_good_one_as_it_is(home: Home, kind: str) -> None:
    put_request(home, request(ec.generate_private_key(ec.SECP256R1())))
    add_host(home, DEVICE)
    home.doit()
    before = home.read("build/certs/device/fullchain.pem")
    make, sentence = BAD_REQUESTS[kind]
    put_request(home, make())
    report = home.doit()
    assert set(report.failed) == {"cert:device"}
    assert report.failed["cert:device"].startswith(sentence)
    assert home.read("build/certs/device/fullchain.pem") == before


@pytest.mark.parametrize("is_issued", [False, True], ids=["new", "issued"])
def test_a_folder_in_place_of_a_request_fails_its_own_leaf_alone(home: Home, *, is_issued: bool) -> None:
    put_request(home, request(ec.generate_private_key(ec.SECP256R1())))
    path = home.path / "device.csr"
    add_host(home, DEVICE)
    if is_issued:
        home.doit()
    path.unlink()
    path.mkdir()
    report = home.doit()
    assert set(report.failed) == {"cert:device"}
    assert "device.csr: is a folder, not a file" in report.failed["cert:device"]
    project = home.project()
    assert list(required_actions(project, plan.plan(project))) == []
    assert (home.path / "build/certs/device/fullchain.pem").exists() == is_issued


def test_missing_request_is_asked_for_by_its_name(home: Home) -> None:
    add_host(home, DEVICE)
    report = home.doit()
    assert set(report.failed) == {"cert:device"}
    assert report.failed["cert:device"].startswith("hosts.device.request: device.csr is not there")


# -- the signer -------------------------------------------------------------------------------------------------------


def test_key_that_is_not_the_issuers_signs_nothing(home: Home) -> None:
    false = certificate_signing.Issuer(intermediate_of(home, "server"), keys.new_key("ec-p384"))
    with pytest.raises(certificate_signing.PkiError, match="does not belong to the issuer's certificate"):
        signed_on_purpose(home, "media", [JELLYFIN], issuer=false)
    with pytest.raises(certificate_signing.PkiError, match="does not belong to the CA's certificate"):
        crl_signing.sign_crl(false, 1, START, START + DAY, [])


def test_dates_are_whole_seconds_in_utc(home: Home) -> None:
    start, end = certificate_signing.validity_dates(START, timedelta(days=1), None)
    assert (start, end) == (START - HOUR, START - HOUR + DAY - SECOND)
    assert isinstance(start, datetime)
    for cert in (root_of(home), server(home).leaf):
        assert cert.not_valid_before_utc.microsecond == 0
