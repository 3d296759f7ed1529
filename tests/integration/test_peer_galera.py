"""A Galera cluster of MariaDB with certificates of `authorities.peer`: its members join, and refuse everybody else."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, LiveHome, run
from tests.integration.peer_cluster import cluster_home
from tests.integration.proxies import free_port, wait_until

PATIENCE = 60  # seconds
NAMES = ("db1", "db2", "db3")
TEMPLATES = {  # those of docs/how-to/peer.md
    "peer.pem": "# deploy-artifact: fullchain:{{ host.name }}-peer\n",
    "peer.key": "# deploy-artifact: key:{{ host.name }}-peer\n",
    "peer-ca.pem": "# deploy-artifact: trust:peer\n",
    "peer-chain.pem": '{{ artifact("ca-pem:peer") }}{{ artifact("trust:peer") }}\n',
}
IDENTITY = {"fullchain.pem": "peer.pem", "key.pem": "peer.key"}
SETTINGS = """[mysqld]
user = mysql
datadir = {data}
socket = {data}/socket
pid-file = {data}/pid
skip-networking
innodb_buffer_pool_size = 32M
innodb_flush_log_at_trx_commit = 0
innodb_log_file_size = 8M
binlog_format = ROW
innodb_autoinc_lock_mode = 2
wsrep_on = ON
wsrep_provider = /usr/lib/galera/libgalera_smm.so
wsrep_cluster_name = lab
wsrep_cluster_address = gcomm://{members}
wsrep_node_name = {name}
wsrep_node_address = {address}
wsrep_sst_method = rsync
wsrep_sst_receive_address = {address}:{transfer_port}
wsrep_provider_options = "gmcast.listen_addr=ssl://{address}:{port};ist.recv_addr={address}:{update_port};gcache.size=8M;socket.ssl_cert={pki}/peer.pem;socket.ssl_key={pki}/peer.key;socket.ssl_ca={pki}/peer-ca.pem"

[sst]
tcert = {pki}/peer.pem
tkey = {pki}/peer.key
tca = {pki}/peer-chain.pem
"""


@dataclass
class Member:
    """A member of the cluster, which runs under the account of MariaDB."""

    home: LiveHome
    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    transfer_port: int = field(default_factory=free_port)
    update_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.1.{self.name[-1]}"

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    @property
    def data(self) -> Path:
        return self.folder / self.name

    @property
    def pki(self) -> Path:
        return self.folder / f"{self.name}-pki"

    def install(self, folder: Path, names: Mapping[str, str]) -> None:
        """Give the member files of a folder, under the names that its settings have."""
        self.pki.mkdir(exist_ok=True)
        for source, target in names.items():
            copy = shutil.copy(folder / source, self.pki / target)
            shutil.chown(copy, "mysql")

    def take_delivery(self) -> None:
        """Give the member what doit delivered to its host: a folder, of which MariaDB's account can read nothing."""
        delivered = self.home.path / f"build/hosts/{self.name}/etc/mysql/pki"
        self.install(delivered, {name: name for name in TEMPLATES})

    def start(self, members: list[Member], *options: str) -> None:
        settings = SETTINGS.format(
            data=self.data,
            members=",".join(f"{member.address}:{member.port}" for member in members),
            name=self.name,
            address=self.address,
            port=self.port,
            transfer_port=self.transfer_port,
            update_port=self.update_port,
            pki=self.pki,
        )
        path = self.folder / f"{self.name}.cnf"
        path.write_text(settings)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["mariadbd", f"--defaults-file={path}", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, *, is_stuck: bool = False) -> None:
        """End the member; one that never joined does not end by itself."""
        if self.process:
            if is_stuck:
                self.process.kill()
            self.process.terminate()
            self.process.wait(TIMEOUT)
            self.process = None

    def ask(self, statement: str) -> str:
        """What the member answers, or why it does not."""
        command = ("mariadb", f"--socket={self.data}/socket", "-u", "root", "-Nse", statement)
        return run(*command, ok=None).strip()

    def state(self, variable: str) -> str:
        return self.ask(f"SHOW STATUS LIKE '{variable}'").removeprefix(f"{variable}\t")

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-3000:]
        return self.state("wsrep_ready") == "ON"

    def served_certificate(self) -> bytes:
        """The certificate that the member shows to others, in DER."""
        shown = run("openssl", "s_client", "-connect", f"{self.address}:{self.port}", ok=None)
        pem = shown[shown.index("-----BEGIN") : shown.index("-----END")]
        return subprocess.run(
            ["openssl", "x509", "-outform", "DER"],
            input=f"{pem}-----END CERTIFICATE-----\n".encode(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    """Three members: the first one began the cluster, and the others got everything from it."""
    home = cluster_home(tmp_path_factory.mktemp("galera"), "/etc/mysql/pki", NAMES, TEMPLATES)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pki-galera-"))  # the account of MariaDB enters no folder of pytest
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        joined = [Member(home, name, folder) for name in NAMES]
        for member in joined:
            stack.callback(member.stop)
            member.data.mkdir()
            shutil.chown(member.data, "mysql")
            member.take_delivery()
        data = f"--datadir={joined[0].data}"
        run("mariadb-install-db", "--user=mysql", data, "--auth-root-authentication-method=normal", "--skip-test-db")
        joined[0].start(joined, "--wsrep-new-cluster")
        wait_until(joined[0].is_ready, "db1 is ready", PATIENCE)
        for member in joined[1:]:
            member.start(joined)
        for member in joined[1:]:
            wait_until(member.is_ready, f"{member.name} is ready", PATIENCE)
        yield joined


def size(member: Member) -> int:
    return int(member.state("wsrep_cluster_size"))


def test_members_join_and_every_row_and_the_whole_state_go_through_tls(members: list[Member]) -> None:
    first, second, third = members
    assert size(first) == 3
    for joiner in (second, third):
        assert "rsync SST completed on joiner" in joiner.log
        assert "Using stunnel for SSL encryption" in joiner.log
    first.ask("CREATE DATABASE lab; CREATE TABLE lab.colours (name VARCHAR(20) PRIMARY KEY)")
    first.ask("INSERT INTO lab.colours VALUES ('green')")
    wait_until(lambda: third.ask("SELECT name FROM lab.colours") == "green", "the row is on db3", PATIENCE)


def test_a_member_with_a_certificate_of_another_authority_is_refused(members: list[Member]) -> None:
    first, _, third = members
    third.stop()
    wait_until(lambda: size(first) == 2, "db3 left", PATIENCE)
    refusal = "certificate verify failed: unable to get local issuer certificate"
    for identity in ("build/certs/db3", "ca/clients/admin"):
        before = len(first.log)
        third.install(first.home.path / identity, IDENTITY)
        third.start(members)
        wait_until(lambda before=before: refusal in first.log[before:], f"db1 refuses {identity}", PATIENCE)  # type: ignore[misc]
        assert size(first) == 2
        third.stop(is_stuck=True)
    third.take_delivery()
    third.start(members)
    wait_until(third.is_ready, "db3 is ready again", PATIENCE)
    assert size(first) == 3


def test_flush_ssl_applies_a_renewed_certificate_and_a_revoked_one_is_accepted(members: list[Member]) -> None:
    first, _, third = members
    revoked = third.served_certificate()
    for name in IDENTITY.values():
        shutil.copy(third.pki / name, third.folder)
    first.home.invoke("revoke", "db3-peer", "--reason", "key-compromise", "--yes")
    third.take_delivery()
    assert third.served_certificate() == revoked, "MariaDB noticed new files by itself"
    run("mariadb-admin", f"--socket={third.data}/socket", "-u", "root", "flush-ssl")
    assert third.served_certificate() != revoked
    third.stop()
    third.install(third.folder, {name: name for name in IDENTITY.values()})
    third.start(members)
    wait_until(third.is_ready, "db3 is ready with the revoked certificate", PATIENCE)
    assert third.served_certificate() == revoked
    assert size(first) == 3
