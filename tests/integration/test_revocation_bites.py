"""That a revocation is acted on, seen from outside at each proxy itself: with the probe, the canary and old sessions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.deploy import access, verification
from pki.deploy.tls_client import Endpoint, Prober, Unreached
from pki.deploy.verification import PASSED_ON, VERIFIED, Expectation
from pki.pipeline.delivery_targets import ReleaseChecks
from pki.pipeline.desired_state import DesiredState
from tests.integration.conftest import LiveHome
from tests.integration.proxies import NAMES, Proxy, Upstreams, started
from tests.integration.proxy_stage import HOSTS, MTLS, TLS, mixed, upstreams

__all__ = ["mixed", "upstreams"]

# A host that is reached by ssh, for which a project keeps its test identities; nothing is delivered to it here.
FAR = """hosts:
  far:
    network: dev
    address: 10.20.0.99
    deliver: ssh
    proxy: nginx
    services: {remote: {upstream: "http://127.0.0.1:3003", access: mtls}}
"""
# What makes each proxy forget revocations, and pass the test identities on: file, pattern, what stands there then.
FORGETS = {
    "nginx": ("pki-services.conf", r"ssl_crl .*;", ""),
    "haproxy": ("pki-crt-list.txt", r"crl-file \S+", ""),
    "caddy": ("Caddyfile", r"respond @revoked 403", ""),
    "apache": ("pki-services.conf", r"SSLCARevocationCheck chain", ""),
}
PASSES_ON = {
    "nginx": ("pki-services.conf", r"if \(\$ssl_client_s_dn .*", ""),
    "haproxy": ("haproxy.cfg", r"http-request return status 204 .*", ""),
    "caddy": ("Caddyfile", r"respond @probes 204", ""),
    "apache": ("pki-services.conf", r"RewriteRule \^ - \[R=204,L\]", ""),
}


def deliver(home: LiveHome) -> None:
    """A run for every host but the one that is not there."""
    tasks = ("cert", "crl", "bundle", *(f"deploy:{host}" for host in dict.fromkeys(HOSTS.values())))
    report = home.doit(*tasks)
    assert report.status == 0, report.failed


@pytest.fixture(scope="module")
def watched_once(mixed: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """The project of the proxies, with its probe and its canary."""
    home = mixed.copy(tmp_path_factory.mktemp("watched") / "home")
    home.edit("hosts:\n", FAR)
    deliver(home)
    return home


@dataclass(frozen=True)
class Watched:
    """A proxy that runs, and what its project says of it."""

    proxy: Proxy
    upstreams: Upstreams

    @property
    def home(self) -> LiveHome:
        return self.proxy.home

    def endpoint(self, service: str, access: str = "mtls") -> Endpoint:
        return Endpoint(service, f"{service}.lab.internal", "127.0.0.1", self.proxy.port, access)

    @property
    def mtls(self) -> Endpoint:
        return self.endpoint(MTLS[self.proxy.name])

    def seen(self, *, answers: bool = True) -> str:
        """What a look at both services finds; of the open one nothing else than that it is verified."""
        opened = self.endpoint(TLS[self.proxy.name], "tls")
        expectations = {
            end.name: Expectation(self._fingerprint(leaf), answers=answers, revokes=True)
            for end, leaf in ((self.mtls, f"{self.proxy.host}-mtls"), (opened, self.proxy.host))
        }
        found = verification.verify_services([self.mtls, opened], expectations, None, self.prober)
        assert found[opened.service] == VERIFIED
        return found[self.mtls.service]

    @property
    def prober(self) -> Prober:
        return ReleaseChecks(DesiredState.of(self.home.project())).prober

    def _fingerprint(self, leaf: str) -> str:
        served = x509.load_pem_x509_certificate(self.home.read(f"build/certs/{leaf}/cert.pem"))
        return hashlib.sha256(served.public_bytes(Encoding.DER)).hexdigest()

    def spoil(self, file: str, pattern: str, new: str) -> None:
        """Change what the proxy reads, and let it; a pattern that is not found fails the test."""
        path = self.proxy.work / file
        text, found = re.subn(pattern, new, path.read_text())
        assert found
        path.write_text(text)
        self.proxy.reload()


@pytest.fixture
def watched(
    request: pytest.FixtureRequest, watched_once: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> Iterator[Watched]:
    kind = request.param
    upstreams.seen.clear()
    with started(kind, watched_once, HOSTS[kind], tmp_path / "work") as proxy:
        yield Watched(proxy, upstreams)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "VERIFY_TIMEOUT", 3.0)


everywhere = pytest.mark.parametrize("watched", NAMES, indirect=True)


@everywhere
def test_each_proxy_is_proven_until_it_forgets_revocations(watched: Watched) -> None:
    assert watched.seen() == VERIFIED
    assert watched.mtls.service not in watched.upstreams.seen
    watched.spoil(*FORGETS[watched.proxy.name])
    assert watched.seen().text == "lets the revoked canary in with 204"
    assert watched.mtls.service not in watched.upstreams.seen


@everywhere
def test_a_proxy_that_passes_the_probe_on_is_told_from_one_that_answers_it(watched: Watched) -> None:
    assert watched.seen() == VERIFIED
    watched.spoil(*PASSES_ON[watched.proxy.name])
    assert watched.seen().text == "answers 200 to the probe; its configuration says 204"
    assert watched.seen(answers=False) == PASSED_ON


@pytest.mark.parametrize("kind", NAMES)
def test_a_revocation_ends_sessions_that_were_open_before_it(
    kind: str, watched_once: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    home = watched_once.copy(tmp_path / "home")
    old, roots = tmp_path / "old.pem", home.path / "build/trust/roots.pem"
    old.write_bytes(home.read("ca/clients/admin/tls.pem"))
    with started(kind, home, HOSTS[kind], tmp_path / "work") as proxy:
        watched = Watched(proxy, upstreams)
        session = access.open_session(watched.mtls, roots, old)
        assert access.acceptance_text(watched.mtls, roots, old, session) == "lets it in with 200"
        revoke(home)
        proxy.configure()
        proxy.reload()
        assert access.acceptance_text(watched.mtls, roots, old, session) == ""
        assert watched.seen() == VERIFIED
    with pytest.raises(Unreached, match="could not be reached"):
        access.acceptance_text(watched.mtls, roots, old, session)


def test_a_proxy_whose_sessions_outlive_a_revocation_is_found_out(
    watched_once: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    """Nginx remembers that a certificate was good: https://nginx.org/en/docs/http/ngx_http_ssl_module.html#ssl_session_cache."""
    home = watched_once.copy(tmp_path / "home")
    old, roots = tmp_path / "old.pem", home.path / "build/trust/roots.pem"
    old.write_bytes(home.read("ca/clients/admin/tls.pem"))
    with started("nginx", home, HOSTS["nginx"], tmp_path / "work") as proxy:
        watched, sloppy = (
            Watched(proxy, upstreams),
            ("pki-services.conf", r"ssl_session_cache off", "ssl_session_cache shared:x:1m"),
        )
        watched.spoil(*sloppy)
        session = access.open_session(watched.mtls, roots, old)
        assert session is not None
        revoke(home)
        proxy.configure()
        watched.spoil(*sloppy)
        assert access.acceptance_text(watched.mtls, roots, old) == ""
        found = access.acceptance_text(watched.mtls, roots, old, session)
        assert found == "lets it in with 200, in a resumed session"


def revoke(home: LiveHome) -> None:
    """Revoke the admin's certificate, and deliver what follows from it to all but the host that is not there."""
    project = home.project()
    [issued] = project.ledger.certificates(artifact="cert:client-admin")
    project.ledger.record_revocation(issued, reason="keyCompromise", at=project.now)
    project.ledger.close()
    deliver(home)
