"""Hosts to deliver to, all on this machine: one sshd, and for each host a key, a root of its own and its own pki-apply."""

from __future__ import annotations

import getpass
import grp
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from pki.deploy.bootstrap import permissions_text
from pki.deploy.payload import Payload
from tests.bench.measure import Broken
from tests.bench.project import PROJECT

SSHD = Path("/usr/sbin/sshd")
PATIENCE = 10  # seconds for sshd to start
OWNER = f"{getpass.getuser()}:{grp.getgrgid(os.getgid()).gr_name}"
LEFT_OUT = ("apache", "caddy", "haproxy", "publish", "traefik")
HEAD = """\
organisation: Example Lab
templates: {{without: all}}
domains: [lab.internal]
permit_addresses: [10.0.0.0/8]
publish: {{url: "http://pki.lab.internal", host: {first}}}
sandbox: true
networks: {{lan: 10.0.0.0/8}}
deploy: {{ssh_config: ssh_config}}
hosts:
"""
HOST = """\
  {name}:
    network: lan
    deliver: ssh
    ssh: {{name: {name}}}
    services:
      {name}-open: {{upstream: "http://127.0.0.1:8080", access: tls}}
      {name}-admin: {{upstream: "http://127.0.0.1:8081", access: mtls}}
"""
SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {forced}
Port {free}
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
LogLevel ERROR
AuthorizedKeysFile {folder}/free_keys
Match LocalPort {forced}
    AuthorizedKeysFile {folder}/forced_keys
"""
CLIENT_CONFIG = """\
Host *
    HostName 127.0.0.1
    Port {port}
    User {user}
    HostKeyAlias target
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    IdentityFile {folder}/keys/%n
    IdentitiesOnly yes
"""


@dataclass(frozen=True)
class Targets:
    """`home` is the project that delivers; `free` is an ssh_config under which the same keys may run any command."""

    folder: Path
    home: Path
    names: Sequence[str]

    @cached_property
    def _marked(self) -> Path:
        return self.home / "templates/nginx/pki-services.conf"

    @cached_property
    def _plain(self) -> str:
        return self._marked.read_text()

    @property
    def free(self) -> Path:
        return self.folder / "free_config"

    def root(self, name: str) -> Path:
        """What stands for `/` on a host."""
        return self.folder / "roots" / name

    def payload(self, name: str) -> Payload:
        """What the project would deliver to a host."""
        found = Payload.of(self.home / "build/release" / name)
        assert found
        return found

    def permit(self) -> None:
        """Prepare every host for its release, as `deploy.bootstrap` would."""
        for name in self.names:
            permitted = permissions_text(name, self.payload(name), exact=False) + f"trust {getpass.getuser()}\n"
            (self.root(name) / "pki-apply.conf").write_text(permitted)

    def change(self, mark: str) -> None:
        """Give every host new certificates and a new configuration, to be built by the next run."""
        self._marked.write_text(f"{self._plain}# {mark}\n")
        for name in self.names:
            for level in ("", "-mtls"):
                shutil.rmtree(self.home / f"build/certs/{name}{level}", ignore_errors=True)

    def look_due(self) -> None:
        """Let every host have been looked at for the last time yesterday."""
        yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name in self.names:
            path = self.home / "build/contacts" / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "checked_at": yesterday}))


@contextmanager
def targets(folder: Path, count: int) -> Iterator[Targets]:
    """So many hosts with an sshd that answers for all of them, and a project in which nothing is built yet."""
    if not SSHD.exists() or not shutil.which("ssh"):
        raise Broken("sshd is not there: apt install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd of root shuts itself in
    names = [f"host-{number:02}" for number in range(count)]
    made = Targets(folder, _project(folder / "project", names, folder / "roots"), names)
    for name in names:
        _target(made.root(name))
    _keys(made)
    with _sshd(made) as (forced, free):
        for config, port in ((made.home / "ssh_config", forced), (made.free, free)):
            config.write_text(CLIENT_CONFIG.format(port=port, user=getpass.getuser(), folder=folder))
        yield made


def _project(home: Path, names: Sequence[str], roots: Path) -> Path:
    """A project with the project's own templates for nginx, each host's files below its own root, reloads without effect."""
    home.mkdir(parents=True)
    (home / "pki.yaml").write_text(HEAD.format(first=names[0]) + "".join(HOST.format(name=name) for name in names))
    shutil.copytree(PROJECT / "templates", home / "templates", ignore=shutil.ignore_patterns(*LEFT_OUT))
    headers = {
        "target: ": rf"target: {roots}/{{{{ host.name }}}}",
        "hosts: proxy:.*": "hosts: all",
        "owner: .*": f"owner: {OWNER}",
        "validate: .*": "validate: true",
        "reload: .*": "reload: true",
    }
    for template in (path for path in (home / "templates").rglob("*") if path.is_file()):
        text = template.read_text()
        if "# deploy-owner: " not in text:
            text = text.replace("# deploy-hosts: ", f"# deploy-owner: {OWNER}\n# deploy-hosts: ", 1)
        for header, said in headers.items():
            text = re.sub(f"^# deploy-{header}", f"# deploy-{said}", text, flags=re.MULTILINE)
        template.write_text(text)
    return home


def _target(root: Path) -> None:
    """A host's root with its pki-apply, whose configuration and state lie there, too."""
    root.mkdir(parents=True)
    text = (PROJECT / "pki/deploy/host/pki-apply").read_text()
    text = text.replace("\nconf=/etc/", f"\nconf={root}/").replace(
        "\nstate=/var/lib/pki-apply", f"\nstate={root}/state"
    )
    (root / "pki-apply").write_text(text)
    (root / "pki-apply").chmod(0o755)


def _keys(made: Targets) -> None:
    """A key for each host, which starts its pki-apply at the one port, and at the other what it is asked for."""
    (made.folder / "keys").mkdir()
    forced, free = "", ""
    for name in made.names:
        public = _key(made.folder / "keys" / name)
        forced += f'restrict,command="{made.root(name)}/pki-apply" {public}\n'
        free += f"restrict {public}\n"
    (made.folder / "forced_keys").write_text(forced)
    (made.folder / "free_keys").write_text(free)
    (made.folder / "known_hosts").write_text(f"target {_key(made.folder / 'host_key')}\n")


def _key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


@contextmanager
def _sshd(made: Targets) -> Iterator[tuple[int, int]]:
    """Its two ports: at the first a key starts pki-apply only."""
    with closing(socket.socket()) as one, closing(socket.socket()) as other:
        for taken in (one, other):
            taken.bind(("127.0.0.1", 0))
        forced, free = one.getsockname()[1], other.getsockname()[1]
    config = made.folder / "sshd_config"
    config.write_text(SSHD_CONFIG.format(forced=forced, free=free, folder=made.folder))
    with (made.folder / "sshd.log").open("w") as log:
        daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log)
    try:
        for port in (forced, free):
            _await(port, daemon, made.folder / "sshd.log")
        yield forced, free
    finally:
        daemon.terminate()
        daemon.wait()


def _await(port: int, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while daemon.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Broken(f"sshd does not start: {log.read_text()}")
