"""Roots in the stores of hosts, and the programs that read them: trusted, two side by side while one follows another, gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine, check_programs
from tests.integration.conftest import TIMEOUT
from tests.integration.fleet import Fleet
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT

PROGRAMS = ("trust", "certutil", "tstclnt", "keytool", "update-ca-certificates", "curl", "nginx")
ROLLOVER, LATER = 275, 410  # days: a second root has come; the first one has ended
SERVER = "open.lab.internal"
INVENTORY = """\
organisation: Example Lab
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {url: "http://pki.lab.internal", host: web}
sandbox: true
authorities:
  root:   {lifetime: 400d, overlap: 30d, crl: {lifetime: 90d, presigned: 3}}
  server: {lifetime: 100d, overlap: 10d}
  client: {lifetime: 100d, overlap: 10d}
profiles:
  server: {lifetime: 30d, renew_before: 10d}
  client: {lifetime: 30d, renew_before: 10d}
networks: {lan: 192.0.2.0/24}
deploy: {ssh_config: ssh_config}
hosts:
  web:
    network: lan
    address: 192.0.2.11
    deliver: ssh
    proxy: nginx
    trust: [debian, rhel]
    services: {open: {upstream: "http://127.0.0.1:3000", access: tls}}
  apps:
    network: lan
    address: 192.0.2.12
    deliver: ssh
    trust: [nss, java]
"""
# What RHEL's p11-kit is built with, and the part of its update-ca-trust that makes what OpenSSL reads.
RHEL_MODULE = "module: p11-kit-trust.so\ntrust-policy: yes\nx-init-reserved: paths='/etc/pki/ca-trust/source'\n"
RHEL_BUNDLE = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
UPDATE_CA_TRUST = f"""\
#!/bin/sh
mkdir -p {Path(RHEL_BUNDLE).parent}
exec trust extract --overwrite --format=pem-bundle --filter=ca-anchors --purpose=server-auth {RHEL_BUNDLE}
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A web server with both system stores, a host with NSS and Java, and the machine that delivers to them."""
    check_programs(*PROGRAMS)
    home = tmp_path_factory.mktemp("trust") / "home"
    shutil.copytree(PROJECT / "templates", home / "templates")
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    (home / "pki.yaml").write_text(INVENTORY)
    with Lab() as lab:
        ca = lab.machine("ca")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        web = lab.machine("web", address="192.0.2.11", names=[SERVER])
        apps = lab.machine("apps", address="192.0.2.12")
        web.write("/etc/pkcs11/modules/p11-kit-trust.module", RHEL_MODULE)
        web.write("/usr/local/sbin/update-ca-trust", UPDATE_CA_TRUST, 0o755)
        web.run("mkdir", "-p", "/etc/pki/ca-trust/source/anchors")
        web.start("python3", "-m", "http.server", "--directory", "/usr/share/common-licenses", "3000")
        for machine in (web, apps):
            machine.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
        web.serve("ssh", "nginx")
        apps.serve("ssh")
        known = [f"{machine.address} {machine.host_key()}\n" for machine in (web, apps)]
        (home / "known_hosts").write_text("".join(known))
        fleet = Fleet(lab, home, ca, {"web": web, "apps": apps})
        for host in fleet.hosts:
            fleet.program("invoke", "deploy.bootstrap", host)
        yield fleet


# -- what each store says of itself -----------------------------------------------------------------------------------


def in_debian(two: Fleet) -> set[str]:
    """Ours in the folder that OpenSSL looks in, what their links lead to, and in the copy that Debian makes for Java."""
    web = two.hosts["web"]
    listed = web.run("sh", "-c", "ls /etc/ssl/certs | grep doit-pki", check=False).stdout.split()
    bundle = web.read("/etc/ssl/certs/ca-certificates.crt")
    found = {Path(name).stem for name in listed if web.read(f"/etc/ssl/certs/{name}") in bundle}
    assert len(found) == len(listed)
    assert {name.removeprefix("debian:").removesuffix(".pem") for name in aliases(web, "debian:doit-pki")} == found
    return found


def in_rhel(two: Fleet) -> set[str]:
    bundle, web = two.hosts["web"].read(RHEL_BUNDLE), two.hosts["web"]
    anchors = web.run("ls", "/etc/pki/ca-trust/source/anchors").stdout.split()
    found = {Path(name).stem for name in anchors if pem(web.read(f"/etc/pki/ca-trust/source/anchors/{name}")) in bundle}
    assert bundle.count("BEGIN") == len(found)
    return found


def in_nss(two: Fleet) -> set[str]:
    said = two.hosts["apps"].run("certutil", "-L", "-d", "sql:/etc/pki/nssdb").stdout.split("\n")
    found = {line.split()[0]: line.split()[1] for line in said if line.startswith("doit-pki")}
    assert set(found.values()) <= {"C,,"}
    return set(found)


def in_java(two: Fleet) -> set[str]:
    return aliases(two.hosts["apps"], "doit-pki")


STORES: dict[str, Callable[[Fleet], set[str]]] = {
    "debian": in_debian,
    "rhel": in_rhel,
    "nss": in_nss,
    "java": in_java,
}


def aliases(machine: NamespaceMachine, beginning: str) -> set[str]:
    """What Java's own store holds, by the beginning of its name."""
    said = machine.run("keytool", "-list", "-cacerts", "-storepass", "changeit").stdout
    return {line.partition(",")[0] for line in said.splitlines() if line.startswith(beginning)}


def pem(text: str) -> str:
    return text[text.index("-----BEGIN") :].strip()


def everywhere(two: Fleet) -> dict[str, frozenset[str]]:
    return {store: frozenset(look(two)) for store, look in STORES.items()}


# -- the programs that read them --------------------------------------------------------------------------------------


def curl(two: Fleet, *options: str) -> int:
    """The exit status of curl: 60 when it trusts the server's certificate not."""
    return (
        two.hosts["web"]
        .run("curl", "--silent", "--output", "/dev/null", *options, f"https://{SERVER}/", check=False)
        .returncode
    )


def nss(two: Fleet) -> int:
    """The exit status of a client that knows NSS alone: 254 when the handshake ends badly."""
    options = ("-h", SERVER, "-p", "443", "-d", "sql:/etc/pki/nssdb", "-V", "tls1.2:tls1.3", "-Q")
    return two.hosts["apps"].run("tstclnt", *options, check=False).returncode


def java(two: Fleet) -> str:
    if shutil.which("javac") is None:
        pytest.skip("a JRE alone runs no source; keytool has judged")
    program = Path(__file__).parent / "Trusted.java"
    return two.hosts["apps"].run("java", program, f"https://{SERVER}/", check=False, timeout=TIMEOUT).stdout.strip()


def keytool_knows_the_issuer(two: Fleet) -> bool:
    """Whether keytool takes our intermediate without a question, because a chain leads to one of cacerts' roots."""
    intermediate = (two.home / "ca/server/server-1/cert.pem").read_text()
    done = two.hosts["apps"].run(
        *("keytool", "-importcert", "-trustcacerts", "-keystore", "/root/none.p12", "-storepass", "changeit"),
        *("-alias", "x", "-file", "/dev/stdin"),
        stdin=intermediate,
        check=False,
    )
    two.hosts["apps"].run("rm", "-f", "/root/none.p12")
    return "Trust this certificate" not in done.stdout + done.stderr


# -- in order: the project grows older from test to test -----------------------------------------------------------------


def test_before_the_first_delivery_nobody_trusts_the_project(two: Fleet) -> None:
    assert in_java(two) == set()
    assert two.hosts["apps"].exists("/usr/local/sbin/pki-trust")


def test_curl_nss_and_java_trust_a_served_certificate_by_their_own_stores(two: Fleet) -> None:
    two.program("doit")
    assert everywhere(two) == dict.fromkeys(STORES, frozenset({"doit-pki-root-1"}))
    assert curl(two) == 0
    assert curl(two, "--capath", "/nowhere", "--cacert", RHEL_BUNDLE) == 0
    assert curl(two, "--capath", "/nowhere", "--cacert", "/etc/ssl/certs/ssl-cert-snakeoil.pem") in {60, 77}
    assert nss(two) == 0
    assert keytool_knows_the_issuer(two)
    assert java(two) == "trusted"


def test_what_stands_in_a_store_besides_is_left_alone_and_a_second_run_changes_nothing(two: Fleet) -> None:
    apps = two.hosts["apps"]
    before = apps.run("sha256sum", "/etc/ssl/certs/java/cacerts", "/etc/pki/nssdb/cert9.db").stdout
    assert len(aliases(apps, "debian:")) > 100
    for store in ("nss", "java"):
        apps.run("pki-trust", store)
    assert apps.run("sha256sum", "/etc/ssl/certs/java/cacerts", "/etc/pki/nssdb/cert9.db").stdout == before
    assert is_idle(two.program("doit"))


def test_another_certificate_under_our_name_is_exchanged(two: Fleet) -> None:
    apps = two.hosts["apps"]
    other = (two.home / "ca/client/client-1/cert.pem").read_text()
    apps.write("/root/other.pem", other)
    apps.run("certutil", "-D", "-d", "sql:/etc/pki/nssdb", "-n", "doit-pki-root-1")
    apps.run(
        "certutil",
        "-A",
        "-d",
        "sql:/etc/pki/nssdb",
        "-n",
        "doit-pki-root-1",
        "-t",
        "C,,",
        "-a",
        "-i",
        "/root/other.pem",
    )
    apps.run("pki-trust", "nss")
    assert nss(two) == 0
    assert in_nss(two) == {"doit-pki-root-1"}


def test_while_a_root_follows_another_both_are_trusted(two: Fleet) -> None:
    two.program("doit", days=ROLLOVER // 2)  # no half year passes without a run: then the clock would be doubted
    two.program("doit", days=ROLLOVER)
    assert everywhere(two) == dict.fromkeys(STORES, frozenset({"doit-pki-root-1", "doit-pki-root-2"}))


def test_a_root_that_has_ended_is_gone_from_every_store(two: Fleet) -> None:
    two.program("doit", days=LATER)
    assert everywhere(two) == dict.fromkeys(STORES, frozenset({"doit-pki-root-2"}))


def test_a_store_that_left_pki_yaml_holds_nothing_of_ours(two: Fleet) -> None:
    two.edit("pki.yaml", "trust: [debian, rhel]", "trust: none")
    two.edit("pki.yaml", "trust: [nss, java]", "trust: none")
    two.program("doit", days=LATER)
    assert everywhere(two) == dict.fromkeys(STORES, frozenset())
