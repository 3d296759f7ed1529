"""PKCS#12 files on hosts, chains with their root, and combined files in any order."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from pki.common.errors import PkiError
from pki.deploy import preflight
from pki.pipeline.delivery_targets import ReleaseChecks
from pki.pipeline.desired_state import DesiredState
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from pki.x509.trust_anchor import with_root
from tests.support.projects import START, Home

HEADERS = "# deploy-target: /etc/box/{file}\n# deploy-hosts: media\n"
SECRET = "k7mp-w3xq-hr4d"
MADE = "build/p12/media.p12"
DELIVERED = "build/hosts/media/etc/box/media.p12"


def with_template(home: Home, artifact: str = "p12:media") -> None:
    home.write("templates/box.p12", f"{HEADERS.format(file='media.p12')}# deploy-artifact: {artifact}\n")


def with_secret(home: Home, line: str = f"p12: {SECRET}") -> None:
    path = home.path / "secrets.yaml"
    kept = [text for text in path.read_text().splitlines() if not text.startswith("p12")]
    path.write_text("\n".join([*kept, line]) + "\n")
    path.chmod(0o600)


def opened(home: Home, path: str, secret: str = SECRET) -> pkcs12.PKCS12KeyAndCertificates:
    return pkcs12.load_pkcs12(home.read(path), secret.encode())


def leaf(home: Home, file: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(home.read(f"build/certs/media/{file}"))


@pytest.mark.parametrize("kind", ["p12", "p12-legacy"])
def test_key_and_chain_are_delivered_as_pkcs12_for_root_alone_and_made_once(home: Home, kind: str) -> None:
    with_template(home, f"{kind}:media")
    with_secret(home)
    assert home.doit("deploy:media").failed == {}
    content = opened(home, DELIVERED)
    assert content.cert is not None
    assert content.key is not None
    assert content.cert.friendly_name == b"media"
    present = [content.cert.certificate, *(other.certificate for other in content.additional_certs)]
    assert present == leaf(home, "fullchain.pem")
    assert content.key.public_key() == leaf(home, "cert.pem")[0].public_key()
    for path in (DELIVERED, f"build/{kind}/media.p12"):
        assert (home.path / path).stat().st_mode & 0o777 == 0o600
    before = home.read(DELIVERED)
    assert home.doit().made == {}
    assert home.doit(days=0.5).made == {}
    assert home.read(DELIVERED) == before
    written = [path.read_bytes() for path in (home.path / "build").rglob("*") if path.is_file()]
    assert SECRET.encode() not in b"".join(written)


def test_a_new_certificate_or_passphrase_makes_the_file_again_and_nothing_else_does(home: Home) -> None:
    with_template(home)
    with_secret(home)
    home.doit()
    with_secret(home, "p12-media: another-passphrase")
    assert home.doit().made == {
        "p12:media": "media.p12 was not up to date with its sources",
        "release:media": "p12:media changed",
        "deploy:media": "/etc/box/media.p12 changed",
    }
    assert opened(home, DELIVERED, "another-passphrase")
    os.utime(home.path / "secrets.yaml")
    assert home.doit().made == {}
    home.doit(days=80)  # renewed
    content = opened(home, DELIVERED, "another-passphrase")
    assert content.cert is not None
    assert content.cert.certificate == leaf(home, "cert.pem")[0]
    (home.path / MADE).write_bytes(b"damaged")
    (home.path / MADE).chmod(0o600)
    assert home.doit(days=80).made.keys() >= {"p12:media"}
    (home.path / MADE).chmod(0o644)
    assert home.doit(days=80).made["p12:media"] == "media.p12 had mode 0644, expected 0600"
    (home.path / "templates/box.p12").unlink()
    home.doit(days=80)
    assert not (home.path / MADE).exists()
    assert not (home.path / DELIVERED).exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no passphrase for the PKCS#12 file of media → write p12-media: PASSPHRASE (or p12: PASSPHRASE"),
        ("p12: short", "secrets.yaml: the passphrase p12 is not at least 6 printable ASCII characters without blanks"),
        ("p12-media: grüße-aus-bern", "secrets.yaml: the passphrase p12-media is not at least 6 printable ASCII"),
    ],
)
def test_without_a_usable_passphrase_only_this_host_waits(home: Home, line: str, message: str) -> None:
    with_template(home)
    with_secret(home, line)
    report = home.doit()
    assert report.failed.keys() == {"p12:media"}
    assert report.failed["p12:media"].startswith(message)
    assert not (home.path / MADE).exists()


def test_a_passphrase_of_another_source_is_used_and_a_prompt_is_refused(home: Home) -> None:
    with_template(home)
    (home.path / "word").write_text(f"{SECRET}\n")
    (home.path / "word").chmod(0o600)
    home.edit("secrets: secrets.yaml", "secrets: {p12: {command: cat word}}")
    assert home.doit().failed == {}
    assert opened(home, DELIVERED)
    assert home.doit().made == {}
    (home.path / "word").write_text("another-passphrase\n")
    assert home.doit().made.keys() == {"p12:media", "release:media", "deploy:media"}, "every run reads it"
    for source, text in (("prompt", "the prompt"), ("{fd: 3}", "`fd: 3`")):
        home.edit("secrets: {p12: ", f"secrets: {{p12-media: {source}, p12: ")
        with pytest.raises(PkiError, match=rf"secrets\.p12-media.*{text} cannot be read by every run"):
            home.project()
        home.edit(f"secrets: {{p12-media: {source}, p12: ", "secrets: {p12: ")


def test_a_p12_has_a_secret_mode_and_no_text(home: Home) -> None:
    with_secret(home)
    home.write("templates/box.p12", f"{HEADERS.format(file='x')}# deploy-mode: 0644\n# deploy-artifact: p12:media\n")
    assert "0644 lets other accounts read a private key" in home.doit().failed["release:media"]
    home.write("templates/box.p12", HEADERS.format(file="x") + "{{ artifact('p12:media') }}")
    assert "p12:media is binary; deliver it with deploy-artifact" in home.doit().failed["release:media"]


def test_nothing_is_sent_of_a_p12_with_another_key_or_passphrase(home: Home) -> None:
    with_template(home)
    with_secret(home)
    home.doit()
    desired = DesiredState.of(home.project())
    payload = home.plan().deliveries["media"].payloads.desired()
    trust, now, name = ReleaseChecks(desired).trust, home.moment(), "jellyfin.lab.internal"
    assert payload is not None
    assert preflight.check_release(payload, trust, [name], now).leaves[name] == leaf(home, "cert.pem")[0]
    trust.pkcs12_passphrase = lambda _: "another-passphrase"
    with pytest.raises(PkiError, match=r"/etc/box/media.p12 does not open with the present passphrase of media"):
        preflight.check_release(payload, trust, [name], now)
    trust.pkcs12_passphrase = lambda _: SECRET
    [file] = [file for file in payload.release.files if file.pkcs12]
    certificates = leaf(home, "fullchain.pem")
    for key, chain, fault in (
        (keys.new_key("ec-p256"), certificates, "or its key belongs to none of its certificates"),
        (opened(home, MADE).key, certificates[:1], "/etc/box/media.p12 contains other certificates than its manifest"),
    ):
        assert isinstance(key, keys.PrivateKey)
        forged = forged_pkcs12(key, chain)
        file.below(home.path / "build/release/media/files").write_bytes(forged)
        other = replace(file, sha256=hashlib.sha256(forged).hexdigest())
        files = tuple(other if present is file else present for present in payload.release.files)
        with pytest.raises(PkiError, match=fault):
            preflight.check_release(replace(payload, release=replace(payload.release, files=files)), trust, [], now)


def forged_pkcs12(key: keys.PrivateKey, chain: list[x509.Certificate]) -> bytes:
    """A file that somebody wrote with the right passphrase; the certificate of another key has none in it."""
    is_pair = key.public_key() == chain[0].public_key()
    others = [pkcs12.PKCS12Certificate(certificate, None) for certificate in (chain[1:] if is_pair else chain)]
    encryption = serialization.BestAvailableEncryption(SECRET.encode())
    return pkcs12.serialize_key_and_certificates(b"media", key, chain[0] if is_pair else None, others, encryption)


# -- chains with their root -------------------------------------------------------------------------------------------


def test_a_chain_with_its_root_ends_with_the_root_that_signed_it(home: Home) -> None:
    home.write("templates/whole.pem", HEADERS.format(file="whole.pem") + "# deploy-artifact: fullchain-root:media\n")
    home.write("templates/text.pem", HEADERS.format(file="text.pem") + "{{ artifact('fullchain-root:media') }}")
    assert home.doit().failed == {}
    whole = home.read("build/hosts/media/etc/box/whole.pem")
    roots = x509.load_pem_x509_certificates(home.read("build/trust/roots.pem"))
    assert x509.load_pem_x509_certificates(whole) == [*leaf(home, "fullchain.pem"), roots[0]]
    assert whole.strip() in home.read("build/hosts/media/etc/box/text.pem")
    assert (home.path / "build/hosts/media/etc/box/whole.pem").stat().st_mode & 0o777 == 0o644
    assert home.doit().made == {}


def self_signed(name: str) -> x509.Certificate:
    key, subject = keys.new_key("ec-p256"), certificate_signing.subject_name("Example Lab", name)
    dates = START, START + timedelta(days=9)
    return certificate_signing.sign_certificate(subject, key.public_key(), dates, profiles.root_extensions(), key)


def test_a_chain_without_a_root_of_the_project_is_not_completed() -> None:
    root, stranger = (self_signed(name) for name in ("root", "stranger"))
    pem = pem_encoding.pem_of([root])
    assert with_root(pem, pem_encoding.pem_of([stranger, root])) == pem + pem
    assert with_root(pem, pem_encoding.pem_of([stranger])) is None
    assert with_root(b"", pem) is None


# -- combined files ---------------------------------------------------------------------------------------------------

PARTS = ("key:media", "cert:media", "chain:media", "trust:roots")


def test_a_combined_file_may_have_any_order_if_its_header_says_so_and_is_secret(home: Home) -> None:
    orders = {f"all{number}.pem": order for number, order in enumerate(itertools.permutations(PARTS))}

    def write(header: str) -> None:
        for file, order in orders.items():
            parts = "".join(f"{{{{ artifact('{part}') }}}}" for part in order)
            home.write(
                f"templates/{file}",
                f"{{# deploy-target: /etc/box/{file} #}}\n{{# deploy-hosts: media #}}\n{header}{parts}\n",
            )
        assert home.doit("deploy:media").failed == {}

    write("")
    refused = fault_of_preflight(home)
    for file, order in orders.items():
        first = next(part for part in order if part != "key:media")
        is_refused = f"the key in /etc/box/{file} does not match the certificate beside it" in refused
        assert is_refused == (first != "cert:media")
        content = home.path / "build/hosts/media/etc/box" / file
        assert content.read_bytes().strip().startswith(b"-----BEGIN")
        assert content.stat().st_mode & 0o777 == 0o600
    write("{# deploy-order: any #}\n")
    assert fault_of_preflight(home) == ""
    write("{# deploy-order: leaf-first #}\n")
    assert fault_of_preflight(home) == refused


def fault_of_preflight(home: Home) -> str:
    payload = home.plan().deliveries["media"].payloads.desired()
    assert payload is not None
    try:
        preflight.check_release(payload, ReleaseChecks(DesiredState.of(home.project())).trust, [], home.moment())
    except PkiError as error:
        return error.message
    return ""


def test_a_key_of_another_leaf_is_refused_in_any_order(home: Home) -> None:
    parts = "{{ artifact('trust:roots') }}{{ artifact('key:forge-mtls') }}{{ artifact('fullchain:media') }}"
    home.write("templates/all.pem", HEADERS.format(file="all.pem") + f"# deploy-order: any\n{parts}")
    home.doit("deploy:media")
    assert "the key in /etc/box/all.pem does not match the certificate beside it" in fault_of_preflight(home)
    home.write("templates/all.pem", HEADERS.format(file="all.pem") + f"# deploy-order: root-first\n{parts}")
    fault = home.doit("release:media").failed["release:media"]
    assert fault.startswith("templates/all.pem:3: deploy-order: expected leaf-first or any, got 'root-first'")


@pytest.mark.parametrize("kind", ["p12", "p12-legacy"])
def test_no_pkcs12_file_is_made_of_an_ml_dsa_key(home: Home, kind: str) -> None:
    with_template(home, f"{kind}:media")
    with_secret(home)
    home.edit("    proxy: caddy\n", "    proxy: caddy\n    key: ml-dsa-65\n")
    assert home.doit("release:media").failed["release:media"] == (
        f"templates/box.p12:3: deploy-artifact: {kind}:media: no PKCS#12 file can be written with the key of media, which is "
        "ml-dsa-65 → deliver tls:media, or request another key: key: ec-p256 under hosts.media in pki.yaml"
    )
    assert not (home.path / MADE).exists()
