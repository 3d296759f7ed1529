"""A lab: VLANs, a router with a firewall between them, and machines; all of it in namespaces, gone at the end.

Nothing outside the namespaces changes. Whatever ends the process that made a lab, Ctrl-C or `kill -9`, ends the lab.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Interface, IPv4Network
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from pki.common.errors import PkiError
from pki.demo.namespace_machine import PATH, PATIENCE, Machine, check_programs

LAN = {"lan": "192.0.2.0/24"}  # set apart for documentation: https://www.rfc-editor.org/rfc/rfc5737
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
        self.vlans = {name: IPv4Network(network) for name, network in (vlans or LAN).items()}
        self.machines: dict[str, Machine] = {}
        self._names: dict[str, str] = {}
        self._ports = count()  # never again one of a machine that has gone: the kernel takes its time with those
        self._overlay = overlay
        self._stack = ExitStack()
        self._scratch = Path()
        self._router: Machine | None = None

    def __enter__(self) -> Self:
        if os.geteuid():
            raise PkiError(
                "only root may make network namespaces, mounts and firewalls of their own",
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

    def machine(self, name: str, vlan: str = "", address: str = "", names: Iterable[str] = ()) -> Machine:
        """A new machine on a VLAN (the first one); without an address it gets the next free one, and any number of names."""
        vlan = vlan or next(iter(self.vlans))
        network = self.vlans[vlan]
        taken = {self._gateway(vlan), *(other.address for other in self.machines.values())}
        address = address or next(str(free) for free in network.hosts() if str(free) not in taken)
        interface = IPv4Interface(f"{address}/{network.prefixlen}")
        if address in taken or interface.network != network:
            raise PkiError(f"{name}: {address} is taken, or not in {network}, the network of {vlan}")
        machine = self._boot(Machine(name, self._scratch, interface, vlan, f"port{next(self._ports)}"))
        self.machines[name] = machine
        self.name(address, name, *names)
        self._ip(
            self.router,
            f"link add {machine.port} type veth peer name eth0 netns {machine.holder}",
            f"link set {machine.port} master {vlan} up",
        )
        self._ip(
            machine,
            f"address add {machine.interface} dev eth0",
            "link set eth0 up",
            f"route add default via {self._gateway(vlan)}",
        )
        return machine

    def name(self, address: str, *names: str) -> None:
        """Give an address further names, in /etc/hosts of every machine."""
        self._names |= dict.fromkeys(names, address)
        self._write_names()

    def close(self, machine: Machine) -> None:
        """Take a machine away; its name and its address may be given again."""
        machine.close()
        self._names = {name: address for name, address in self._names.items() if address != machine.address}
        self._write_names()
        shutil.rmtree(self._scratch / machine.name)
        del self.machines[machine.name]

    # -- the router ---------------------------------------------------------------------------------------------------

    @property
    def router(self) -> Machine:
        if self._router is None:
            raise PkiError("the lab is not up", "with Lab() as lab: …")
        return self._router

    def permit(self, source: str | Machine, target: str | Machine, *ports: int) -> None:
        """Let a VLAN or a machine open connections to another: to these TCP ports, or to any."""
        words = [
            f'iifname "{source}"' if isinstance(source, str) else f"ip saddr {source.address}",
            f'oifname "{target}"' if isinstance(target, str) else f"ip daddr {target.address}",
            *([f"tcp dport {{ {', '.join(map(str, ports))} }}"] if ports else []),
        ]
        self.router.run("nft", "-f", "-", stdin=f"insert rule inet lab forward {' '.join(words)} accept\n")

    def unplug(self, machine: Machine) -> None:
        """Pull a machine's cable: it can be reached by nobody."""
        self._ip(self.router, f"link set {machine.port} down")

    def plug(self, machine: Machine) -> None:
        """Put the cable back. Whoever asked for the machine meanwhile has to ask again at once, and not in a second."""
        self._ip(self.router, f"link set {machine.port} up")
        for one in (self.router, *self.machines.values()):
            self._ip(one, "neighbour flush all")

    def _set_router_up(self) -> None:
        self._router = self._boot(Machine("router", self._scratch))
        self._ip(
            self._router,
            *(f"link add name {vlan} type bridge" for vlan in self.vlans),
            *(f"address add {self._gateway(vlan)}/{net.prefixlen} dev {vlan}" for vlan, net in self.vlans.items()),
            *(f"link set dev {vlan} up" for vlan in self.vlans),
        )
        # A kernel with br_netfilter shows the firewall what stays within a VLAN too.
        within = "\n        ".join(f'iifname "{vlan}" oifname "{vlan}" accept' for vlan in self.vlans)
        self._router.run("nft", "-f", "-", stdin=FIREWALL.format(within=within))
        self._router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def _gateway(self, vlan: str) -> str:
        return str(next(self.vlans[vlan].hosts()))

    def _boot(self, machine: Machine) -> Machine:
        self._stack.callback(machine.close)
        machine.boot(self._scratch / "hosts", overlay=self._overlay)
        return machine

    def _ip(self, machine: Machine, *lines: str) -> None:
        """Lines for `ip -batch` in a machine's network, where processes have the numbers that we know."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{machine.holder}/ns/net", "ip", "-batch", "-"],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={"PATH": PATH},
            check=False,
        )
        if done.returncode:
            raise PkiError(f"{machine.name}: ip: {done.stderr.strip()}")

    def _write_names(self) -> None:
        """Into the same file, for every machine has it mounted."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self._names.items())]
        (self._scratch / "hosts").write_text("".join(f"{line}\n" for line in lines))
