"""A host key that ssh refuses is told with a line that acts where ssh looks: its names, its files, its jump hosts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pki.deploy import host_keys
from pki.deploy.ssh import Transport

UNKNOWN = "Host key verification failed."
CHANGED = (
    "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in {}:3\nHost key verification failed."
)
BY_JUMP = "\nConnection closed by UNKNOWN port 65535"


@dataclass
class Configured:
    """What `ssh -G` says of each destination; `asked` are the commands about which it was asked."""

    said: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, login: tuple[str, ...]) -> dict[str, str]:
        self.asked.append(login)
        return self.said.get(login[-1], {})


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch) -> Configured:
    made = Configured()
    monkeypatch.setattr(host_keys, "read_configuration", made)
    return made


def told(transport: Transport, complaint: str) -> tuple[str, str]:
    error = transport.connection_error(255, complaint)
    return error.message, error.hint.rpartition("then: ")[2]


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ({}, "ssh -F cfg -o HostName=192.0.2.11 -p 2222 -l root web true"),
        (
            {"stricthostkeychecking": "true", "batchmode": "yes", "remotecommand": "uptime"},
            "ssh -o StrictHostKeyChecking=ask -o BatchMode=no -o RemoteCommand=none -F cfg -o HostName=192.0.2.11 -p 2222 -l root web true",
        ),
    ],
)
def test_an_unknown_key_is_accepted_by_the_connection_that_deployments_make(
    ssh: Configured, said: dict[str, str], typed: str
) -> None:
    ssh.said["web"] = said
    transport = Transport("web", "web", user="root", port=2222, address="192.0.2.11", config="cfg")
    assert told(transport, UNKNOWN) == ("host key of [192.0.2.11]:2222 is not in known_hosts", typed)
    assert ssh.asked == [("ssh", "-F", "cfg", "-o", "HostName=192.0.2.11", "-p", "2222", "-l", "root", "web")]


@pytest.mark.parametrize(
    ("said", "file", "typed"),
    [
        ({}, "/k", "ssh-keygen -R '[192.0.2.11]:2222'"),
        ({"hostname": "192.0.2.11", "port": "22"}, "/k", "ssh-keygen -R 192.0.2.11"),
        ({"hostname": "192.0.2.11", "port": "2222"}, "/k", "ssh-keygen -R '[192.0.2.11]:2222'"),
        ({"hostname": "192.0.2.11", "port": "22", "hostkeyalias": "web"}, "/k", "ssh-keygen -R web"),
        ({"hostname": "w", "userknownhostsfile": "/a /b"}, "/b", "ssh-keygen -f /b -R w"),
        ({"hostname": "w", "userknownhostsfile": "/my keys/a"}, "/my keys/a", "ssh-keygen -f '/my keys/a' -R w"),
        ({"hostname": "w", "userknownhostsfile": "/a"}, "/of/somebody else", "ssh-keygen -f /a -R w"),
        ({"hostname": "w", "userknownhostsfile": "/a", "globalknownhostsfile": "/g"}, "/g", "ssh-keygen -f /g -R w"),
    ],
)
def test_a_changed_key_is_removed_from_the_file_and_under_the_name_where_ssh_met_it(
    ssh: Configured, said: dict[str, str], file: str, typed: str
) -> None:
    ssh.said["web"] = said
    transport = Transport("web", "web", port=2222, address="192.0.2.11")
    message, command = told(transport, CHANGED.format(file))
    name = typed.rpartition(" ")[2].strip("'")
    assert message == f"host key of {name} is not the one in known_hosts"
    assert command == f"{typed} && ssh -o HostName=192.0.2.11 -p 2222 web true"


@pytest.mark.parametrize(
    ("jumps", "name", "login"),
    [
        ("jump", "jump", "ssh -F cfg jump"),
        ("root@192.0.2.9:2200", "192.0.2.9", "ssh -F cfg -p 2200 -l root 192.0.2.9"),
        ("ssh://root@[2001:db8::9]:2200", "2001:db8::9", "ssh -F cfg -p 2200 -l root 2001:db8::9"),
        ("a,b:22,c", "c", "ssh -F cfg -J a,b:22 c"),
    ],
)
def test_the_key_of_a_jump_host_is_told_as_that_of_the_jump_host(
    ssh: Configured, jumps: str, name: str, login: str
) -> None:
    ssh.said = {"web": {"proxyjump": jumps, "hostname": "w"}, name: {"hostname": "j", "userknownhostsfile": "/a"}}
    transport = Transport("web", "web", config="cfg")
    assert told(transport, UNKNOWN + BY_JUMP) == (
        f"host key of jump host {name} is not in known_hosts",
        f"{login} true",
    )
    assert told(transport, CHANGED.format("/a") + BY_JUMP)[1] == f"ssh-keygen -f /a -R j && {login} true"
    assert told(transport, UNKNOWN)[0] == "host key of w is not in known_hosts", "the jump host let it through"


def test_a_revoked_key_and_a_file_that_keeps_nothing_are_told_as_such(ssh: Configured) -> None:
    transport = Transport("web", "web")
    ssh.said["web"] = {"userknownhostsfile": "/a /b"}
    message, hint = told(transport, f"@ WARNING: REVOKED HOST KEY DETECTED! @\n{UNKNOWN}")
    assert message == "host key of web is marked as revoked in known_hosts"
    assert hint.endswith("grep -n @revoked /a /b")
    ssh.said["web"] = {"userknownhostsfile": "/dev/null"}
    assert told(transport, UNKNOWN)[0] == "host key of web cannot be stored"


def test_a_file_that_only_root_may_change_is_changed_by_sudo(
    ssh: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "g").touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    ssh.said["web"] = {"hostname": "w", "globalknownhostsfile": f"{tmp_path}/g"}
    assert told(Transport("web", "web"), CHANGED.format(tmp_path / "g"))[1].startswith(
        f"sudo ssh-keygen -f {tmp_path}/g -R w"
    )


@pytest.mark.parametrize(
    ("complaint", "what"),
    [
        ("sudo: sorry, you must have a tty to run sudo", "sudo requires a terminal (requiretty)"),
        (
            "Sorry, user pki is not allowed to execute '/x' as root on web.",
            "sudo does not permit the account to run pki-apply",
        ),
        ("pki is not in the sudoers file.", "sudo does not permit the account to run pki-apply"),
    ],
)
def test_what_sudo_refuses_is_ended_by_a_bootstrap(complaint: str, what: str) -> None:
    error = Transport("web", "web").connection_error(1, complaint)
    assert error.message.startswith(what)
    assert error.hint == "./run invoke deploy.bootstrap web"
