"""The console blocks of docs/ that need machines, root, drives or other people's programs: typed at a terminal.

What the pages show is compared with what is printed; only dates, seconds, digests and serial numbers may differ.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.common.terminal import Screen
from pki.config import loader
from pki.demo import vlans
from pki.demo.lab import Lab
from pki.demo.namespace_machine import PATH, NamespaceMachine
from pki.demo.vlans import Demo
from tests.integration import air_gap
from tests.integration.conftest import run
from tests.integration.desk import PROJECT_FOLDER, PS1, Desk, desk_on
from tests.integration.paper import Paper
from tests.integration.postgres import PROGRAMS as POSTGRES
from tests.support import consoles
from tests.support.environments import environment
from tests.support.oldca import OldCa
from tests.support.projects import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes machines")
PASSPHRASE = "trumpet velvet cactus orbit mango thistle"
ANSWERS = {
    r"continue connecting \(yes/no[^\n]*\)\? ": lambda _: "yes",
    r"\(yes or no\) ": lambda _: "yes",
    r"\(--yes answers\): ": lambda _: "yes",
    r"(passphrase|once more|again)[^\n]*: ?": lambda _: PASSPHRASE,
    r"(Password:|enter [^\n]*PIN: )[^\n]*": lambda _: PASSPHRASE,
}
DEAF = "table inet deaf {\nchain input { type filter hook input priority filter; policy drop; }\n}\n"
JELLYFIN = '      jellyfin: {upstream: "http://127.0.0.1:8096", access: tls}\n'


def edit(project: Path, old: str, new: str) -> None:
    path = project / "pki.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@dataclass
class Hosts:
    """The example with its three hosts, and a desk on the machine of the CA."""

    story: Demo
    project: Path
    desk: Desk

    def let_in(self) -> None:
        """Root here may log in as root there; whose host key is whose is known, except for `media`."""
        ca = self.story.ca
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        known = ""
        for name, host in self.story.hosts.items():
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            known += f"{host.address} {host.host_key()}\n" if name != "media" else ""
        ca.write("/root/.ssh/known_hosts", known)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("desk")
    project = air_gap.clone(folder)
    wanted = loader.load(project / "pki.yaml")
    with Lab({**{name: str(network) for name, network in wanted.networks.items()}, "clients": vlans.CLIENTS}) as lab:
        story = Demo(lab, wanted, Screen())
        story.ca.run("mkdir", PROJECT_FOLDER)
        story.ca.run("mount", "--bind", project, PROJECT_FOLDER)
        desk = desk_on(story.ca, folder, ANSWERS)
        made = Hosts(story, project, desk)
        made.let_in()
        yield made
        desk.leave()


def test_a_host_is_deployed_to_by_ssh(hosts: Hosts) -> None:
    hosts.desk.type("./run doit")
    edit(hosts.project, "    proxy: caddy\n", "    proxy: caddy\n    deliver: ssh\n")
    hosts.desk.follow(consoles.block("deploy.md", "ssh -o HostName=10.30.0.10 -l root media true"))


def test_a_stolen_client_is_refused_wherever_a_host_answers_and_a_restore_keeps_that(hosts: Hosts) -> None:
    story, desk = hosts.story, hosts.desk
    for proxy in ("nginx", "haproxy"):
        edit(hosts.project, f"    proxy: {proxy}\n", f"    proxy: {proxy}\n    deliver: ssh\n")
    edit(hosts.project, JELLYFIN, f"{JELLYFIN}{JELLYFIN.replace('jellyfin', 'films').replace(': tls', ': mtls')}")
    story.lab.name(story.hosts["media"].address, "films.lab.internal")
    for line in (
        "client.add admin@laptop --email admin@lab.internal",
        "deploy.bootstrap monitoring",
        "deploy.bootstrap forge",
    ):
        desk.type(f"./run invoke {line}")
    desk.type("./run doit")
    story.ca.run("mount", "-t", "tmpfs", "tmpfs", "/media")
    story.ca.run("mkdir", "/media/usb")
    story.ca.run("mount", "-t", "tmpfs", "tmpfs", "/media/usb")
    desk.follow(consoles.block("backup.md", "./run invoke backup /media/usb"))
    story.hosts["media"].run("nft", "-f", "-", stdin=DEAF)
    desk.follow(consoles.block("revoke.md", "./run invoke revoke admin@laptop --reason key-compromise"), 2)
    story.hosts["media"].run("nft", "delete", "table", "inet", "deaf")
    desk.type("cp /media/usb/pki-backup-*.age pki-backup-20261123T060000Z.age")
    desk.follow(consoles.block("backup.md", "./run invoke restore pki-backup-20261123T060000Z.age --to /srv/pki"))


def test_a_target_that_is_a_mount_point_is_refused_with_what_to_type(hosts: Hosts) -> None:
    (hosts.project / "templates/b.conf").write_text("# deploy-target: /etc/bind/b.conf\n# deploy-hosts: media\nb\n")
    media = hosts.story.hosts["media"]
    media.run(
        "sh", "-c", "mkdir -p /etc/bind && echo a >/etc/bind/b.conf && mount --bind /etc/bind/b.conf /etc/bind/b.conf"
    )
    hosts.desk.type("./run invoke deploy.bootstrap media --login root")
    hosts.desk.follow(consoles.block("deploy-problems.md", "./run doit"), 2)


# -- the machine of the CA ----------------------------------------------------------------------------------------------


@dataclass
class Own:
    """A machine with the example: a desk of its owner, the account `pki`, which may use sudo, and one of root."""

    machine: NamespaceMachine
    folder: Path
    project: Path
    desk: Desk
    root: Desk


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("own")
    project = air_gap.clone(folder)
    with Lab() as lab:
        machine = lab.machine("ca")
        machine.run("useradd", "--create-home", "pki")
        machine.write("/etc/sudoers.d/pki", "pki ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        machine.run("mkdir", "-p", PROJECT_FOLDER, "/run/systemd/system", "/etc/easy-rsa", "/etc/credstore.encrypted")
        machine.write("/usr/local/sbin/systemctl", "#!/bin/sh\necho $* >>/var/log/systemctl.log\n", 0o755)
        machine.run("chown", "-R", "--no-dereference", "pki:", project)
        machine.run("mount", "--bind", project, PROJECT_FOLDER)
        pki = desk_on(
            machine, folder, ANSWERS, "setpriv", "--reuid=pki", "--regid=pki", "--init-groups", HOME="/home/pki"
        )
        root = desk_on(machine, folder, ANSWERS)
        yield Own(machine, folder, project, pki, root)
        pki.leave()
        root.leave()


def test_schedule_units_are_shown_and_installed_through_sudo(mine: Own) -> None:
    edit(mine.project, "ledger: sqlite", "schedule: [06:00]\nledger: sqlite")
    mine.desk.follow(consoles.block("schedule.md", "sudo ./run invoke schedule --install"))
    assert mine.machine.exists("/etc/systemd/system/doit-pki-srv-pki.timer")
    assert "restart doit-pki-srv-pki.timer" in mine.machine.read("/var/log/systemctl.log")


def test_a_credential_is_sealed_to_the_machine(mine: Own) -> None:
    mine.root.follow(
        consoles.block(
            "schedule.md",
            "systemd-ask-password -n | systemd-creds encrypt --name=pki-server - /etc/credstore.encrypted/pki-server",
        )
    )
    sealed = "/etc/credstore.encrypted/pki-server"
    assert mine.machine.run("systemd-creds", "decrypt", "--name=pki-server", sealed, "-").stdout == PASSPHRASE


def test_books_of_easy_rsa_are_copied_with_their_modes(mine: Own) -> None:
    old = OldCa()
    old.issue("alice", 1)
    old.easy_rsa(mine.folder / "pki")
    mine.machine.run("cp", "-r", mine.folder / "pki", "/etc/easy-rsa/pki")
    mine.machine.run("chown", "-R", "pki", "/etc/easy-rsa")
    mine.desk.follow(consoles.block("adopt.md", "mkdir -p -m 700 ca && cp -a /etc/easy-rsa/pki ca/legacy"))
    edit(mine.project, "  client: {lifetime: 2y,", "  legacy: {adopt: ca/legacy}\n  client: {lifetime: 2y,")
    assert "1 certificate of legacy" in mine.desk.type("./run invoke ledger.import ca/legacy")
    assert "issued    crl:legacy" in mine.desk.type("./run doit")


def test_a_project_of_another_account_is_refused_with_the_line_that_trusts_it(mine: Own) -> None:
    machine = mine.machine
    machine.run("useradd", "--create-home", "eve")
    machine.run("install", "-d", "-o", "eve", "/home/eve/pki")
    machine.run("install", "-o", "eve", "pki.yaml", "/home/eve/pki", cwd=PROJECT_FOLDER)
    machine.run("mkdir", "-p", "/opt/doit-pki")
    machine.run("mount", "--bind", mine.project, "/opt/doit-pki")
    said = mine.desk.follow(consoles.block("editors.md", "cd /home/eve/pki && sudo /opt/doit-pki/run invoke status"), 1)
    mine.desk.type(said.partition("if you trust its owner:")[2].strip())  # may begin on a line of its own
    assert "Example Lab" in mine.desk.type("sudo /opt/doit-pki/run invoke status")
    mine.desk.type(f"cd {PROJECT_FOLDER}")


def test_a_token_of_softhsm_is_made(mine: Own) -> None:
    (mine.folder / "tokens").mkdir()
    (mine.folder / "softhsm2.conf").write_text(f"directories.tokendir = {mine.folder}/tokens\n")
    mine.root.type(f"export SOFTHSM2_CONF={mine.folder}/softhsm2.conf")
    said = mine.root.follow(consoles.block("tokens.md", 'sudo usermod --append --groups softhsm "$USER"'))
    assert "doit-pki" in said


def test_a_database_is_made_for_the_ledger(mine: Own) -> None:
    data = "/var/lib/postgresql/ledger"
    server = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
    mine.machine.run("install", "-d", "-o", "postgres", "/run/postgresql")
    mine.machine.run(*server, POSTGRES / "initdb", "-D", data, "--auth=peer", "--no-sync", "--encoding=UTF8")
    alone = ("-k", "/run/postgresql", "-c", "listen_addresses=", "-c", "fsync=off")
    mine.machine.start(*server, POSTGRES / "postgres", "-D", data, *alone, says="ready to accept connections")
    mine.root.follow(consoles.block("postgresql.md", "sudo -u postgres createuser pki"))
    assert "pki|UTF8" in mine.desk.type(
        "psql -P pager=off -At -c 'SELECT current_user, pg_encoding_to_char(encoding) FROM pg_database' pki"
    )


def test_vlans_are_shown_and_nothing_is_left() -> None:
    wide = ("env", f"PS1={PS1}", "TERM=xterm", "COLUMNS=140")
    desk = Desk([*wide, "sh", "-i"], PROJECT, ANSWERS)
    desk.follow(consoles.block("demo.md", "./run invoke demo.vlans"))
    desk.leave()


# -- the tutorial ---------------------------------------------------------------------------------------------------------


def test_phone_gets_in_and_is_locked_out_again_in_the_first_hour(tmp_path: Path) -> None:
    """The machine of the tutorial has its packages and a clone, and nginx runs, as after its installation."""
    text = (PROJECT / "docs/tutorial/first-hour.md").read_text()
    [configuration] = re.findall(r"(?m)^```yaml\n(.*?)^```", text, re.DOTALL)
    with Lab() as lab:
        machine = lab.machine("server")
        machine.run("mkdir", "/root/doit-pki", PROJECT_FOLDER)
        machine.run("mount", "--bind", air_gap.clone(tmp_path), "/root/doit-pki")
        machine.serve("nginx")
        root = desk_on(machine, tmp_path, ANSWERS)
        root.follow(consoles.block("first-hour.md", "cd /root/doit-pki"))
        root.follow(consoles.block("first-hour.md", "./run invoke init /srv/pki --sandbox --yes"))
        machine.write("/srv/pki/pki.yaml", configuration)
        root.follow(consoles.block("first-hour.md", "mkdir /srv/wiki"))
        root.follow(consoles.block("first-hour.md", "./run invoke plan"), 2, 2)
        root.follow(consoles.block("first-hour.md", "./run invoke deploy.bootstrap web"))
        root.follow(consoles.block("first-hour.md", "./run doit"))
        root.follow(consoles.block("first-hour.md", "curl https://wiki.lab.internal/"))
        root.follow(consoles.block("first-hour.md", "mkdir -m 700 /root/phone"))
        root.follow(consoles.block("first-hour.md", "cd /root/phone"))
        root.follow(consoles.block("first-hour.md", "cd /srv/pki"))
        root.follow(consoles.block("first-hour.md", "cd /root/phone #2"))
        root.follow(consoles.block("first-hour.md", "cd /srv/pki #2"), 0, 0, 2)
        root.follow(consoles.block("first-hour.md", "mkdir -m 700 /root/phone2"))
        root.leave()


# -- Ansible ------------------------------------------------------------------------------------------------------------

FLEET = """\
organisation: Example Fleet
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {{url: "http://pki.lab.internal", host: web1}}
sandbox: true
networks: {{lan: 192.0.2.0/24}}
deploy:
  engine: ansible
  ansible: {{serial: [1, 10%, 30%], max_fail_percentage: 30, forks: 20, command: {command}}}
hosts:
"""
WEB = """\
  {name}:
    network: lan
    address: {address}
    deliver: ssh
    proxy: nginx
    services: {{{name}-open: {{upstream: "http://127.0.0.1:3000", access: tls}}}}
"""


def test_a_fleet_goes_through_ansible_here_and_elsewhere(tmp_path: Path) -> None:
    project, runner = air_gap.clone(tmp_path), environment("ansible") / "bin"
    text = FLEET.format(command=runner / "ansible-runner")
    with Lab() as lab:
        ca = lab.machine("ca")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        known = ""
        for number in range(1, 5):
            name, address = f"web{number}", f"192.0.2.{10 + number}"
            host = lab.machine(name, address=address, names=(f"{name}-open.lab.internal",))
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.start("python3", "-m", "http.server", "--directory", "/usr/share/common-licenses", "3000")
            host.serve("ssh", "nginx")
            known += f"{address} {host.host_key()}\n"
            text += WEB.format(name=name, address=address)
        ca.write("/root/.ssh/known_hosts", known)
        ca.run("mkdir", PROJECT_FOLDER)
        ca.run("mount", "--bind", project, PROJECT_FOLDER)
        (project / "pki.yaml").write_text(text)
        (project / "vault-passphrase").write_text("for the test\n")
        desk = desk_on(ca, tmp_path, ANSWERS, PATH=f"{runner}:{PATH}")
        for name in ("web2", "web3", "web4"):
            desk.type(f"./run invoke deploy.bootstrap {name}")
        template = project / "templates/nginx/pki-services.conf"
        good = template.read_text()
        desk.type("./run invoke deploy.bootstrap web1")
        desk.type("./run doit")
        assert desk.status == 0
        template.write_text(good + "{{ 'nonsense;' if host.name == 'web3' else '# no more' }}\n")
        desk.follow(consoles.block("ansible.md", "./run invoke deploy.bootstrap web1"), 0, 2)
        template.write_text(good + "# good\n")
        desk.type("./run doit release:web1 release:web2 release:web3 release:web4")
        desk.follow(
            consoles.block(
                "ansible.md", "./run invoke deploy.export /srv/exported --ansible-vault-password-file vault-passphrase"
            )
        )
        assert "deploy:" not in desk.type("./run doit")
        desk.leave()


# -- campaigns ----------------------------------------------------------------------------------------------------------


def test_campaigns_of_hours_begin_as_shown_and_are_stopped_by_control_c(tmp_path: Path) -> None:
    project = air_gap.clone(tmp_path)
    (project / "FILE").write_text("[]")
    desk = Desk(["env", f"PS1={PS1}", "TERM=dumb", "sh", "-i"], project, {})
    *long, case = consoles.block("reliability.md", "./run invoke campaign years")
    for typed in long:
        assert "stopped; the same trials again: " in desk.stop(typed.command, "years: seed ")
        assert desk.status == 130
    desk.follow([case])
    desk.leave()


# -- a ceremony ---------------------------------------------------------------------------------------------------------


def drive(folder: Path, name: str) -> Path:
    """The image of a formatted USB drive."""
    image = folder / f"{name}.img"
    with image.open("wb") as file:
        file.truncate(192 << 20)
    run("mkfs.ext4", "-q", image)
    return image


def with_drives(folder: Path, project: Path, place: str, *names: str, offline: bool = False) -> list[str]:
    """What starts a shell in a project where drives are mounted below `place`."""
    mounts = [f"mount -t tmpfs tmpfs {place}", "mount -t tmpfs tmpfs /srv", f"mkdir {PROJECT_FOLDER}"]
    mounts += [f"mkdir {place}/{name} && mount -o loop {folder}/{name}.img {place}/{name}" for name in names]
    script = " && ".join([*mounts, f"mount --bind {project} {PROJECT_FOLDER}", f"cd {PROJECT_FOLDER}", "exec sh -i"])
    kept = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_") or name in air_gap.KEPT]
    who = [f"GIT_{who}_{what}=pki" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    settings = [*kept, *who, "GIT_EDITOR=sh -c 'echo Rehearsal >\"$1\"' -", f"PS1={PS1}", "TERM=dumb"]
    net = ["-n"] if offline else []
    return ["env", "-i", *settings, "unshare", "-m", *net, "sh", "-c", script]


def test_a_ceremony_and_what_is_typed_before_and_after_it(tmp_path: Path) -> None:
    project, papers = air_gap.clone(tmp_path), Paper(own=PASSPHRASE)
    edit(project, "sandbox: true", "sandbox: false")
    for name in ("exchange", "elsewhere", "vault", "new"):
        drive(tmp_path, name)
    online = Desk(with_drives(tmp_path, project, "/media", "exchange", "elsewhere"), tmp_path, papers.answers())
    online.follow(consoles.block("ceremony.md", "./run doit"), 2)
    papers.request = air_gap.words_in(online.type("./run invoke ceremony.request"))
    online.type("umount /media/exchange")
    offline = Desk(
        with_drives(tmp_path, project, "/mnt", "exchange", "vault", "new", offline=True), tmp_path, papers.answers()
    )
    drives = "/mnt/exchange/doit-pki-kit/request-0001.yaml --vault /mnt/vault"
    swap = shlex.join(air_gap.despite_swap())
    said = offline.type(f"sh run invoke ceremony.root {drives} {swap}")
    assert offline.status == 0, said
    said = offline.type(f"sh run invoke ceremony.sign {drives} --output /mnt/exchange {swap}")
    assert offline.status == 0, said
    papers.response = air_gap.words_in(said)
    offline.type("umount /mnt/exchange")
    online.type(f"mount -o loop {tmp_path}/exchange.img /media/exchange")
    online.follow(consoles.block("ceremony.md", "./run invoke ceremony.accept /media/exchange/response-0001"))
    offline.follow(consoles.block("ceremony.md", "sh run invoke ceremony.change-passphrase --vault /mnt/vault"))
    online.leave()
    offline.leave()
