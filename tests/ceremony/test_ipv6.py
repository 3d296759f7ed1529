"""IPv6 in a project: certificates and releases with it, and the ceremony that an older authority needs for it."""

from __future__ import annotations

import re

import pytest
from cryptography import x509

from pki.ceremony import plan_text
from pki.ceremony.online import ceremony_archive
from pki.monitor import forecast
from tests.support import judges
from tests.support.backups import Invoke
from tests.support.ceremonies import RealHome
from tests.support.invoked import invoke
from tests.support.judges import Identity
from tests.support.projects import Home, bare_home

__all__ = ["invoke"]

URL = "http://pki.lab.internal"
NETWORKS = ["10.0.0.0/8", "fc00::/7"]
BOX = """\
# deploy-target: /opt/cnf/six.cnf
# deploy-hosts: media
[ req ]
prompt = no
distinguished_name = dn
req_extensions = v3
[ dn ]
CN = six.lab.internal
[ v3 ]
subjectAltName = DNS:six.lab.internal, IP:FD00:30:0::6
"""


def use_ipv6(home: Home) -> None:
    """Give the network of media an IPv6 block, and media an address and a name in it."""
    home.edit("permit_addresses: [10.0.0.0/8]      # IP names must lie in here\n", "")
    home.edit("av: 10.30.0.0/24", "av: [10.30.0.0/24, fd00:30::/64]")
    home.edit("address: 10.30.0.10\n", 'address: [10.30.0.10, FD00:30::10]\n    names: ["FD00:30:0::10"]\n')


def names_of(home: Home, leaf: str) -> list[str]:
    certificate = judges.certificate(home.path / f"build/certs/{leaf}/cert.pem")
    return [str(name.value) for name in judges.extension_of(certificate, x509.SubjectAlternativeName)]


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The example with IPv6 from its first ceremony on, after its first run."""
    home = bare_home(tmp_path_factory.mktemp("six") / "home")
    use_ipv6(home)
    home.write("templates/six.cnf", BOX)
    report = home.doit()
    assert report.status == 0, report.failed
    return home


def test_a_new_project_gets_authorities_that_permit_ipv6_and_certificates_that_name_it(six: Home) -> None:
    assert names_of(six, "media") == ["jellyfin.lab.internal", "fd00:30::10"]
    assert names_of(six, "six") == ["six.lab.internal", "fd00:30::6"]
    root = judges.certificate(six.path / "ca/root/root-1/cert.pem")
    for authority in ("server", "client"):
        ca = judges.certificate(six.path / f"ca/{authority}/{authority}-1/cert.pem")
        judges.assert_is_ca(ca, root, authority, url=URL, domains=["lab.internal"], networks=NETWORKS)
    identity = Identity.read(six.path / "build/certs/media/tls.pem")
    address = x509.IPAddress(judges.ip_network("fd00:30::10/128").network_address)
    assert judges.x509_verification_fault(identity, [root], six.moment(1), address) == ""
    transcripts = "".join(path.read_text() for path in (six.path / "offline").rglob("transcript*"))
    for address_outside in ("203.0.113.7", "2001:db8::7"):
        assert f"under server-1, a server certificate for {address_outside} is refused" in transcripts


def test_a_run_with_ipv6_and_nothing_to_do_does_nothing(six: Home) -> None:
    assert six.doit().made == {}


def test_a_certificate_is_found_by_an_address_in_every_spelling(six: Home, invoke: Invoke) -> None:
    for address in ("fd00:30::10", "FD00:30:0::0010"):
        assert "a server certificate for jellyfin.lab.internal, fd00:30::10" in invoke(six, "explain", address).out


def listeners(home: Home, host: str, path: str, word: str) -> list[str]:
    text = (home.path / "build/release" / host / "files" / path).read_text()
    return re.findall(rf"^ *{word} (.*?);?$", text, re.MULTILINE)


def test_proxies_listen_on_ipv6_where_the_host_has_it_and_nowhere_else(fresh: Home) -> None:
    """A kernel without IPv6 refuses the socket, and then nginx and HAProxy do not start."""
    fresh.edit("permit_addresses: [10.0.0.0/8]      # IP names must lie in here\n", "")
    fresh.edit("mgmt: 10.10.0.0/24, dev: 10.20.0.0/24", "mgmt: [10.10.0.0/24, fd00:10::/64], dev: 10.20.0.0/24")
    assert fresh.doit().status == 0
    nginx, haproxy = "etc/nginx/conf.d/pki-services.conf", "etc/haproxy/haproxy.cfg"
    assert not [line for line in listeners(fresh, "monitoring", nginx, "listen") if "[" in line]
    assert not [line for line in listeners(fresh, "forge", haproxy, "bind") if "[" in line]
    fresh.edit("address: 10.10.0.10", "address: [10.10.0.10, fd00:10::10]")
    fresh.edit("dev: 10.20.0.0/24", "dev: [10.20.0.0/24, fd00:20::/64]")
    fresh.edit("    address: 10.20.0.10\n", "")
    fresh.edit("http://pki.lab.internal", "http://[FD00:10::10]")
    report = fresh.doit()
    assert report.status == 0, report.failed
    lines = listeners(fresh, "monitoring", nginx, "listen")
    assert lines == [
        *("443 ssl default_server", "[::]:443 ssl default_server"),
        *(["443 ssl", "[::]:443 ssl"] * 3),
        *("80", "[::]:80"),
    ]
    assert listeners(fresh, "monitoring", nginx, "server_name")[-1] == "[fd00:10::10]"
    assert [line.split()[:2] for line in listeners(fresh, "forge", haproxy, "bind")] == [
        [":443", "ssl"],
        ["[::]:443", "v6only"],
    ]


def test_an_authority_without_ipv6_needs_a_ceremony_and_issues_nothing_before(real: RealHome, invoke: Invoke) -> None:
    before = real.read("build/certs/media/cert.pem")
    use_ipv6(real)
    real.write("templates/six.cnf", BOX)
    report = real.doit(days=30)
    assert report.status == 0, report.failed
    assert "for server-2: server-1 does not permit fc00::/7" in report.made["ceremony:request"]
    project, plan = real.project(30), real.plan(30)
    actions = {str(note.subject): (note.text, str(note.remedy)) for note in forecast.required_actions(project, plan)}
    text, remedy = actions["host:media"]
    assert text == "fd00:30::10 waits: server-1 does not permit it; needs a ceremony"
    assert remedy.startswith("./run invoke ceremony.request, ")
    assert actions["cert:six"][0] == "fd00:30::6 waits: server-1 does not permit it; needs a ceremony"
    assert not (real.path / "build/certs/six").exists()
    assert real.read("build/certs/media/cert.pem") == before
    for command in ("plan", "health"):
        assert text in " ".join(invoke(real, command).out.split()), command
    (waiting,) = ceremony_archive.open_requests(project.store)
    spoken = "\n".join(plan_text.signature_lines(waiting.request, real.open(waiting.path, 30).contents))
    assert "for addresses in 10.0.0.0/8, fc00::/7\n" in spoken
    assert "against server-1: MORE addresses: fc00::/7" in spoken
    real.accept(real.answer(waiting.path, days=30), days=30)
    assert real.doit(days=30).status == 0
    assert names_of(real, "media") == ["jellyfin.lab.internal", "fd00:30::10"]
    assert names_of(real, "six") == ["six.lab.internal", "fd00:30::6"]
    root = real.certificate("root-1")
    judges.assert_is_ca(
        real.certificate("server-2"), root, "server", url=URL, domains=["lab.internal"], networks=NETWORKS
    )
    assert not [note for note in forecast.required_actions(real.project(30), real.plan(30)) if "waits" in note.text]
