"""IPv6: which addresses each program accepts below our name constraints, and hosts that have it, alone or beside IPv4."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pki.demo.lab import Lab
from pki.demo.namespace_machine import check_programs
from tests.integration import address_judges
from tests.integration.address_judges import Case
from tests.integration.fleet import UNITS, Fleet
from tests.integration.proxies import REFUSED_BY_TLS
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT

Judge = Callable[[Sequence[Case], Path], Mapping[Case, bool]]
CA = "192.0.2.10"
REFUSED = {"400", "403", *(f"curl {number}" for number in REFUSED_BY_TLS)}
ADDRESSES = {  # those of each host, by its proxy; ssh takes the first one
    "nginx": ("fd00:77::11",),
    "haproxy": ("fd00:77::12", "192.0.2.12"),
    "caddy": ("192.0.2.13", "fd00:77::13"),
    "apache": ("fd00:77::14",),
}
INVENTORY = """\
organisation: Example Lab
domains: [lab.internal]
publish: {url: "http://[FD00:77::14]", host: apache}
sandbox: true
networks: {lan: [192.0.2.0/24, fd00:77::/64]}
deploy: {ssh_config: ssh_config}
clients:
  admin: {email: admin@lab.internal}
  other: {email: other@lab.internal}
hosts:
"""
HOST = """\
  {name}:
    network: lan
    address: [{addresses}]
    deliver: ssh
    proxy: {name}
    names: [{name}.lab.internal, "{v6}"]
    services:
      {name}-admin: {{upstream: "http://[::1]:3000", access: mtls}}
      {name}-open: {{upstream: "http://[::1]:3000", access: tls, names: ["{v6}00", {name}-open.lab.internal]}}
"""


# -- name constraints -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return address_judges.write_cases(tmp_path_factory.mktemp("addresses"))


@pytest.mark.parametrize(
    "judge",
    [address_judges.openssl, address_judges.gnutls, address_judges.java, address_judges.nss, address_judges.go],
    ids=lambda judge: judge.__name__,
)
def test_each_program_accepts_the_permitted_addresses_and_no_other(cases: list[Case], judge: Judge) -> None:
    accepted = judge(cases, cases[0].folder / "root.pem")
    assert {case.name: accepted[case] for case in cases} == {case.name: case.is_permitted for case in cases}


# -- hosts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A host for each proxy, with IPv6 alone or with both, and everything delivered over ssh in one run."""
    check_programs(*UNITS.values(), "ssh", "curl")
    home = tmp_path_factory.mktemp("six") / "home"
    shutil.copytree(PROJECT / "templates", home / "templates")
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    inventory, known = INVENTORY, ""
    with Lab({"lan": "fd00:77::/64"}) as lab:
        ca, hosts = lab.machine("ca", address="fd00:77::10"), {}
        lab.add_address(ca, f"{CA}/24")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        for name, addresses in ADDRESSES.items():
            v6, *v4 = sorted(addresses, key=lambda address: ":" not in address)
            names = [f"{name}-admin.lab.internal", f"{name}-open.lab.internal"]
            host = hosts[name] = lab.machine(name, address=v6, names=names)
            for address in v4:
                lab.add_address(host, f"{address}/24")
            inventory += HOST.format(name=name, addresses=", ".join(f'"{one}"' for one in addresses), v6=v6.upper())
            if name == "apache":
                host.run("a2enmod", "-q", "ssl", "proxy", "proxy_http", "proxy_wstunnel", "headers", "rewrite")
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.start(
                "python3", "-m", "http.server", "--directory", "/usr/share/common-licenses", "--bind", "::1", "3000"
            )
            host.serve("ssh", UNITS[name])
            known += f"{addresses[0]} {host.host_key()}\n"
        (home / "known_hosts").write_text(known)
        (home / "pki.yaml").write_text(inventory)
        fleet = Fleet(lab, home, ca, hosts)
        for name in hosts:
            fleet.program("invoke", "deploy.bootstrap", name)
        fleet.program("doit")
        yield fleet


def visit(lan: Fleet, host: str, service: str, address: str, *options: str) -> str:
    """What curl gets from a service at one address."""
    name = f"{host}-{service}.lab.internal"
    at = f"[{address}]" if ":" in address else address
    return lan.curl(f"https://{name}/", "--connect-to", f"{name}:443:{at}:443", *options)


def test_one_run_delivers_over_ipv6_and_verifies_every_address(lan: Fleet) -> None:
    for name, addresses in ADDRESSES.items():
        receipt = lan.receipt(name)
        assert receipt["transport"] == "ssh"
        assert receipt["verification"] == {f"{name}-{kind}": ["verified", "verified"] for kind in ("admin", "open")}, (
            f"{name} at {addresses}"
        )
        source = "fd00:77::10" if ":" in addresses[0] else CA
        assert f"Accepted publickey for root from {source} " in lan.hosts[name].read("/var/log/sshd.log")
    assert is_idle(lan.program("doit"))


@pytest.mark.parametrize(("host", "address"), [(host, one) for host, those in ADDRESSES.items() for one in those])
def test_each_address_lets_the_client_in_and_nobody_without_a_certificate(lan: Fleet, host: str, address: str) -> None:
    client = ("--cert", str(lan.home / "ca/clients/admin/tls.pem"))
    assert visit(lan, host, "open", address) == "200"
    assert visit(lan, host, "admin", address, *client) == "200"
    assert visit(lan, host, "admin", address) in REFUSED


def test_a_certificate_names_the_address_in_its_canonical_form(lan: Fleet) -> None:
    certificate = lan.home / "build/certs/nginx/cert.pem"
    shown = lan.ca.run("openssl", "x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName").stdout
    assert "IP Address:FD00:77:0:0:0:0:0:11" in shown
    checked = lan.ca.run(
        *("openssl", "verify", "-CAfile", str(lan.home / "build/trust/roots.pem")),
        *("-untrusted", str(lan.home / "build/certs/nginx/chain.pem"), "-verify_ip", "fd00:77::11", str(certificate)),
    )
    assert "OK" in checked.stdout


def test_crls_are_published_at_an_address_in_brackets(lan: Fleet) -> None:
    certificate = lan.home / "build/certs/nginx/cert.pem"
    shown = lan.ca.run("openssl", "x509", "-in", str(certificate), "-noout", "-text").stdout
    url = "http://[fd00:77::14]/crl/server-1.crl"
    assert f"URI:{url}" in shown
    assert lan.curl(url) == "200"


def test_a_broken_address_beside_one_that_works_is_a_finding(lan: Fleet) -> None:
    """The probe of every run sees it, whether or not anything is delivered."""
    host = lan.hosts["caddy"]
    block = "add table ip6 broken; add chain ip6 broken input { type filter hook input priority 0; };"
    host.run("nft", "-f", "-", stdin=f"{block} add rule ip6 broken input tcp dport 443 reject with tcp reset")
    try:
        report = lan.program("invoke", "health", status=frozenset({3}))
    finally:
        host.run("nft", "delete", "table", "ip6", "broken")
    assert "service:caddy/caddy-admin at fd00:77::13 does not answer" in " ".join(report.split())
    assert "192.0.2.13" not in report


def test_a_revocation_is_verified_at_every_address(lan: Fleet) -> None:
    shutil.copy(lan.home / "ca/clients/other/tls.pem", lan.home / "revoked.pem")
    said = lan.program("invoke", "revoke", "other", "--reason", "key-compromise", "--yes")
    assert "revoked, published, and verified at" in said
    for place in ("nginx/nginx-admin", "haproxy/haproxy-admin at fd00:77::12", "haproxy/haproxy-admin at 192.0.2.12"):
        assert f"{place} refuses the revoked identity in a new connection" in " ".join(said.split())
    for host, addresses in ADDRESSES.items():
        for address in addresses:
            refused = visit(lan, host, "admin", address, "--cert", str(lan.home / "revoked.pem"))
            assert refused in REFUSED, (host, address, refused)
