"""The Ansible project: inventory, playbook, the collection with our one action, and the stream for each host.

Everything that Ansible needs is in one folder, for a run on this machine, on another one, or in AWX.
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
from pki.deploy import (
    access,
    binary_protocols,
    bounded_stream,
    host_output,
    questions,
    text_protocols,
    tls_client,
    verification,
)
from pki.deploy.preflight import ReleaseContents
from pki.deploy.protocol import batch_stream
from pki.deploy.ssh import CONNECT_TIMEOUT, NO_FORWARDING, PROGRAM, Transport
from pki.deploy.transaction import HostChange

COLLECTION = "collections/ansible_collections/doit/pki/plugins"
UTILS = "ansible_collections.doit.pki.plugins.plugin_utils"
COLLECTION_MODULES = (
    visible,
    host_output,
    bounded_stream,
    text_protocols,
    binary_protocols,
    questions,
    tls_client,
    access,
    verification,
)  # they import only one another of our modules
SSH = "bounded_ssh.py"  # Ansible starts it instead of ssh
SECRETS = ("streams", "prober")
CONFIG = """\
# Written by doit-pki.
[defaults]
inventory = inventory.yaml
forks = {forks}
gathering = explicit
retry_files_enabled = False

[ssh_connection]
ssh_args = -o ControlMaster=no
"""
HEAD = """\
# Written by doit-pki: delivers releases to hosts, batch after batch. Two hosts of one group of pki.yaml are never in
# the same play, so that they never change at the same time.
"""
PLAY = """\
- name: Deliver releases ({number} of {plays})
  hosts: round_{number}
  gather_facts: false
  strategy: linear
  serial: {serial}
  max_fail_percentage: {limit}
  tasks:
    # One task does all of it, so that a batch that stops leaves no host between change and verification.
    - name: Bring the host to its release, and verify it or roll it back
      doit.pki.deliver:
        stream: "streams/{{{{ inventory_hostname }}}}"
        program: "{{{{ pki_program }}}}"
        release: "{{{{ pki_release }}}}"
        deployed_before: "{{{{ pki_deployed_before }}}}"
        crls: "{{{{ pki_crls }}}}"
        services: "{{{{ pki_services }}}}"
        remedy: "{{{{ pki_remedy }}}}"
        limits: "{{{{ pki_limits }}}}"
        roots: prober/roots.pem
        probe: prober/probe.pem
        canary: prober/canary.pem
      ignore_unreachable: true # a host that is down does not count as a failure of the release
      timeout: 1500 # above the limits for the host in pki_limits
"""


@dataclass(frozen=True, slots=True)
class HostPayload:
    """One checked release on its way to one host; `replaceable_crls` are the SHA-256 of CRL files that it may replace."""

    change: HostChange
    contents: ReleaseContents
    replaceable_crls: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return self.change.payload.release.host

    @property
    def group(self) -> str:
        return self.change.destination.group

    def stream(self) -> bytes:
        """Return the stream for pki-apply."""
        return batch_stream(self.host, self.change.rows, self.change.payload)

    def variables(self, *, portable: bool) -> dict[str, Any]:
        """Return the variables of a host in the inventory; where `portable`, they name no file of this machine."""
        destination = self.change.destination
        expectations = self.change.expectations(self.contents)
        return {
            **_connection(destination.transport, portable=portable),
            "pki_program": f"sudo -n {PROGRAM}" if destination.transport.user not in {"", "root"} else PROGRAM,
            "pki_release": self.change.payload.release.digest,
            "pki_deployed_before": self.change.is_already_deployed,
            "pki_crls": {row.file.path: list(self.replaceable_crls) for row in self.change.rows if row.file.crl},
            "pki_remedy": str(self.change.remedy),
            "pki_limits": asdict(destination.transport.limits),
            "pki_services": [
                {
                    "endpoint": asdict(endpoint),
                    "expectation": asdict(expectations[endpoint.name]) if endpoint.name in expectations else {},
                }
                for endpoint in destination.endpoints
            ],
        }


def _connection(transport: Transport, *, portable: bool) -> dict[str, Any]:
    """Return the variables with which Ansible's ssh reaches a host as ours does."""
    options = [*NO_FORWARDING, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}"]
    options += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
    options += ["-o", f"HostName={transport.address}"] if transport.address else []
    variables: dict[str, Any] = {"ansible_connection": "ssh", "ansible_host": transport.name}
    variables |= {"ansible_ssh_executable": f"{{{{ playbook_dir }}}}/{SSH}"}
    variables |= {"ansible_user": transport.user} if transport.user else {}
    variables |= {"ansible_port": transport.port} if transport.port else {}
    if not portable:
        options += ["-F", transport.config] if transport.config else []
        options += ["-o", "IdentitiesOnly=yes"] if transport.identity else []
        variables |= {"ansible_ssh_private_key_file": transport.identity} if transport.identity else {}
    return {**variables, "ansible_ssh_common_args": shlex.join(options)}


# -- the folder -------------------------------------------------------------------------------------------------------


def write(folder: Path, payloads: Sequence[HostPayload], settings: Ansible, *, portable: bool = False) -> None:
    """Write the Ansible project; only its owner can read what `remove_secrets` removes."""
    remove_secrets(folder)
    filesystem.make_folder(folder, 0o700)
    rounds = plan_rounds(payloads)
    sources = Path(__file__).parent
    files = {
        "ansible.cfg": CONFIG.format(forks=settings.forks).encode(),
        "inventory.yaml": inventory(payloads, rounds, portable=portable).encode(),
        "playbook.yaml": playbook(len(rounds), settings).encode(),
        SSH: (sources / SSH).read_bytes(),
        f"{COLLECTION}/action/deliver.py": (sources / "deliver.py").read_bytes(),
        **{f"{COLLECTION}/plugin_utils/{Path(str(x.__file__)).name}": collection_module(x) for x in COLLECTION_MODULES},
    }
    prober = payloads[0].change.destination.prober
    secrets = {f"streams/{x.host}": x.stream() for x in payloads}
    secrets["prober/roots.pem"] = filesystem.read(prober.roots) or b""
    for name, identity in (("probe", prober.probe), ("canary", prober.canary)):
        secrets[f"prober/{name}.pem"] = (filesystem.read(identity) if identity else None) or b""
    for name in SECRETS:
        filesystem.make_folder(folder / name, 0o700)
    for parent in {(folder / name).parent for name in files}:
        filesystem.make_folder(parent)
    filesystem.write_all(
        {folder / name: (data, 0o755 if name == SSH else 0o644) for name, data in files.items()}
        | {folder / name: (data, 0o600) for name, data in secrets.items()}
    )


def collection_module(module: ModuleType) -> bytes:
    """Return a module for the collection, in which its imports have other names."""
    text = Path(str(module.__file__)).read_bytes().replace(b"from pki.deploy.", f"from {UTILS}.".encode())
    return text.replace(b"from pki.common.visible import", f"from {UTILS}.visible import".encode())


def remove_secrets(folder: Path) -> None:
    """Remove the files that contain private keys."""
    for name in SECRETS:
        shutil.rmtree(folder / name, ignore_errors=True)


def plan_rounds(payloads: Sequence[HostPayload]) -> list[list[HostPayload]]:
    """Divide the hosts into plays, in the given order; two hosts of one group are never in the same play.

    There are as many plays as the largest group has hosts, of about the same size.
    """
    group_sizes = Counter(payload.group for payload in payloads if payload.group)
    rounds: list[list[HostPayload]] = [[] for _ in range(max(group_sizes.values(), default=1))]
    round_size = -(-len(payloads) // len(rounds))  # rounded up
    used_groups = set[tuple[int, str]]()
    for payload in sorted(payloads, key=lambda payload: not payload.group):  # hosts without a group fill the gaps
        free_rounds = (number for number in range(len(rounds)) if (number, payload.group) not in used_groups)
        number = min(free_rounds, key=lambda number: len(rounds[number]) >= round_size)  # the first that is not full
        rounds[number].append(payload)
        if payload.group:
            used_groups.add((number, payload.group))
    position = {payload.host: number for number, payload in enumerate(payloads)}
    return [sorted(hosts, key=lambda payload: position[payload.host]) for hosts in rounds]


def inventory(payloads: Sequence[HostPayload], rounds: Sequence[Sequence[HostPayload]], *, portable: bool) -> str:
    """Return the inventory: every host with its variables, its play, and the groups of pki.yaml."""
    groups: dict[str, list[str]] = {
        f"round_{number}": [payload.host for payload in hosts] for number, hosts in enumerate(rounds, 1)
    }
    for payload in payloads:
        if payload.group:
            groups.setdefault(f"group_{payload.group.replace('-', '_')}", []).append(payload.host)
    variables = {payload.host: payload.variables(portable=portable) for payload in payloads}
    return "".join(f"{line}\n" for line in _inventory_lines(variables, groups))


def _inventory_lines(variables: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the lines of the inventory. Values are JSON, so that YAML does not read a host's name as a number."""
    yield "all:"
    yield "  hosts:"
    for host, values in variables.items():
        yield f"    {json.dumps(host)}:"
        yield from (f"      {name}: {json.dumps(value)}" for name, value in values.items())
    yield "  children:"
    for group, hosts in groups.items():
        yield f"    {group}:"
        yield "      hosts:"
        yield from (f"        {json.dumps(host)}:" for host in hosts)


def playbook(rounds: int, settings: Ansible) -> str:
    """Return the playbook."""
    serial = json.dumps([int(size) if size.isdecimal() else size for size in settings.serial])
    plays = (
        PLAY.format(number=number, plays=rounds, serial=serial, limit=settings.max_fail_percentage)
        for number in range(1, rounds + 1)
    )
    return HEAD + "\n".join(plays)
