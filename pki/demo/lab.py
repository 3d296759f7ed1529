"""A lab in network namespaces: VLANs, a router with a firewall between them, and machines.

Nothing outside the namespaces changes. The lab ends with the process that created it, also after Ctrl-C or `kill -9`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from pki.common.errors import PkiError
from pki.demo.namespace_machine import PATH, TIMEOUT, NamespaceMachine, check_programs

LAN = {"lan": "192.0.2.0/24"}  # reserved for documentation: https://www.rfc-editor.org/rfc/rfc5737
PROGRAMS = ("ip", "nft", "nsenter", "unshare", "setpriv")
FIREWALL = """\
table inet lab {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        {within}
        reject with icmpx admin-prohibited
    }}
}}
"""


class Lab:
    """VLANs by name with their networks; the router has the first address of each, and forwards what is permitted."""

    def __init__(self, vlans: Mapping[str, str] | None = None, *, overlay: bool = True) -> None:
        self.vlans = {name: ip_network(network) for name, network in (vlans or LAN).items()}
        self.machines: dict[str, NamespaceMachine] = {}
        self._names: dict[str, str] = {}
        self._ports = count()  # never reused: the kernel removes the port of a closed machine late
        self._overlay = overlay
        self._stack = ExitStack()
        self._scratch = Path()
        self._router: NamespaceMachine | None = None

    def __enter__(self) -> Self:
        if os.geteuid():
            raise PkiError(
                "only root may create network namespaces, mounts and firewalls",
                "sudo ./run invoke demo.vlans",
            )
        check_programs(*PROGRAMS)
        with ExitStack() as stack:
            self._stack = stack
            self._scratch = Path(tempfile.mkdtemp(prefix="doit-pki-lab-"))
            stack.callback(shutil.rmtree, self._scratch, ignore_errors=True)
            (self._scratch / "hosts").write_text("")
            self._write_names()
            self._set_router_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- machines -----------------------------------------------------------------------------------------------------

    def machine(self, name: str, vlan: str = "", address: str = "", names: Iterable[str] = ()) -> NamespaceMachine:
        """Start a machine on a VLAN, by default the first one; without an address it gets the next free one.

        `names` are further names of its address. Raises PkiError when the address is in use or in another network.
        """
        vlan = vlan or next(iter(self.vlans))
        network = self.vlans[vlan]
        used_addresses = {self._gateway(vlan), *(other.address for other in self.machines.values())}
        address = address or next(str(host) for host in network.hosts() if str(host) not in used_addresses)
        interface = ip_interface(f"{address}/{network.prefixlen}")
        if address in used_addresses or interface.network != network:
            raise PkiError(f"{name}: {address} is already used, or not in {network}, the network of {vlan}")
        machine = self._boot(NamespaceMachine(name, self._scratch, interface, vlan, f"port{next(self._ports)}"))
        self.machines[name] = machine
        self.name(address, name, *names)
        self._ip(
            self.router,
            f"link add {machine.port} type veth peer name eth0 netns {machine.holder}",
            f"link set {machine.port} master {vlan} up",
        )
        self._ip(
            machine,
            _address_line(interface, "eth0"),
            "link set eth0 up",
            f"route add default via {self._gateway(vlan)}",
        )
        return machine

    def add_address(self, machine: NamespaceMachine, address: str) -> None:
        """Give a machine one more address, with the length of its network: `fd00:77::10/64`."""
        self._ip(machine, _address_line(ip_interface(address), "eth0"))

    def name(self, address: str, *names: str) -> None:
        """Add names for an address to /etc/hosts of every machine."""
        self._names |= dict.fromkeys(names, address)
        self._write_names()

    def close(self, machine: NamespaceMachine) -> None:
        """Remove a machine; its name and address can be used again."""
        machine.close()
        self._names = {name: address for name, address in self._names.items() if address != machine.address}
        self._write_names()
        shutil.rmtree(self._scratch / machine.name)
        del self.machines[machine.name]

    # -- the router ---------------------------------------------------------------------------------------------------

    @property
    def router(self) -> NamespaceMachine:
        """Return the router. Raises PkiError before the lab is started."""
        if self._router is None:
            raise PkiError("the lab is not started", "with Lab() as lab: …")
        return self._router

    def permit(self, source: str | NamespaceMachine, target: str | NamespaceMachine, *ports: int) -> None:
        """Let a VLAN or a machine open connections to another: to these TCP ports, or to all."""
        words = [
            f'iifname "{source}"' if isinstance(source, str) else f"{_family(source)} saddr {source.address}",
            f'oifname "{target}"' if isinstance(target, str) else f"{_family(target)} daddr {target.address}",
            *([f"tcp dport {{ {', '.join(map(str, ports))} }}"] if ports else []),
        ]
        self.router.run("nft", "-f", "-", stdin=f"insert rule inet lab forward {' '.join(words)} accept\n")

    def unplug(self, machine: NamespaceMachine) -> None:
        """Disconnect a machine from its VLAN."""
        self._ip(self.router, f"link set {machine.port} down")

    def plug(self, machine: NamespaceMachine) -> None:
        """Connect a machine again, and clear every neighbour cache so that it can be reached at once."""
        self._ip(self.router, f"link set {machine.port} up")
        for member in (self.router, *self.machines.values()):
            self._ip(member, "neighbour flush all")

    def _set_router_up(self) -> None:
        self._router = self._boot(NamespaceMachine("router", self._scratch))
        self._ip(
            self._router,
            *(f"link add name {vlan} type bridge" for vlan in self.vlans),
            *(
                _address_line(ip_interface(f"{self._gateway(vlan)}/{net.prefixlen}"), vlan)
                for vlan, net in self.vlans.items()
            ),
            *(f"link set dev {vlan} up" for vlan in self.vlans),
        )
        # With br_netfilter the kernel passes traffic within a VLAN through the firewall too.
        within = "\n        ".join(f'iifname "{vlan}" oifname "{vlan}" accept' for vlan in self.vlans)
        self._router.run("nft", "-f", "-", stdin=FIREWALL.format(within=within))
        self._router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        if any(network.version == 6 for network in self.vlans.values()):
            self._router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")

    def _gateway(self, vlan: str) -> str:
        return str(next(self.vlans[vlan].hosts()))

    def _boot(self, machine: NamespaceMachine) -> NamespaceMachine:
        self._stack.callback(machine.close)
        machine.boot(self._scratch / "hosts", overlay=self._overlay)
        return machine

    def _ip(self, machine: NamespaceMachine, *lines: str) -> None:
        """Run lines of `ip -batch` in the network of a machine, with the process numbers of this one."""
        process = subprocess.run(
            ["nsenter", f"--net=/proc/{machine.holder}/ns/net", "ip", "-batch", "-"],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={"PATH": PATH},
            check=False,
        )
        if process.returncode:
            raise PkiError(f"{machine.name}: ip: {process.stderr.strip()}")

    def _write_names(self) -> None:
        """Write /etc/hosts. The same file is mounted on every machine, so it is overwritten in place."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self._names.items())]
        (self._scratch / "hosts").write_text("".join(f"{line}\n" for line in lines))


def _address_line(interface: IPv4Interface | IPv6Interface, device: str) -> str:
    """Return the line of `ip -batch` that adds an address; an IPv6 address can be used at once (ip-address(8))."""
    return f"address add {interface} dev {device}{' nodad' if interface.version == 6 else ''}"


def _family(machine: NamespaceMachine) -> str:
    """Return the family of a machine's address as nftables calls it."""
    return "ip6" if ":" in machine.address else "ip"
