"""A fault is created, the line that is printed for it is typed as it stands, and the fault is gone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.common.errors import PkiError
from pki.demo.namespace_machine import check_programs
from pki.deploy.process import STANDARD, run
from pki.deploy.ssh import Transport

HOST, JUMP = 40221, 40222
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/{port}
PidFile none
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
"""
CONFIG = """\
Host behind
  ProxyJump root@jump:{jump}
Host jump
  HostName 127.0.0.1
  {jump_says}
Host aliased
  HostKeyAlias the-web
Host *
  IdentityFile {folder}/user
  UserKnownHostsFile "{folder}/the known hosts" {folder}/second
  {says}
"""


@dataclass
class Servers:
    """Two servers on loopback, the second one a jump host, and what this side knows of them."""

    folder: Path

    def key(self, name: str | int) -> str:
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def knows(self, *lines: str, file: str = "the known hosts") -> None:
        (self.folder / file).write_text("".join(f"{line}\n" for line in lines))

    def configure(self, says: str = "", jump_says: str = "") -> None:
        values = {"folder": self.folder, "jump": JUMP, "says": says, "jump_says": jump_says}
        (self.folder / "config").write_text(CONFIG.format(**values))

    def transport(self, name: str) -> Transport:
        config = str(self.folder / "config")
        return Transport("web", name, user="root", port=HOST, address="127.0.0.1", config=config)

    def fault(self, transport: Transport) -> PkiError | None:
        """What a deployment says that reaches a host by this transport; None when it gets in."""
        status, _, complaint = run(("setsid", "-w", *transport.ssh_command(), "true"), b"", STANDARD)
        return transport.connection_error(status, complaint) if status else None

    def type(self, line: str) -> None:
        """Type a line in a terminal; ssh is answered with yes."""
        env = {**os.environ, "SSH_ASKPASS": str(self.folder / "yes"), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["setsid", "-w", "sh", "-c", line], env=env, check=True, capture_output=True, timeout=300)

    def remedied(self, transport: Transport, *messages: str) -> None:
        """Type what each of these faults asks for, in this order; then there is none."""
        for message in messages:
            fault = self.fault(transport)
            assert fault
            assert fault.message == message
            self.type(fault.hint.rpartition("then: ")[2])
        assert self.fault(transport) is None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    check_programs("ssh", "ssh-keygen", "sshd")
    folder = tmp_path_factory.mktemp("remedies")
    (folder / "yes").write_text("#!/bin/sh\necho yes\n")
    (folder / "yes").chmod(0o700)
    os.makedirs("/run/sshd", exist_ok=True)
    servers = []
    for name in ("user", "other", HOST, JUMP):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / str(name)], check=True)
    for port in (HOST, JUMP):
        (folder / f"{port}.conf").write_text(SERVER.format(port=port, folder=folder))
        log = (folder / f"{port}.log").open("wb")
        servers.append(subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", folder / f"{port}.conf"], stderr=log))
    deadline = time.monotonic() + 300
    while not all(b"listening" in (folder / f"{port}.log").read_bytes() for port in (HOST, JUMP)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield Servers(folder)
    for server in servers:
        server.terminate()
        server.wait()


@pytest.fixture
def servers(running: Servers) -> Servers:
    running.configure()
    running.knows()
    running.knows(file="second")
    return running


UNKNOWN, CHANGED = "host key of {} is not in known_hosts", "host key of {} is not the one in known_hosts"
NAMES = {"web": f"[127.0.0.1]:{HOST}", "aliased": "the-web", "behind": f"[127.0.0.1]:{HOST}"}


@pytest.mark.parametrize("says", ["", "StrictHostKeyChecking yes", "BatchMode yes", "HashKnownHosts yes"])
@pytest.mark.parametrize("name", ["web", "aliased"])
def test_an_unknown_host_key_is_known_after_what_is_printed(servers: Servers, name: str, says: str) -> None:
    servers.configure(says)
    servers.remedied(servers.transport(name), UNKNOWN.format(NAMES[name]))


@pytest.mark.parametrize("file", ["the known hosts", "second"])
@pytest.mark.parametrize("name", ["web", "aliased"])
def test_a_changed_host_key_is_replaced_by_what_is_printed(servers: Servers, name: str, file: str) -> None:
    servers.knows(f"{NAMES[name]} {servers.key('other')}", file=file)
    servers.remedied(servers.transport(name), CHANGED.format(NAMES[name]))


@pytest.mark.parametrize("jump_says", ["", "StrictHostKeyChecking yes"])
def test_the_keys_of_a_jump_host_and_of_the_host_behind_it_are_known_after_what_is_printed(
    servers: Servers, jump_says: str
) -> None:
    servers.configure(jump_says=jump_says)
    names = ("jump host jump", NAMES["behind"])
    servers.remedied(servers.transport("behind"), *map(UNKNOWN.format, names))
    servers.knows(f"[127.0.0.1]:{JUMP} {servers.key('other')}", f"[127.0.0.1]:{HOST} {servers.key('other')}")
    servers.remedied(servers.transport("behind"), *map(CHANGED.format, names))


def test_a_revoked_host_key_is_not_accepted_by_what_is_printed(servers: Servers) -> None:
    servers.knows(f"@revoked [127.0.0.1]:{HOST} {servers.key(HOST)}")
    fault = servers.fault(servers.transport("web"))
    assert fault
    assert fault.message == f"host key of {NAMES['web']} is marked as revoked in known_hosts"
