"""A host gets nothing of the machine that delivers to it: real sshd, with an ssh configuration that forwards everything.

And what a login shell or a RemoteCommand does before pki-apply starts is named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine, check_programs
from tests.integration.ansible_runner import runner
from tests.support.projects import PROJECT

__all__ = ["runner"]

PROGRAM = "/usr/local/sbin/pki-apply"
AGENT = "/root/agent"
INVENTORY = """\
organisation: Example Keys
templates: {{without: all}}
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {{url: "http://pki.lab.internal", host: web}}
sandbox: true
networks: {{lan: 192.0.2.0/24}}
deploy: {{ssh_config: ssh_config{engine}}}
hosts:
  web: {{network: lan, address: 192.0.2.12, deliver: ssh, ssh: {{user: root}}}}
"""
MANAGED = """\
# deploy-target: /etc/doit-pki/app.conf
# deploy-hosts: web
generation {}
"""
LENDING = """\
Host web
    ProxyJump root@192.0.2.11
    PermitLocalCommand yes
    LocalCommand touch {home}/local-command
Host *
    UserKnownHostsFile {home}/known_hosts
    ForwardAgent yes
    ForwardX11 yes
    ForwardX11Trusted yes
    RemoteForward 9000 127.0.0.1:22
"""
# What the forced command is on a host that records what it was lent; its sshd restricts nothing.
RECORDING = """\
#!/bin/sh
echo "agent=${SSH_AUTH_SOCK:+yes} display=${DISPLAY:+yes} port=$(grep -c ':2328 ' /proc/net/tcp)" >>/root/lent
exec /usr/local/sbin/pki-apply.real "$@"
"""
NOTHING = "agent= display= port=0"


@dataclass
class Lent:
    """The machine with the project and an agent, a jump host, and the host behind it."""

    ca: NamespaceMachine
    jump: NamespaceMachine
    web: NamespaceMachine
    home: Path
    number: int = 0

    def program(self, *command: str) -> tuple[int, str]:
        done = self.ca.run(
            *(sys.executable, "-m", *command),
            cwd=PROJECT,
            env={"PKI_HOME": str(self.home), "SSH_AUTH_SOCK": AGENT, "DISPLAY": ":0"},
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def doit(self) -> tuple[int, str]:
        """A run that has something new for the host."""
        self.number += 1
        (self.home / "templates/app.conf").write_text(MANAGED.format(self.number))
        return self.program("doit")


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lent]:
    check_programs("ssh", "ssh-keygen", "ssh-agent", "ssh-add", "sshd")
    home = tmp_path_factory.mktemp("lent") / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates/app.conf").write_text(MANAGED.format(0))
    (home / "pki.yaml").write_text(INVENTORY.format(engine=""))
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    with Lab() as lab:
        ca = lab.machine("ca")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        machines, known = {}, ""
        for name, address in (("jump", "192.0.2.11"), ("web", "192.0.2.12")):
            machines[name] = host = lab.machine(name, address=address)
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.serve("ssh")
            known += f"{address} {host.host_key()}\n"
        (home / "known_hosts").write_text(known)
        made = Lent(ca, machines["jump"], machines["web"], home)
        status, said = made.program("invoke", "deploy.bootstrap", "web")
        assert status == 0, said
        ca.run("ssh-agent", "-a", AGENT)
        ca.run("ssh-add", "-q", "/root/.ssh/id_ed25519", env={"SSH_AUTH_SOCK": AGENT})
        yield made


@pytest.fixture
def lending(lent: Lent) -> Iterator[Lent]:
    """The same with a configuration that forwards everything, and a host that takes what it gets."""
    keys = lent.web.read("/root/.ssh/authorized_keys")
    lent.web.write("/root/.ssh/authorized_keys", keys.replace("restrict,", ""), 0o600)
    lent.web.run("mv", PROGRAM, f"{PROGRAM}.real")
    lent.web.write(PROGRAM, RECORDING, 0o755)
    plain = (lent.home / "ssh_config").read_text()
    (lent.home / "ssh_config").write_text(LENDING.format(home=lent.home))
    watch = "while sleep 0.02; do ls -d /tmp/ssh-* >>/root/agents 2>/dev/null; done"
    watching = lent.jump.start("sh", "-c", watch)
    lent.jump.write("/root/agents", "")
    yield lent
    watching.stop()
    (lent.home / "ssh_config").write_text(plain)
    lent.web.run("mv", f"{PROGRAM}.real", PROGRAM)
    lent.web.run("rm", "-f", "/root/lent")
    (lent.home / "pki.yaml").write_text(INVENTORY.format(engine=""))


def test_the_host_would_take_what_it_is_lent(lending: Lent) -> None:
    """Or the tests below would prove nothing."""
    key = lending.home / "ca/deploy/id_ed25519"
    lending.ca.run(
        *("ssh", "-F", lending.home / "ssh_config", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
        *("-o", "HostName=192.0.2.12", "root@web", "true"),
        env={"SSH_AUTH_SOCK": AGENT},
        check=False,
        stdin=b"",
    )
    assert "agent=yes" in lending.web.read("/root/lent")
    assert "port=1" in lending.web.read("/root/lent")
    assert (lending.home / "local-command").exists()
    (lending.home / "local-command").unlink()


@pytest.mark.parametrize("engine", ["builtin", "ansible"])
def test_a_delivery_lends_no_agent_no_display_and_no_port(
    lending: Lent, engine: str, request: pytest.FixtureRequest
) -> None:
    if engine == "ansible":
        command = request.getfixturevalue("runner")
        said = f", engine: ansible, ansible: {{command: {command}}}"
        (lending.home / "pki.yaml").write_text(INVENTORY.format(engine=said))
    status, said = lending.doit()
    assert status == 0, said
    assert lending.web.read("/etc/doit-pki/app.conf").endswith(f"generation {lending.number}\n")
    assert set(lending.web.read("/root/lent").splitlines()) == {NOTHING}
    assert lending.jump.read("/root/agents") == ""
    assert not (lending.home / "local-command").exists()


# -- what comes before pki-apply --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("echo Welcome to web", "the login shell of root on web prints text before pki-apply starts: 'Welcome to web'"),
        (
            "printf '\\033[1mhello'; echo",
            r"the login shell of root on web prints text before pki-apply starts: '\x1b[1mhello'",
        ),
        ("exit 0", "the login shell of root on web ended with 0 before pki-apply started"),
        ("exit 7", "the login shell of root on web ended with 7 before pki-apply started"),
    ],
)
def test_a_shell_that_prints_or_exits_is_named_by_deliveries_and_by_the_bootstrap(
    lent: Lent, line: str, message: str
) -> None:
    lent.web.write("/root/.bashrc", f"{line}\n")
    status, said = lent.doit()
    assert status in {1, 2}
    assert message in said
    assert "~/.bashrc" in said
    assert "\x1b" not in said
    status, told = lent.program("invoke", "deploy.bootstrap", "web")
    lent.web.run("rm", "/root/.bashrc")
    assert status == 1, told
    assert "prepared" not in told
    assert lent.doit()[0] == 0
    if "Welcome" in line:
        assert f"web: pki-apply is installed, but deliveries cannot start it: {message}" in told


def test_a_remote_command_in_the_configuration_is_named(lent: Lent) -> None:
    plain = (lent.home / "ssh_config").read_text()
    (lent.home / "ssh_config").write_text(f"Host web\n    RemoteCommand uptime\n{plain}")
    status, said = lent.doit()
    (lent.home / "ssh_config").write_text(plain)
    assert status in {1, 2}
    assert "the ssh configuration has a RemoteCommand for web, which would run instead of pki-apply" in said
    assert lent.doit()[0] == 0


def test_a_bootstrap_tries_the_new_key_before_it_says_that_all_is_in_place(lent: Lent) -> None:
    """Its own login gets in; what it installed does not."""
    key = lent.home / "ca/deploy/id_ed25519"
    kept = key.read_bytes()
    lent.ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/other")
    key.write_text(lent.ca.read("/root/other"))
    status, said = lent.program("invoke", "deploy.bootstrap", "web")
    key.write_bytes(kept)
    assert status == 1
    assert (
        "web: pki-apply is installed, but deliveries cannot start it: permission denied: the host does not accept the deployment key"
        in said
    )
    assert lent.program("invoke", "deploy.bootstrap", "web")[0] == 0


def test_the_command_that_is_named_for_an_unknown_host_key_makes_it_known(lent: Lent) -> None:
    known = lent.home / "known_hosts"
    kept = known.read_text()
    known.write_text("")
    status, said = lent.doit()
    assert status in {1, 2}
    assert " is not in known_hosts" in said
    [command] = [line.rpartition("then: ")[2] for line in said.splitlines() if "then: ssh " in line]
    typed = command.replace("ssh ", "ssh -o StrictHostKeyChecking=accept-new ", 1)  # a person would type yes
    lent.ca.run("sh", "-c", typed)
    assert lent.doit()[0] == 0
    known.write_text(kept)
