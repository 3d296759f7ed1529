"""An Ansible project: inventory, playbook, the collection with our one action, and what each host is sent.

Everything that Ansible needs lies in one folder, for a run here, on another machine, or in AWX.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pki.common import filesystem, visible
from pki.config.model import Ansible
from pki.deploy import access, host_output, tls_client, verification
from pki.deploy.preflight import Findings
from pki.deploy.protocol import monologue
from pki.deploy.ssh import CLOSED, CONNECT, PROGRAM, Way
from pki.deploy.transaction import Change

COLLECTION = "collections/ansible_collections/doit/pki/plugins"
UTILS = "ansible_collections.doit.pki.plugins.plugin_utils"
CARRIED = (visible, host_output, tls_client, access, verification)  # which import nothing of ours but one another
SSH = "bounded_ssh.py"  # which Ansible starts in place of ssh
SECRETS = ("streams", "prober")
CONFIG = """\
# Made by doit-pki.
[defaults]
inventory = inventory.yaml
forks = {forks}
gathering = explicit
retry_files_enabled = False

[ssh_connection]
ssh_args = -o ControlMaster=no
"""
HEAD = """\
# Made by doit-pki: releases on their way to their hosts, batch after batch. Of one group of pki.yaml, no two hosts
# stand in the same play: they never change at the same time.
"""
PLAY = """\
- name: Deliver releases ({number} of {plays})
  hosts: round_{number}
  gather_facts: false
  strategy: linear
  serial: {serial}
  max_fail_percentage: {limit}
  tasks:
    # One task does all of it, so that a batch that stops leaves no host between change and proof.
    - name: Bring the host to its release, verified or put back
      doit.pki.deliver:
        stream: "streams/{{{{ inventory_hostname }}}}"
        program: "{{{{ pki_program }}}}"
        release: "{{{{ pki_release }}}}"
        known: "{{{{ pki_known }}}}"
        crls: "{{{{ pki_crls }}}}"
        services: "{{{{ pki_services }}}}"
        remedy: "{{{{ pki_remedy }}}}"
        limits: "{{{{ pki_limits }}}}"
        roots: prober/roots.pem
        probe: prober/probe.pem
        canary: prober/canary.pem
      ignore_unreachable: true # nothing is wrong with a release that did not arrive: it does not count as a failure
      timeout: 1500 # a host may take as long as pki_limits says; this is for what is not its fault
"""


@dataclass(frozen=True, slots=True)
class HostPayload:
    """One release on its way to one host, looked at and fit to leave; `may_go` are CRL files that it may replace."""

    change: Change
    findings: Findings
    may_go: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return self.change.payload.release.host

    @property
    def group(self) -> str:
        return self.change.to.group

    def stream(self) -> bytes:
        return monologue(self.host, self.change.rows, self.change.payload)

    def variables(self, *, abroad: bool) -> dict[str, Any]:
        """What the inventory says of a host; `abroad` it names no file of this machine."""
        to = self.change.to
        expectations = self.change.expectations(self.findings)
        return {
            **_connection(to.way, abroad=abroad),
            "pki_program": f"sudo -n {PROGRAM}" if to.way.user not in {"", "root"} else PROGRAM,
            "pki_release": self.change.payload.release.digest,
            "pki_known": self.change.is_known,
            "pki_crls": {row.file.path: list(self.may_go) for row in self.change.rows if row.file.crl},
            "pki_remedy": str(self.change.remedy),
            "pki_limits": asdict(to.way.limits),
            "pki_services": [
                {
                    "endpoint": asdict(end),
                    "expectation": asdict(expectations[end.name]) if end.name in expectations else {},
                }
                for end in to.endpoints
            ],
        }


def _connection(way: Way, *, abroad: bool) -> dict[str, Any]:
    """How Ansible's own ssh reaches a host: as ours does."""
    options = [*CLOSED, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT}"]
    options += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
    options += ["-o", f"HostName={way.address}"] if way.address else []
    said: dict[str, Any] = {"ansible_connection": "ssh", "ansible_host": way.name}
    said |= {"ansible_ssh_executable": f"{{{{ playbook_dir }}}}/{SSH}"}
    said |= {"ansible_user": way.user} if way.user else {}
    said |= {"ansible_port": way.port} if way.port else {}
    if not abroad:
        options += ["-F", way.config] if way.config else []
        options += ["-o", "IdentitiesOnly=yes"] if way.identity else []
        said |= {"ansible_ssh_private_key_file": way.identity} if way.identity else {}
    return {**said, "ansible_ssh_common_args": shlex.join(options)}


# -- the folder -------------------------------------------------------------------------------------------------------


def write(folder: Path, payloads: Sequence[HostPayload], settings: Ansible, *, abroad: bool = False) -> None:
    """Write the project; what `sweep` takes away again is for its owner alone."""
    sweep(folder)
    filesystem.make_folder(folder, 0o700)
    rounds = in_rounds(payloads)
    here = Path(__file__).parent
    files = {
        "ansible.cfg": CONFIG.format(forks=settings.forks).encode(),
        "inventory.yaml": inventory(payloads, rounds, abroad=abroad).encode(),
        "playbook.yaml": playbook(len(rounds), settings).encode(),
        SSH: (here / SSH).read_bytes(),
        f"{COLLECTION}/action/deliver.py": (here / "deliver.py").read_bytes(),
        **{f"{COLLECTION}/plugin_utils/{Path(str(one.__file__)).name}": carried(one) for one in CARRIED},
    }
    prober = payloads[0].change.to.prober
    secret = {f"streams/{one.host}": one.stream() for one in payloads}
    secret["prober/roots.pem"] = filesystem.read(prober.roots) or b""
    for name, identity in (("probe", prober.probe), ("canary", prober.canary)):
        secret[f"prober/{name}.pem"] = (filesystem.read(identity) if identity else None) or b""
    for name in SECRETS:
        filesystem.make_folder(folder / name, 0o700)
    for parent in {(folder / name).parent for name in files}:
        filesystem.make_folder(parent)
    filesystem.write_all(
        {folder / name: (data, 0o755 if name == SSH else 0o644) for name, data in files.items()}
        | {folder / name: (data, 0o600) for name, data in secret.items()}
    )


def carried(module: ModuleType) -> bytes:
    """A module of ours that runs within Ansible, where its neighbours bear another name."""
    text = Path(str(module.__file__)).read_bytes().replace(b"from pki.deploy.", f"from {UTILS}.".encode())
    return text.replace(b"from pki.common.visible import", f"from {UTILS}.visible import".encode())


def sweep(folder: Path) -> None:
    """Take away what holds private keys."""
    for name in SECRETS:
        shutil.rmtree(folder / name, ignore_errors=True)


def in_rounds(payloads: Sequence[HostPayload]) -> list[list[HostPayload]]:
    """As few plays as the largest group has hosts, of about the same size, each in the order that was given."""
    sizes = Counter(one.group for one in payloads if one.group)
    rounds: list[list[HostPayload]] = [[] for _ in range(max(sizes.values(), default=1))]
    room, taken = -(-len(payloads) // len(rounds)), set()
    for one in sorted(payloads, key=lambda one: not one.group):
        free = (number for number in range(len(rounds)) if (number, one.group) not in taken)
        number = min(free, key=lambda number: len(rounds[number]) >= room)
        rounds[number].append(one)
        taken |= {(number, one.group)} if one.group else set()
    place = {one.host: number for number, one in enumerate(payloads)}
    return [sorted(some, key=lambda one: place[one.host]) for some in rounds]


def inventory(payloads: Sequence[HostPayload], rounds: Sequence[Sequence[HostPayload]], *, abroad: bool) -> str:
    """Every host with its variables, the plays that it is in, and the groups of pki.yaml."""
    groups: dict[str, list[str]] = {
        f"round_{number}": [one.host for one in some] for number, some in enumerate(rounds, 1)
    }
    for one in payloads:
        if one.group:
            groups.setdefault(f"group_{one.group.replace('-', '_')}", []).append(one.host)
    variables = {one.host: one.variables(abroad=abroad) for one in payloads}
    return "".join(f"{line}\n" for line in _yaml(variables, groups))


def _yaml(variables: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Values stand as JSON, which YAML reads as what it is: no host is a number, whatever its name."""
    yield "all:"
    yield "  hosts:"
    for host, said in variables.items():
        yield f"    {json.dumps(host)}:"
        yield from (f"      {name}: {json.dumps(value)}" for name, value in said.items())
    yield "  children:"
    for group, hosts in groups.items():
        yield f"    {group}:"
        yield "      hosts:"
        yield from (f"        {json.dumps(host)}:" for host in hosts)


def playbook(rounds: int, settings: Ansible) -> str:
    serial = json.dumps([int(one) if one.isdecimal() else one for one in settings.serial])
    plays = (
        PLAY.format(number=number, plays=rounds, serial=serial, limit=settings.max_fail_percentage)
        for number in range(1, rounds + 1)
    )
    return HEAD + "\n".join(plays)
