"""A overlap and a revocation before proxies and browsers as themselves; old CRLs that come back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.ceremony.online.make_request import RequestOptions
from tests.integration.conftest import TIMEOUT, LiveRealHome, built
from tests.integration.proxies import NAMES, Proxy, Upstreams, started
from tests.integration.proxy_stage import HOSTS, MTLS, TLS, Stage, address, serve_two_on_each_host
from tests.integration.years import quick_years
from tests.support import judges
from tests.support.ceremonies import RealHome, real_home

CLIENTS_LOST = RequestOptions(revoke=(("client-1", "keyCompromise"),))
SERVERS_LOST = RequestOptions(revoke=(("server-1", "keyCompromise"),))
NEXT_RUNG = 360  # 390 days of a root CRL, less 30 of overlap


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_years():
        yield


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Upstreams]:
    found = Upstreams()
    for service in {*MTLS.values(), *TLS.values()}:
        found.start(service)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def served_once(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its first ceremony and run, with an open service and one behind mTLS on each host."""
    home = LiveRealHome(real_home(tmp_path_factory.mktemp("served")).path)
    serve_two_on_each_host(home, upstreams)
    home.ceremony()
    built(home)
    return home.path.parent


@pytest.fixture
def served(served_once: Path, tmp_path: Path) -> LiveRealHome:
    shutil.copytree(served_once, tmp_path / "served", symlinks=True)
    return LiveRealHome(tmp_path / "served" / "project")


def reload(proxy: Proxy) -> None:
    proxy.configure()
    proxy.check()
    proxy.reload()


# -- a new root -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NAMES)
def test_proxies_serve_old_and_new_clients_under_two_roots(
    kind: str, served: LiveRealHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    """Whichever of the roots a client trusts, and whether its certificate comes from before or after."""
    old, new = tmp_path / "old.pem", served.path / "ca/clients/admin/tls.pem"
    old.write_bytes(new.read_bytes())
    served.edit("host: monitoring}", f"host: {HOSTS[kind]}}}")
    built(served)
    with started(kind, served, HOSTS[kind], tmp_path / "work") as proxy:
        served.ceremony(RequestOptions(generations=("root",)))
        built(served)
        reload(proxy)
        assert len(judges.certificates(new.read_bytes())) == 3, "leaf, intermediate, and the new root by the old one"
        for number in (1, 2):
            trust = ("--cacert", served.path / f"ca/root/root-{number}/cert.pem")
            for cert in (old, new):
                for version in ("1.2", "1.3"):
                    limits = (f"--tlsv{version}", "--tls-max", version)
                    answer = proxy.curl(address(MTLS[kind]), "--cert", cert, *trust, *limits)
                    assert answer.accepted, answer
            assert proxy.curl(address(TLS[kind]), *trust).accepted
        upstreams.seen.clear()
        assert proxy.curl(address(MTLS[kind])).refused
        assert upstreams.seen == []
        for generation in ("root-1", "root-2", "server-1", "server-2", "client-1", "client-2"):
            for path in (f"crl/{generation}.crl", f"ca/{generation}.crt"):
                answer = proxy.curl(f"http://pki.lab.internal/{path}", "--output", tmp_path / "published")
                assert (answer.status, path) == (200, path)
                assert (tmp_path / "published").read_bytes() == served.read(published(path))


def published(path: str) -> str:
    folder, _, file = path.partition("/")
    return f"build/{'crl' if folder == 'crl' else 'trust'}/{file}"


# -- the client intermediate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NAMES)
def test_no_certificate_of_a_revoked_client_intermediate_gets_in(
    kind: str, served: LiveRealHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    old, whole = tmp_path / "old.pem", served.read("ca/clients/admin/tls.pem")
    old.write_bytes(whole)
    assert len(judges.certificates(whole)) == 2, "curl sends the old intermediate along"
    tls = served.read(f"build/certs/{HOSTS[kind]}/tls.pem")
    with started(kind, served, HOSTS[kind], tmp_path / "work") as proxy:
        stage = Stage(proxy, upstreams)
        assert proxy.curl(address(stage.mtls), "--cert", old).accepted
        served.ceremony(CLIENTS_LOST)
        assert proxy.curl(address(stage.mtls), "--cert", old).accepted, "nothing was delivered yet"
        built(served)
        reload(proxy)

        upstreams.seen.clear()
        for version in ("1.2", "1.3"):
            limits = (f"--tlsv{version}", "--tls-max", version)
            stage.assert_kept_out(proxy.curl(address(stage.mtls), "--cert", old, *limits))
            assert proxy.curl(address(stage.mtls), *stage.client, *limits).accepted
            upstreams.seen.clear()
        assert proxy.curl(address(stage.tls)).service == stage.tls
        assert served.read(f"build/certs/{HOSTS[kind]}/tls.pem") == tls, "servers are none of its concern"
    assert served.doit().made == {}


def test_host_without_mutual_tls_is_left_as_it_is(real: RealHome) -> None:
    files = {path: path.read_bytes() for path in real.path.glob("build/hosts/media/etc/doit-pki/*.pem")}
    real.ceremony(CLIENTS_LOST, days=1)
    report = real.doit(days=1)
    assert report.status == 0
    assert files == {path: path.read_bytes() for path in real.path.glob("build/hosts/media/etc/doit-pki/*.pem")}


def test_intermediate_that_is_named_twice_is_revoked_once(real: RealHome) -> None:
    (series,) = real.ask(RequestOptions(revoke=CLIENTS_LOST.revoke * 2)).request.crl_series
    assert [one.generation for one in series.revoked] == ["client-1"]


# -- old CRLs that come back ------------------------------------------------------------------------------------------


def presigned_crls(home: RealHome) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.path.glob("ca/root/root-1/crl/*.pem")}


def lists_client_1(home: RealHome, file: str) -> bool:
    """Whether what is delivered to servers still says that the old client intermediate is revoked."""
    serial = judges.certificate(home.path / "ca/client/client-1/cert.pem").serial_number
    root = judges.certificate(home.path / "ca/root/root-1/cert.pem")
    (found,) = (crl for crl in judges.crls(home.read(file)) if crl.issuer == root.subject)
    return serial in {entry.serial_number for entry in found}


@pytest.mark.parametrize("days", [0, 1, NEXT_RUNG - 1, NEXT_RUNG, NEXT_RUNG + 1])
def test_old_rungs_put_back_are_not_published(real: RealHome, days: int) -> None:
    """The one that has begun is outnumbered; the one that had not begun then is outnumbered on its own day too."""
    old = presigned_crls(real)
    assert len(old) == 2
    real.ceremony(CLIENTS_LOST)
    assert not old.keys() & presigned_crls(real).keys()
    for path, content in old.items():
        path.write_bytes(content)
    assert real.doit(days=days).status == 0
    for file in ("build/crl/root-1.pem", "build/hosts/monitoring/etc/doit-pki/client-crl.pem"):
        assert lists_client_1(real, file)


@pytest.mark.parametrize("days", [1, NEXT_RUNG])
def test_old_rungs_in_place_of_the_new_are_refused(real: RealHome, days: int) -> None:
    """As after a restored backup: what is published stays, and the run says that it cannot go on."""
    old = presigned_crls(real)
    real.ceremony(CLIENTS_LOST)
    assert real.doit().status == 0
    for path in presigned_crls(real):
        path.unlink()
    for path, content in old.items():
        path.write_bytes(content)
    report = real.doit(days=days)
    assert "does not list the revoked" in report.failed["crl:root-1"]
    for file in ("build/crl/root-1.pem", "build/hosts/monitoring/etc/doit-pki/client-crl.pem"):
        assert lists_client_1(real, file)


def test_revocation_outlives_the_rungs_of_its_day(real: RealHome) -> None:
    """Every later ceremony lists it again, until the revoked intermediate would have ended by itself."""
    real.ceremony(CLIENTS_LOST)
    for day in (NEXT_RUNG + 1, 490, 729):
        real.ceremony(RequestOptions(crls=True), days=day)
        assert real.doit(days=day).status == 0
        assert lists_client_1(real, "build/crl/root-1.pem"), day


# -- the server intermediate ------------------------------------------------------------------------------------------


def browser(proxy: Proxy, work: Path, remembered: bytes = b"") -> str:
    """What a client says that looks up the CRL of every authority: as the publishing host has them now, or remembered."""
    published = proxy.home.path.glob("build/hosts/monitoring/var/www/pki/crl/*.crl")
    crls = [x509.load_der_x509_crl(path.read_bytes()) for path in published]
    root = proxy.home.read("ca/root/root-1/cert.pem")
    (work / "trust.pem").write_bytes(root + remembered + b"".join(crl.public_bytes(Encoding.PEM) for crl in crls))
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-x509_strict", "-crl_check_all"),
            *("-servername", f"{TLS[proxy.name]}.lab.internal", "-verify_return_error", "-purpose", "sslserver"),
            *("-verify_hostname", f"{TLS[proxy.name]}.lab.internal", "-no-CApath", "-no-CAstore"),
            *("-CAfile", work / "trust.pem"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("kind", NAMES)
def test_browser_refuses_the_chain_of_a_revoked_server_intermediate(
    kind: str, served: LiveRealHome, tmp_path: Path
) -> None:
    with started(kind, served, HOSTS[kind], tmp_path / "work") as proxy:
        assert "Verify return code: 0 (ok)" in browser(proxy, tmp_path)
        remembered = served.read("build/crl/server-1.pem")
        served.ceremony(SERVERS_LOST)
        built(served)
        # until the proxy reads its new files; the revoked authority's own CRL is published no longer
        assert "unable to get certificate CRL" in browser(proxy, tmp_path)
        assert "certificate revoked" in browser(proxy, tmp_path, remembered)
        reload(proxy)
        said = browser(proxy, tmp_path)
        assert "Verify return code: 0 (ok)" in said
        assert "Server CA 2" in said
        answer = proxy.curl(address(MTLS[kind]), "--cert", served.path / "ca/clients/admin/tls.pem")
        assert answer.accepted, "client certificates are none of its concern"
