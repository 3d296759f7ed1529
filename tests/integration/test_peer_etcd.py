"""A cluster of etcd with certificates of `authorities.peer`, and who accepts these: OpenSSL and GnuTLS as servers and clients."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, LiveHome, run
from tests.integration.gnutls_judge import USAGE
from tests.integration.peer_cluster import cluster_home
from tests.integration.proxies import free_port, listens, wait_until

PATIENCE = 60  # seconds
NAMES = ("etcd1", "etcd2", "etcd3")
FILES = {
    "peer.pem": "fullchain:{{ host.name }}-peer",
    "peer.key": "key:{{ host.name }}-peer",
    "peer-ca.pem": "trust:peer",
}
FILES |= {"peer-crls.pem": "crl:bundle-peer"}


@pytest.fixture(scope="module")
def home_of_etcd(tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """A sandbox with three members, after its first run."""
    templates = {file: f"# deploy-artifact: {artifact}\n" for file, artifact in FILES.items()}
    return cluster_home(tmp_path_factory.mktemp("cluster"), "/etc/etcd/pki", NAMES, templates)


@dataclass
class Member:
    """A member of the cluster, which reads the files that doit delivered to its host."""

    home: LiveHome
    name: str
    folder: Path
    peer_port: int = field(default_factory=free_port)
    client_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def peer_url(self) -> str:
        return f"https://127.0.1.{self.name[-1]}:{self.peer_port}"

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def file(self, name: str) -> Path:
        return self.home.path / f"build/hosts/{self.name}/etc/etcd/pki" / name

    def start(self, members: list[Member], certificate: Path | None = None, key: Path | None = None) -> None:
        """Start the member, with its own certificate or another one."""
        client_url = f"http://127.0.0.1:{self.client_port}"
        options = {
            "name": self.name,
            "data-dir": self.folder / self.name,
            "initial-cluster": ",".join(f"{member.name}={member.peer_url}" for member in members),
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "listen-client-urls": client_url,
            "advertise-client-urls": client_url,
            "peer-cert-file": certificate or self.file("peer.pem"),
            "peer-key-file": key or self.file("peer.key"),
            "peer-trusted-ca-file": self.file("peer-ca.pem"),
            "peer-crl-file": self.file("peer-crls.pem"),
        }
        command = ["etcd", "--peer-client-cert-auth", "--unsafe-no-fsync"]
        with (self.folder / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *(f"--{option}={value}" for option, value in options.items())], stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(TIMEOUT)
            self.process = None

    def ask(self, *command: str) -> str:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        endpoint = f"http://127.0.0.1:{self.client_port}"
        return run("etcdctl", "--command-timeout=2s", "--endpoints", endpoint, *command, ok=None, env=environment)

    def is_healthy(self) -> bool:
        return "is healthy" in self.ask("endpoint", "health")


@pytest.fixture
def members(home_of_etcd: LiveHome, tmp_path: Path) -> Iterator[list[Member]]:
    """Three members that agree."""
    started = [Member(home_of_etcd, name, tmp_path) for name in NAMES]
    with ExitStack() as stack:
        for member in started:
            stack.callback(member.stop)
            member.start(started)
        for member in started:
            wait_until(member.is_healthy, f"{member.name} is healthy", PATIENCE)
        yield started


def restart_refused(member: Member, members: list[Member], certificate: Path, key: Path, error: str) -> None:
    """Restart a member with another certificate; the others refuse its connections with `error`, and continue."""
    member.stop()
    others = [other for other in members if other is not member]
    before = [len(other.log) for other in others]
    member.start(members, certificate, key)
    for other, length in zip(others, before, strict=True):
        wait_until(
            lambda other=other, length=length: error in other.log[length:],  # type: ignore[misc]
            f"{other.name} refuses {member.name} with {error!r}",
            PATIENCE,
        )
    assert all(other.is_healthy() for other in others)


def test_members_agree_and_refuse_every_certificate_but_those_of_the_cluster(members: list[Member]) -> None:
    first, _, third = members
    assert first.ask("put", "colour", "green").strip() == "OK"
    assert third.ask("get", "colour").split() == ["colour", "green"]
    home = first.home.path
    server, client = home / "build/certs/etcd3", home / "ca/clients/admin"
    for folder in (server, client):
        restart_refused(third, members, folder / "fullchain.pem", folder / "key.pem", "unknown authority")
        assert not third.is_healthy(), third.log
    third.stop()
    third.start(members)
    wait_until(third.is_healthy, "etcd3 is healthy again", PATIENCE)


def test_connections_of_a_revoked_member_are_refused_without_a_restart_of_the_others(
    members: list[Member], tmp_path: Path
) -> None:
    first, _, third = members
    old = tmp_path / "old.pem", tmp_path / "old.key"
    for copy, file in zip(old, ("peer.pem", "peer.key"), strict=True):
        copy.write_bytes(third.file(file).read_bytes())
    # etcd reads the CRL only where it accepts a connection: what the others open to etcd3, they trust as before
    first.home.invoke("revoke", "etcd3-peer", "--reason", "key-compromise", "--yes")
    restart_refused(third, members, *old, error="revoked")
    third.stop()
    third.start(members)
    wait_until(third.is_healthy, "etcd3 is healthy again", PATIENCE)
    assert first.is_healthy()


# -- who else accepts a member ----------------------------------------------------------------------------------------


def openssl_handshake(home: LiveHome, presenter: str, trust: str, purpose: str) -> bool:
    """Return whether OpenSSL accepts a leaf in a handshake: as a client of a server, or as a server of a client."""
    folder, port = home.path, free_port()
    identity = ("-cert", f"{presenter}/cert.pem", "-key", f"{presenter}/key.pem")
    chain = ("-cert_chain", f"{presenter}/chain.pem")
    verify = ("-CAfile", f"build/trust/{trust}", "-no-CApath", "-no-CAstore")
    own = ("-cert", "build/certs/web/cert.pem", "-key", "build/certs/web/key.pem")
    own += ("-cert_chain", "build/certs/web/chain.pem")
    server = (*own, "-Verify", "3", *verify) if purpose == "sslclient" else (*identity, *chain)
    anchors = ("-CAfile", "build/trust/roots.pem")
    client = (*identity, *chain, *anchors) if purpose == "sslclient" else (*verify, "-verify_return_error")
    command = ("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-verify_return_error", "-quiet", *server)
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: listens(port), "openssl s_server to listen")
            # s_client reads until the server answers or closes: the verdict on a client comes after its handshake
            said = run(
                *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *client),
                ok=None,
                cwd=folder,
                timeout=3,
                stdin="",
            )
        except subprocess.TimeoutExpired as expired:
            said = (expired.stdout or b"").decode()  # the connection stays open: it was accepted
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    return "alert" not in said and "verify error" not in said and "errno" not in said


def gnutls_accepts(home: LiveHome, presenter: str, trust: str, purpose: str) -> bool:
    """Return whether GnuTLS accepts a leaf for a purpose, with exactly the trust file that a server or client has."""
    said = run(
        *("certtool", "--verify", "--load-ca-certificate", home.path / "build/trust" / trust),
        *("--infile", home.path / presenter / "fullchain.pem", "--verify-purpose", USAGE[purpose]),
        ok=None,
    )
    return "Chain verification output: Verified" in said


MEMBER_LEAF, SERVER_LEAF, CLIENT_LEAF = "build/certs/etcd1-peer", "build/certs/etcd1", "ca/clients/admin"


@pytest.mark.parametrize(
    ("presenter", "trust", "purpose", "accepted"),
    [
        (MEMBER_LEAF, "peer.pem", "sslclient", True),  # the judges do accept what they should
        (MEMBER_LEAF, "peer.pem", "sslserver", True),
        (SERVER_LEAF, "roots.pem", "sslserver", True),
        (CLIENT_LEAF, "client-chain.pem", "sslclient", True),
        (MEMBER_LEAF, "client-chain.pem", "sslclient", False),
        (MEMBER_LEAF, "roots.pem", "sslclient", False),
        (MEMBER_LEAF, "roots.pem", "sslserver", False),
        (SERVER_LEAF, "peer.pem", "sslserver", False),
        (SERVER_LEAF, "peer.pem", "sslclient", False),
        (CLIENT_LEAF, "peer.pem", "sslclient", False),
    ],
)
def test_nobody_accepts_a_certificate_of_the_other_side(
    presenter: str, trust: str, purpose: str, accepted: bool, home_of_etcd: LiveHome
) -> None:
    assert openssl_handshake(home_of_etcd, presenter, trust, purpose) is accepted
    assert gnutls_accepts(home_of_etcd, presenter, trust, purpose) is accepted
