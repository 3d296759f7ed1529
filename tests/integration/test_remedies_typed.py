"""Faults of a running project: each is created, the line that is printed for it is typed, and the fault is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine, check_programs
from tests.support.projects import PROJECT

ADDRESS = "192.0.2.11"
INVENTORY = f"""\
organisation: Example Keys
templates: {{without: all}}
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {{url: "http://pki.lab.internal", host: web}}
sandbox: true
networks: {{lan: 192.0.2.0/24}}
deploy: {{ssh_config: ssh_config}}
hosts:
  web: {{network: lan, address: {ADDRESS}, deliver: ssh, ssh: {{user: root}}, names: [web.lab.internal]}}
"""
MANAGED = """\
# deploy-target: /etc/{}/web.pem
# deploy-hosts: all
# deploy-artifact: tls:web
"""
KEY = "/etc/doit-pki/web.pem"


@dataclass
class Typed:
    """The machine with the project, and a host that it deploys to."""

    ca: NamespaceMachine
    web: NamespaceMachine
    home: Path

    def program(self, *command: str) -> tuple[int, str]:
        line = (sys.executable, "-m", *command)
        done = self.ca.run(*line, cwd=PROJECT, env={"PKI_HOME": str(self.home)}, check=False, timeout=300)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    def as_printed(self, line: str) -> str:
        """A line as it is printed for this project."""
        return line.format(home=self.home).replace("./run ", f"PKI_HOME={self.home} ./run ")

    def type(self, line: str) -> None:
        """Type a line as it is printed; the program is started as tests start it, and ssh is answered with yes."""
        line = line.replace("./run ", f"{sys.executable} -m ")
        env = {"SSH_ASKPASS": str(self.home / "yes"), "SSH_ASKPASS_REQUIRE": "force"}
        done = self.ca.run("setsid", "-w", "sh", "-c", line, cwd=PROJECT, env=env, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    check_programs("ssh", "ssh-keygen", "sshd")
    home = tmp_path_factory.mktemp("typed") / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates/tls.pem").write_text(MANAGED.format("doit-pki"))
    (home / "pki.yaml").write_text(INVENTORY)
    (home / "yes").write_text("#!/bin/sh\necho yes\n")
    (home / "yes").chmod(0o700)
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    with Lab() as lab:
        ca, web = lab.machine("ca"), lab.machine("web", address=ADDRESS)
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        web.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
        web.serve("ssh")
        (home / "known_hosts").write_text(f"{ADDRESS} {web.host_key()}\n")
        made = Typed(ca, web, home)
        for command in (("invoke", "deploy.bootstrap", "web"), ("doit",)):
            status, said = made.program(*command)
            assert status == 0, said
        yield made


@dataclass(frozen=True)
class Fault:
    """How a fault is made, what finds it, what is said of it, and the line that ends it."""

    make: Callable[[Typed], object]
    command: tuple[str, ...]
    said: str
    line: str


FAULTS = {
    "wrong mode on the host": Fault(
        lambda typed: typed.web.run("chmod", "644", KEY),
        ("invoke", "deploy.drift"),
        f"the mode of {KEY} is not 0600",
        "./run doit",
    ),
    "damaged receipt": Fault(
        lambda typed: (typed.home / "build/receipts/web.json").write_text("x"),
        ("invoke", "health"),
        "its receipt is damaged",
        "./run doit deploy:web",
    ),
    "wrong mode here": Fault(
        lambda typed: (typed.home / "secrets.yaml").chmod(0o644),
        ("invoke", "health"),
        "can be read by others: its mode is 0644",
        "chmod 600 {home}/secrets.yaml",
    ),
    "path not permitted": Fault(
        lambda typed: (typed.home / "templates/other.pem").write_text(MANAGED.format("other")),
        ("doit",),
        "/etc/other/web.pem may not be placed here",
        "./run invoke deploy.bootstrap web",
    ),
    "pki-apply is gone": Fault(
        lambda typed: typed.web.run("rm", "/usr/local/sbin/pki-apply"),
        ("invoke", "deploy.drift"),
        "pki-apply is not installed",
        "./run invoke deploy.bootstrap web",
    ),
    "host key unknown": Fault(
        lambda typed: (typed.home / "known_hosts").write_text(""),
        ("invoke", "deploy.drift"),
        f"host key of {ADDRESS} is not in known_hosts",
        f"ssh -F {{home}}/ssh_config -o HostName={ADDRESS} -l root web true",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_printed_for_a_fault_ends_it_when_it_is_typed(typed: Typed, name: str) -> None:
    fault = FAULTS[name]
    fault.make(typed)
    status, said = typed.program(*fault.command)
    assert status != 0, said
    assert fault.said in said
    line = typed.as_printed(fault.line)
    if name != "wrong mode on the host":  # drift says what the next run does, and names no command
        assert line in said
    typed.type(line)
    status, said = typed.program("doit")
    assert status == 0, said
    status, said = typed.program(*fault.command)
    assert (status, fault.said in said) == (0, False), said
