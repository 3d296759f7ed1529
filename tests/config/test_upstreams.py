"""Upstreams with https: that prove who they are in a way of their own: what pki.yaml may say, and what is said of them."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.backup import write_backup
from pki.common.errors import InventoryError, PkiError
from pki.config.upstreams import read_ca_certificates
from pki.deploy import preflight
from pki.deploy.payload import Payload
from pki.monitor import unverified_upstreams
from pki.monitor.report import status_table
from tests.support.projects import START, Home

OLD = '{upstream: "http://127.0.0.1:8096", access: tls}'
FILE = "upstreams/box.pem"
DAY = timedelta(days=1)


@cache
def box(
    name: str = "box.local", issuer: str = "", days: int = 3650
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """What a device makes for itself: no CA, no key usage; by another issuer than itself where there is one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, its = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer or name))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(its).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(START - DAY).not_valid_after(START + days * DAY)
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    return key, builder.add_extension(names, critical=False).sign(key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def put(home: Home, content: bytes, file: str = FILE) -> None:
    (home.path / file).parent.mkdir(exist_ok=True)
    (home.path / file).write_bytes(content)


def say(home: Home, upstream: str, proxy: str = "caddy") -> None:
    home.edit(OLD, f"{{upstream: {upstream}, access: tls}}")
    home.edit("proxy: caddy", f"proxy: {proxy}")


def delivered(home: Home, path: str) -> str:
    return home.read(f"build/hosts/media/{path}").decode()


# -- what pki.yaml may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "proxy", "fault"),
    [
        ('{url: "http://10.30.0.5", verify: none}', "nginx", "verify: http://10.30.0.5 cannot be verified: expected https:, or no verify"),
        ('{url: "http://10.30.0.5", name: a.lan}', "nginx", "name: http://10.30.0.5 cannot be verified: expected https:, or no name"),
        ('{url: "https://10.30.0.5", ca: a.pem, verify: none, name: a.lan}', "nginx", "verify: none cannot be combined with ca: write one of them"),
        (
            '{url: "https://10.30.0.5:8006", ca: a.pem}',
            "haproxy",
            ("ca: needs name: a DNS name in the certificate of 10.30.0.5:8006; to see them: openssl s_client -connect "
            "10.30.0.5:8006 </dev/null | openssl x509 -noout -subject -ext subjectAltName"),
        ),
        ('{url: "https://10.30.0.5", verify: no}', "nginx", "verify: expected none, got 'no' (did you mean none?)"),
        ('{url: "https://10.30.0.5", verify: off}', "nginx", "verify: expected none, got 'off'"),
        ('{url: "https://10.30.0.5", ca: ../a.pem, name: a.lan}', "nginx", "ca: expected a file below the folder of pki.yaml, without .., got '../a.pem'"),
        ('{url: "https://10.30.0.5", ca: /etc/a.pem, name: a.lan}', "nginx", "ca: expected a file below the folder of pki.yaml, without .., got '/etc/a.pem'"),
        ('{url: "https://10.30.0.5", name: "A b"}', "nginx", "name: expected a host name: letters, digits and hyphens, in labels of at most 63, got 'A b'"),
        ('{url: "https://10.30.0.5", sni: a.lan}', "nginx", "sni: unknown key"),
        ("{name: a.lan}", "nginx", "url: is missing"),
        ('{url: "https://10.30.0.5/x"}', "nginx", "url: expected scheme, host and port alone, without a path, got 'https://10.30.0.5/x'"),
        ("https://10.30.0.5/x", "nginx", "expected scheme, host and port alone, without a path, got 'https://10.30.0.5/x'"),
        ("[https://10.30.0.5]", "nginx", "expected a mapping, got a list"),
        (
            '{url: "https://10.30.0.5:8006", ca: a.pem, name: pve.lan}',
            "apache",
            "name: apache verifies an upstream by the name in its url: write url: https://pve.lan:8006, and make pve.lan resolve to it",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_fault_with_its_line(home: Home, upstream: str, proxy: str, fault: str) -> None:
    say(home, upstream, proxy)
    with pytest.raises(InventoryError) as caught:
        home.project()
    [said] = caught.value.faults
    place, _, what = said.partition("hosts.media.services.jellyfin.upstream")
    assert re.fullmatch(r"pki.yaml:4[0-9]: ", place), said
    assert what.lstrip(".: ") == fault


@pytest.mark.parametrize(
    ("upstream", "proxy"),
    [
        ('{url: "https://pve.lan:8006", ca: a.pem}', "apache"),
        ('{url: "https://10.30.0.5", name: jellyfin.lab.internal}', "apache"),
        ('{url: "https://10.30.0.5", verify: none}', "apache"),
        ('{url: "https://10.30.0.5", verify: none, name: unifi}', "traefik"),
        ('{url: "https://synology:5001", ca: system}', "caddy"),
        ('{url: "https://[fd00::5]:8443", ca: a.pem, name: unifi.local}', "nginx"),
        ('{url: "http://10.30.0.5"}', "nginx"),
        ("https://10.30.0.5", "haproxy"),
    ],
)
def test_what_devices_need_can_be_said(home: Home, upstream: str, proxy: str) -> None:
    say(home, upstream, proxy)
    home.project()


# -- files with the CAs of upstreams ----------------------------------------------------------------------------------


def test_a_certificate_is_delivered_for_the_proxy_and_passes_the_look_at_a_release(home: Home) -> None:
    put(home, box()[1].public_bytes(serialization.Encoding.DER))
    say(home, f'{{url: "https://10.30.0.5:8006", ca: {FILE}, name: box.local}}')
    assert home.doit("deploy:media").failed == {}
    assert delivered(home, "etc/doit-pki/upstream-jellyfin.pem").encode() == pem(box()[1])
    payload = Payload.of(home.path / "build/release/media")
    assert payload
    delivery = home.plan().deliveries["media"]
    assert delivery.trust is not None
    found = preflight.check_release(payload, delivery.trust(), ["jellyfin.lab.internal"], START)
    assert list(found.leaves) == ["jellyfin.lab.internal"]
    assert home.doit().made == {}
    assert FILE in write_backup.BackupWriter(home.project()).snapshot()
    put(home, pem(box("other.local")[1]))
    assert home.doit().made["release:media"] == "upstream-ca:media changed"
    home.edit(f"ca: {FILE}, name: box.local", "verify: none")
    assert home.doit().failed == {}
    assert not (home.path / "build/hosts/media/etc/doit-pki/upstream-jellyfin.pem").exists()


KEY = box()[0].private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
UNUSABLE = {
    "not there": (None, "does not exist"),
    "with a key": (KEY + pem(box()[1]), "contains a private key"),
    "of another": (pem(box("box.local", "Vendor CA")[1]), "contains no self-signed certificate: that of CN=Vendor CA is missing"),
    "a page": (b"<html>404</html>", "contains no readable certificate"),
    "cut": (pem(box()[1])[:200], "contains no readable certificate"),
    "damaged": (pem(box()[1]).replace(b"MII", b"AAA", 1), "contains no readable certificate"),
    "empty": (b"", "contains no readable certificate"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_is_none_is_named(content: bytes | None, why: str) -> None:
    with pytest.raises(PkiError, match=re.escape(f"{FILE}: {why}")) as caught:
        read_ca_certificates(content, FILE)
    assert FILE in caught.value.hint


def test_a_file_that_is_not_there_fails_one_release(home: Home) -> None:
    say(home, f'{{url: "https://10.30.0.5:8006", ca: {FILE}, name: box.local}}')
    report = home.doit()
    assert list(report.failed) == ["release:media"]
    assert f"{FILE}: does not exist" in report.failed["release:media"]
    assert home.read("build/hosts/media/etc/caddy/Caddyfile").count(b"8096") == 1


# -- what is told -----------------------------------------------------------------------------------------------------


def test_plan_and_status_say_what_is_not_verified(home: Home) -> None:
    say(home, '{url: "https://10.30.0.5:8006", verify: none}')
    [note] = unverified_upstreams.notes(
        (project := home.project()).inventory, project.store, project.now, project.cache
    )
    assert (note.subject, note.text) == (
        "upstreams",
        (
            "not verified (verify: none): an attacker between proxy and upstream can read and change everything: "
            "jellyfin on media (https://10.30.0.5:8006)"
        ),
    )
    assert "openssl s_client -connect 10.30.0.5:8006 </dev/null | openssl x509 >upstreams/jellyfin.pem" in note.remedy
    assert note.text in json.dumps(home.doit().data["notes"])
    rows = {row.name: row.next for row in status_table.StatusTable(home.project()).rows(home.plan())}
    assert "upstreams not verified (verify: none): jellyfin" in rows["deploy:media"]
    assert "upstreams" not in rows["deploy:forge"]


@pytest.mark.parametrize(("days", "said"), [(20, "expires on"), (0, "expired on"), (100, "")])
def test_plan_says_that_a_certificate_of_an_upstream_ends(home: Home, days: int, said: str) -> None:
    put(home, pem(box(days=days)[1]))
    say(home, f'{{url: "https://10.30.0.5:8006", ca: {FILE}, name: box.local}}')
    project = home.project(0.5)
    notes = unverified_upstreams.notes(project.inventory, project.store, project.now, project.cache)
    texts = [note.text for note in notes]
    assert [said in text and "jellyfin on media" in text for text in texts] == [True] * bool(said)


# -- a device with a certificate from here ----------------------------------------------------------------------------

CNF = """\
# deploy-target: /etc/box.cnf
[ req ]
prompt = no
distinguished_name = dn
[ dn ]
CN = jellyfin.lab.internal
"""


def test_a_device_may_have_a_certificate_for_the_name_that_its_service_demands(home: Home) -> None:
    home.write("templates/box.cnf", CNF)
    say(home, '"https://10.30.0.5:8006"')
    assert "jellyfin.lab.internal belongs to hosts.media.services.jellyfin" in home.doit().failed["release:ca"]
    home.edit('"https://10.30.0.5:8006"', '{url: "https://10.30.0.5:8006", name: jellyfin.lab.internal}')
    report = home.doit()
    assert report.failed == {}
    assert "cert:box" in report.made
    assert "tls_server_name jellyfin.lab.internal" in delivered(home, "etc/caddy/Caddyfile")
