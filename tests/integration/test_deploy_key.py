"""The key of deliveries, tried by hand on a prepared host: real sshd and sudo, and nothing that it opens but pki-apply."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine, check_programs
from tests.support.hosts import Row, whole
from tests.support.projects import PROJECT

ACCOUNTS = ("root", "pki")
HOST = """\
  {name}:
    network: lan
    address: {address}
    deliver: ssh
    scope: {scope}
    ssh: {{user: {user}}}
    names: [{name}.lab.internal]
"""
INVENTORY = """\
organisation: Example Keys
templates: {without: all}
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {url: "http://pki.lab.internal", host: root}
sandbox: true
networks: {lan: 192.0.2.0/24}
deploy: {ssh_config: ssh_config}
hosts:
"""
MANAGED = """\
# deploy-target: /etc/doit-pki/{{ host.name }}.pem
# deploy-hosts: all
# deploy-artifact: tls:{{ host.name }}
"""

STORE = "/usr/local/share/ca-certificates/doit-pki-root-1.crt"
ROOT = """\
# deploy-target: /usr/local/share/ca-certificates/doit-pki-{{ generation }}.crt
# deploy-hosts: all
# deploy-artifact: ca-pem:root
"""


@dataclass
class Keyed:
    """A machine with the key, and a host for each kind of account."""

    ca: NamespaceMachine
    home: Path
    hosts: dict[str, NamespaceMachine]

    def ssh(self, account: str, *words: str, options: tuple[str, ...] = (), stdin: str = "") -> tuple[int, str]:
        """What the key gets; the exit status and everything that is said."""
        chosen = ("-F", str(self.home / "ssh_config"), "-i", str(self.home / "ca/deploy/id_ed25519"))
        fixed = ("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", *options)
        address = f"{account}@{self.hosts[account].address}"
        done = self.ca.run("ssh", *chosen, *fixed, address, *words, stdin=stdin, check=False)
        return done.returncode, done.stdout + done.stderr

    def program(self, *command: str) -> tuple[int, str]:
        line = (sys.executable, "-m", *command)
        done = self.ca.run(*line, cwd=PROJECT, env={"PKI_HOME": str(self.home)}, check=False, timeout=600)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    check_programs("ssh", "ssh-keygen", "sshd", "sudo")
    home = tmp_path_factory.mktemp("keyed") / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates/tls.pem").write_text(MANAGED)
    (home / "templates/root.crt").write_text(ROOT)
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    with Lab() as lab:
        ca = lab.machine("ca")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        said, hosts, known = INVENTORY, {}, ""
        for number, account in enumerate(ACCOUNTS):
            host = hosts[account] = lab.machine(account, address=f"192.0.2.{11 + number}")
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.serve("ssh")
            known += f"{host.address} {host.host_key()}\n"
            scope = "certificates" if account == "root" else "config"
            said += HOST.format(name=account, address=host.address, user=account, scope=scope)
        (home / "pki.yaml").write_text(said)
        (home / "known_hosts").write_text(known)
        made = Keyed(ca, home, hosts)
        for account in ACCOUNTS:
            status, words = made.program("invoke", "deploy.bootstrap", account, "--login", "root")
            assert status == 0, words
        ca.run("rm", "/root/.ssh/id_ed25519")
        yield made


def test_it_delivers_as_root_and_through_sudo(keyed: Keyed) -> None:
    status, words = keyed.program("doit")
    assert status == 0, words
    for account in ACCOUNTS:
        listed = keyed.hosts[account].run("stat", "-c", "%a %U:%G", f"/etc/doit-pki/{account}.pem").stdout
        assert listed == "600 root:root\n"


def test_an_account_cannot_let_its_bootstrap_write_where_only_root_may(keyed: Keyed) -> None:
    host = keyed.hosts["pki"]
    status, script = keyed.program("invoke", "deploy.bootstrap", "pki", "--show")
    assert status == 0
    script = script[script.index("#!/bin/sh") : script.index("is installed\\n'\n")] + "is installed\\n'\n"
    host.run("sh", "-c", "mv ~pki/.ssh ~pki/kept && mkdir -m 0755 /etc/roots && ln -s /etc/roots ~pki/.ssh")
    done = host.run("sh", "-s", stdin=script, check=False)
    assert host.run("sh", "-c", "stat -c %U /etc/roots; ls /etc/roots").stdout == "root\n"
    assert done.returncode == 1
    assert "the key could not be added to" in done.stderr
    host.run("sh", "-c", "rm ~pki/.ssh && mv ~pki/kept ~pki/.ssh")
    assert "pki-apply is installed" in host.run("sh", "-s", stdin=script).stdout
    assert (
        host.run("sh", "-c", "stat -c '%a %U' ~pki/.ssh/authorized_keys; grep -c . ~pki/.ssh/authorized_keys").stdout
        == "600 pki\n1\n"
    )


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("words", [("id",), ("sh",), ("sh", "-c", "id"), ("sudo", "id"), ("cat", "/etc/shadow"), ()])
def test_whatever_it_asks_for_it_gets_pki_apply(keyed: Keyed, account: str, words: tuple[str, ...]) -> None:
    status, said = keyed.ssh(account, *words, stdin="id; cat /etc/shadow\n")
    assert status != 0
    assert "this is pki-apply, which only doit-pki can use" in said
    assert "uid=" not in said
    assert "root:" not in said


@pytest.mark.parametrize("account", ACCOUNTS)
def test_it_gets_no_terminal_no_forwarding_and_no_files(keyed: Keyed, account: str) -> None:
    host = keyed.hosts[account]
    assert "PTY allocation request failed" in keyed.ssh(account, options=("-tt",))[1]
    assert keyed.ssh(account, options=("-W", "127.0.0.1:22"))[0] != 0
    forwarded = keyed.ssh(account, options=("-R", "2222:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes"))
    assert "remote port forwarding failed" in forwarded[1]
    for variable in ("PATH=/tmp", "LD_PRELOAD=/tmp/x.so", "BASH_ENV=/tmp/x", "ENV=/tmp/x"):
        keyed.ssh(account, options=("-o", f"SetEnv={variable}"))
    key = ("-i", str(keyed.home / "ca/deploy/id_ed25519"), "-F", str(keyed.home / "ssh_config"), "-o", "BatchMode=yes")
    for program in (("scp", *key), ("scp", "-O", *key)):
        place = f"{account}@{host.address}:/srv/smuggled"
        done = keyed.ca.run("timeout", "5", *program, "/etc/hostname", place, check=False)
        assert done.returncode != 0
    assert not host.exists("/srv/smuggled")


def test_its_account_may_start_pki_apply_and_nothing_else_as_root(keyed: Keyed) -> None:
    host = keyed.hosts["pki"]
    for line in ("sudo -n id", "sudo -n /usr/local/sbin/pki-apply undo", "sudo -n sh", "sudo -n -u nobody id"):
        done = host.run("su", "pki", "-s", "/bin/sh", "-c", line, check=False)
        assert done.returncode != 0
        assert "uid=" not in done.stdout


def test_at_the_level_of_certificates_only_these_files_can_be_placed(keyed: Keyed) -> None:
    before = keyed.hosts["root"].run("sh", "-c", "find /etc -type f -exec sha256sum {} + | sort").stdout
    for path in ("/etc/doit-pki/other.pem", "/etc/cron.d/x", "/root/.ssh/authorized_keys", "/etc/pki-apply.conf"):
        row = "\t".join(("1", "file", "0644", "root:root", "0" * 64, "-", "-", "-", path))
        status, said = keyed.ssh("root", stdin=f"doit-pki 1 root\n{row}\nend 1\nplace 0 1\n")
        assert status != 0
        assert f"{path} may not be placed here" in said
    assert keyed.hosts["root"].run("sh", "-c", "find /etc -type f -exec sha256sum {} + | sort").stdout == before


def sent(path: str, content: bytes) -> str:
    """A delivery of one file, as somebody types it who stole the key."""
    return whole([Row(path, content, owner="root:root")]).decode().replace("doit-pki 1 media", "doit-pki 1 {}", 1)


def evil_root(keyed: Keyed) -> bytes:
    line = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=Evil -days 90"
    )
    return keyed.ca.run("sh", "-c", f"{line} 2>/dev/null").stdout.encode()


def test_a_stolen_key_for_certificates_only_makes_the_host_trust_no_other_authority(keyed: Keyed) -> None:
    assert keyed.program("doit")[0] == 0
    host, good = keyed.hosts["root"], (keyed.home / "ca/root/root-1/cert.pem").read_bytes()
    evil = evil_root(keyed)
    assert host.read(STORE).encode() == good
    for content in (evil, good + evil, good + evil.replace(b" CERTIFICATE-", b" TRUSTED CERTIFICATE-")):
        said = keyed.ssh("root", stdin=sent(STORE, content).format("root"))[1]
        assert '"is":"held"' in said
        assert '"kept"' not in said
        assert host.read(STORE).encode() == good
    said = keyed.ssh("root", stdin=sent("/usr/local/share/ca-certificates/evil.crt", evil).format("root"))[1]
    assert "may not be placed here" in said
    assert '"kept"' in keyed.ssh("root", stdin=sent("/etc/doit-pki/root.pem", b"other\n").format("root"))[1]
    assert host.read("/etc/doit-pki/root.pem") == "other\n"
    host.run("rm", "-f", STORE)
    assert '"kept"' in keyed.ssh("root", stdin=sent(STORE, good).format("root"))[1]
    assert host.read(STORE).encode() == good
    assert keyed.program("invoke", "deploy.push", "root")[0] == 0


def test_a_stolen_key_for_configuration_can_place_any_authority_in_its_folders(keyed: Keyed) -> None:
    host, evil = keyed.hosts["pki"], evil_root(keyed)
    said = keyed.ssh("pki", stdin=sent("/usr/local/share/ca-certificates/evil.crt", evil).format("pki"))[1]
    assert '"kept"' in said
    assert host.read("/usr/local/share/ca-certificates/evil.crt").encode() == evil
    assert "may not be placed here" in keyed.ssh("pki", stdin=sent("/etc/cron.d/x", b"x").format("pki"))[1]
    host.run("rm", "/usr/local/share/ca-certificates/evil.crt")


def test_an_unknown_or_changed_host_key_is_refused_with_what_to_type(keyed: Keyed) -> None:
    known = keyed.home / "known_hosts"
    good = known.read_text()
    first, second = good.splitlines()
    for text, said_of_it in (
        (f"{second}\n", "is not in known_hosts"),
        (
            f"{first.split()[0]} {' '.join(second.split()[1:])}\n{second}\n",
            "is not the one in known_hosts",
        ),
    ):
        known.write_text(text)
        status, said = keyed.program("invoke", "deploy.drift")
        assert status == 1
        assert "failed    deploy:root              host key of " in said
        assert said_of_it in said
        assert " -l root root true" in said or "ssh-keygen -R root" in said
        assert known.read_text() == text, "nothing is learnt by itself"
    known.write_text(good)
    assert keyed.program("invoke", "deploy.drift")[0] == 0


def test_a_sudo_that_wants_a_terminal_is_named_and_a_bootstrap_changes_that(keyed: Keyed) -> None:
    host = keyed.hosts["pki"]
    host.write("/etc/sudoers.d/terminal", "Defaults requiretty\n", 0o440)
    status, said = keyed.program("invoke", "deploy.drift", "pki")
    assert status == 1, said
    assert "sudo requires a terminal (requiretty), which deliveries do not have" in said
    assert "./run invoke deploy.bootstrap pki" in said
    script = keyed.program("invoke", "deploy.bootstrap", "pki", "--show")[1]
    script = script[script.index("#!/bin/sh") : script.index("is installed\\n'\n")] + "is installed\\n'\n"
    host.run("sh", "-s", stdin=script)
    assert keyed.program("invoke", "deploy.drift", "pki")[0] == 0
    host.run("rm", "/etc/sudoers.d/terminal")


def test_a_host_that_accepts_and_says_nothing_fails_alone(keyed: Keyed) -> None:
    """Something listens at its port and never answers: ssh gives up by itself."""
    host = keyed.hosts["root"]
    host.run("systemctl", "stop", "ssh")
    silent = "import socket,time; s=socket.create_server(('',22)); print('up',flush=True); time.sleep(600)"
    mute = host.start("python3", "-c", silent, says="up")
    keyed.ca.run("rm", "-r", str(keyed.home / "build/contacts"))
    status, said = keyed.program("doit")
    assert status in {1, 2}
    assert "unreachable; its certificate expires in" in said
    assert "1 failed" in said
    mute.stop()
    host.run("systemctl", "start", "ssh")
    assert keyed.program("doit")[0] == 0
