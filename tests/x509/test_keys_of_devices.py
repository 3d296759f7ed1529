"""Keys in the forms that devices need, and keys that browsers refuse."""

from __future__ import annotations

import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, rsa

from pki.x509 import keys
from tests.support.projects import Home

PKCS1 = "# deploy-target: /etc/box/key.pem\n# deploy-hosts: media\n# deploy-artifact: key-pkcs1:media\n"
INLINE = "# deploy-target: /etc/box/both.pem\n# deploy-hosts: media\n{{ artifact('key-pkcs1:media') }}{{ artifact('cert:media') }}"
CNF = """\
# deploy-target: /etc/box/box.cnf
# deploy-hosts: media
[ req ]
prompt = no
distinguished_name = dn
[ dn ]
CN = box.lab.internal
"""


def with_rsa(home: Home) -> None:
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    key: rsa-2048\n")


def test_an_rsa_key_is_delivered_as_pkcs1_with_its_mode(home: Home) -> None:
    with_rsa(home)
    home.write("templates/key.pem", PKCS1)
    home.write("templates/both.pem", INLINE)
    assert home.doit("deploy:media").failed == {}
    key = home.read("build/hosts/media/etc/box/key.pem")
    assert key.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    assert key in home.read("build/hosts/media/etc/box/both.pem")
    for name in ("key.pem", "both.pem"):
        assert (home.path / "build/hosts/media/etc/box" / name).stat().st_mode & 0o777 == 0o600
    public = serialization.load_pem_private_key(key, None).public_key()
    assert public == x509.load_pem_x509_certificate(home.read("build/certs/media/cert.pem")).public_key()
    assert home.doit().made == {}


@pytest.mark.parametrize(
    ("name", "artifact", "where"),
    [
        ("key.pem", "media", "key: rsa-2048 under hosts.media in pki.yaml"),
        ("key.pem", "client-admin", "key: rsa-2048 under clients.admin in pki.yaml"),
        ("key.pem", "box", "default_bits = 2048 in the section [ req ] of templates/box.cnf"),
    ],
)
def test_a_key_that_is_no_rsa_key_is_refused_with_what_to_write(
    home: Home, name: str, artifact: str, where: str
) -> None:
    home.write("templates/box.cnf", CNF)
    home.write(f"templates/{name}", PKCS1.replace("key-pkcs1:media", f"key-pkcs1:{artifact}"))
    assert home.doit("release:media").failed["release:media"] == (
        f"templates/key.pem:3: deploy-artifact: key-pkcs1:{artifact}: PKCS#1 supports only RSA keys, and the key of {artifact} "
        f"is ec-p256 → deliver key:{artifact}, or request an RSA key: {where}"
    )
    assert not (home.path / "build/hosts/media/etc/box").exists()


def test_an_ml_dsa_key_has_no_pkcs1_form(home: Home) -> None:
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    key: ml-dsa-65\n")
    home.write("templates/key.pem", PKCS1)
    refused = home.doit("release:media").failed["release:media"]
    assert "PKCS#1 supports only RSA keys, and the key of media is ml-dsa-65" in refused


def test_the_key_of_a_device_is_delivered_in_no_form(home: Home) -> None:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    (home.path / "media.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    request: media.csr\n")
    home.write("templates/key.pem", PKCS1)
    said = home.doit("release:media").failed["release:media"]
    assert "templates/key.pem:3: deploy-artifact: key-pkcs1:media: the key of media is on its device" in said


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-3072", "ec-p256", "ec-p384", "ed25519", "ml-dsa-65"])
def test_pkcs1_has_rsa_keys_alone(kind: str) -> None:
    key = keys.new_leaf_key(kind)
    text = keys.pkcs1_pem(keys.private_pem(key))
    assert (text is not None) == kind.startswith("rsa")
    if text:
        assert re.fullmatch(rb"-----BEGIN RSA PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END RSA PRIVATE KEY-----\n", text)
        assert keys.open_key(text, None, "", "").public_key() == key.public_key()


# -- keys that browsers refuse ----------------------------------------------------------------------------------------


def told(home: Home) -> list[tuple[str, str, str]]:
    return [(note.subject, note.text, note.remedy) for note in home.plan().remarks()]


def test_a_service_with_an_ed25519_key_is_noted(home: Home) -> None:
    assert told(home) == []
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    key: ed25519\n")
    assert told(home) == [
        (
            "cert:media",
            "Chrome, Firefox and Safari refuse the ed25519 key of media",
            "key: ec-p256 under hosts.media; it may stay if no browser connects to them",
        )
    ]
    report = home.doit()
    assert "many programs refuse its ed25519 key: plan names them" in report.made["cert:media"]
    assert report.data["notes"] == [], "a key that pki.yaml asks for requires no action, day after day"


def test_every_certificate_of_a_profile_or_a_file_is_noted_at_once(home: Home) -> None:
    home.write("templates/box.cnf", CNF)
    home.edit("renew_before: 30d, key: ec-p256", "renew_before: 30d, key: ed25519")
    [(subject, text, remedy)] = told(home)
    assert (subject, text) == (
        "certificates",
        "Chrome, Firefox and Safari refuse the ed25519 key of monitoring-mtls, forge-mtls, media, box",
    )
    assert "profiles.server" in remedy


def test_an_ed25519_key_of_a_device_is_noted_and_one_of_a_client_is_not(home: Home) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    (home.path / "media.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    home.edit("  admin: {", "  admin: {key: ed25519, ")
    assert told(home) == []
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    request: media.csr\n")
    [(subject, _, remedy)] = told(home)
    assert (subject, remedy.endswith("ec_paramgen_curve:P-256 …")) == ("cert:media", True)


POST_QUANTUM = "browsers, OpenSSL 3.0, GnuTLS 3.7, NSS 3.87, Java 17 and Caddy 2.11 cannot use the ml-dsa-65 key of "
MAY_STAY = "it may stay where server and clients use OpenSSL 3.5 or newer: "


def test_ml_dsa_keys_are_noted_once_for_servers_and_clients(home: Home) -> None:
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    key: ml-dsa-65\n")
    [(subject, text, remedy)] = told(home)
    assert (subject, text) == ("cert:media", f"{POST_QUANTUM}media")
    assert remedy.startswith(f"key: ec-p256 under hosts.media; {MAY_STAY}")
    assert remedy.endswith("docs/explanation/post-quantum.md")
    home.edit("  admin: {", "  admin: {key: ml-dsa-65, ")
    [(subject, text, remedy)] = told(home)
    assert (subject, text) == ("certificates", f"{POST_QUANTUM}media, client-admin")
    assert remedy.startswith(f"key: ec-p256 under hosts.media, clients.admin; {MAY_STAY}")
    report = home.doit()
    assert report.data["notes"] == []
    warned = {name for name, why in report.made.items() if "many programs refuse its ml-dsa-65 key" in why}
    assert warned == {"cert:media", "cert:client-admin"}


def test_an_ml_dsa_key_of_a_device_is_certified_and_noted(home: Home) -> None:
    key = mldsa.MLDSA65PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    (home.path / "media.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    request: media.csr\n")
    assert home.doit("cert:media").failed == {}
    issued = x509.load_pem_x509_certificate(home.read("build/certs/media/cert.pem"))
    assert keys.public_der(issued.public_key()) == keys.public_der(key.public_key())
    [(subject, text, remedy)] = told(home)
    assert (subject, text) == ("cert:media", f"{POST_QUANTUM}media")
    assert remedy.endswith("; on a device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …")


@pytest.mark.parametrize(("rekey", "is_kept"), [("keep", True), ("new", False)])
def test_an_ml_dsa_key_is_kept_or_replaced_at_a_renewal(home: Home, rekey: str, is_kept: bool) -> None:
    home.edit("    proxy: caddy\n", f"    proxy: caddy\n    key: ml-dsa-65\n    rekey: {rekey}\n")
    assert home.doit("cert:media").failed == {}
    key, certificate = (home.read(f"build/certs/media/{name}.pem") for name in ("key", "cert"))
    assert home.doit("cert:media").made == {}
    assert home.doit("cert:media", days=80).made.keys() == {"cert:media"}
    assert home.read("build/certs/media/cert.pem") != certificate
    assert (home.read("build/certs/media/key.pem") == key) == is_kept
