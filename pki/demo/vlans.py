"""The story of the VLANs: three hosts behind a firewall, one CA, and who reaches what from where."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pki.common.terminal import Screen
from pki.config import loader
from pki.config.model import Inventory
from pki.demo.lab import Lab
from pki.demo.namespace_machine import Machine, check_programs
from pki.demo.visits import ANSWERED, NO_WAY_THERE, REFUSED, ROOTS, Seen, Visit

HERE = Path(__file__).parent
PROGRAM = HERE.parent.parent
PROJECT_FOLDER = Path("/srv/pki")
CLIENTS = "192.0.2.128/25"  # a VLAN of which the project knows nothing: nobody there needs a certificate
PROGRAMS = ("ssh", "ssh-keygen", "sshd", "nginx", "haproxy", "caddy", "curl")
EXAMPLE = ("curl", "--cacert", ROOTS, "--cert", "/root/admin.pem", "https://grafana.lab.internal/")
NEW, OLD = "admin", "admin-revoked"  # /root/admin.pem on whoever has it


class Story:
    """The machines of the story, and its chapters."""

    def __init__(self, lab: Lab, wanted: Inventory, screen: Screen) -> None:
        self.lab = lab
        self.wanted = wanted
        self.screen = screen
        self.hosts = {name: self._host(name) for name in wanted.hosts}
        self.ca = lab.machine("ca", "mgmt")
        self.admin = lab.machine("admin", "mgmt")
        self.guest = lab.machine("guest", "clients")
        self.tv = lab.machine("tv", "av")
        self._permit()

    # -- the network --------------------------------------------------------------------------------------------------

    def _host(self, name: str) -> Machine:
        """A host as pki.yaml describes it, with its applications and proxy as after their installation."""
        said = self.wanted.hosts[name]
        names = [f"{service}.{self.wanted.domains[0]}" for service in said.services]
        if name == self.wanted.publish.host:
            names.append(self.wanted.publish.hostname)
        host = self.lab.machine(name, said.network, str(said.address), names)
        ports = (f"{service}={urlsplit(one.upstream.url).port}" for service, one in said.services.items())
        host.start(sys.executable, HERE / "upstream.py", *ports, says="ready")
        host.serve("ssh", str(said.proxy))
        return host

    def _permit(self) -> None:
        """Management reaches every host; guests reach Jellyfin; everybody reaches the CRLs; nothing else is forwarded."""
        monitoring = self.hosts["monitoring"]
        for name in ("forge", "media"):
            self.lab.permit("mgmt", self.hosts[name], 22, 443)
        self.lab.permit("clients", self.hosts["media"], 443)
        for vlan in ("clients", "dev", "av"):
            self.lab.permit(vlan, monitoring, 80)

    # -- the project ----------------------------------------------------------------------------------------------------

    def found(self) -> None:
        """A project on the ca machine, pki.yaml and the templates; root there may log in on the hosts, as root."""
        self.ca.write(PROJECT_FOLDER / "pki.yaml", (HERE / "project.yaml").read_text())
        self.ca.run("cp", "-r", PROGRAM / "templates", PROJECT_FOLDER)
        self.ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        known = ""
        for name, host in self.hosts.items():
            host.write("/root/.ssh/authorized_keys", self.ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            known += f"{name},{host.address} {host.host_key()}\n"
        self.ca.write("/root/.ssh/known_hosts", known)

    def forget_login(self) -> None:
        """Take root's login away again: deliveries have a key of their own, which opens no shell."""
        self.ca.run("rm", "/root/.ssh/id_ed25519", "/root/.ssh/id_ed25519.pub")

    def bootstrap(self, name: str) -> str:
        """Prepare a host over ssh: a key that may start pki-apply there, and nothing else."""
        return self._program("invoke", "deploy.bootstrap", name)

    def doit(self) -> str:
        """What a run of doit says; everything is delivered and verified when it ends."""
        return self._program("doit")

    def revoke(self) -> str:
        """Revoke the admin's certificate; invoke runs doit, which makes a new one and delivers the CRLs."""
        return self._program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes")

    def hand_out(self, certificate: str, *visitors: Machine) -> None:
        """Give visitors the admin's certificate with its key, so that nothing but the network keeps them out."""
        roots, pair = (
            self.ca.read(PROJECT_FOLDER / "build/trust/roots.pem"),
            self.ca.read(PROJECT_FOLDER / "ca/clients/admin/tls.pem"),
        )
        for visitor in visitors:
            visitor.write(ROOTS, roots)
            visitor.write(f"/root/{certificate}.pem", pair, 0o600)

    def _program(self, *command: str) -> str:
        done = self.ca.run(
            sys.executable, "-m", *command, cwd=PROGRAM, env={"PKI_HOME": str(PROJECT_FOLDER)}, timeout=120
        )
        return done.stdout

    # -- the visits ---------------------------------------------------------------------------------------------------

    def visits(self) -> Iterator[Visit]:
        """Who reaches what: Grafana from the management VLAN with the certificate, and from nowhere else."""
        admin, guest, tv, forge = self.admin, self.guest, self.tv, self.hosts["forge"]
        for service in ("grafana", "prometheus", "loki", "forgejo"):
            yield Visit(admin, f"https://{service}.lab.internal/", ANSWERED, NEW)
        for service in ("grafana", "forgejo"):
            yield Visit(admin, f"https://{service}.lab.internal/", REFUSED)
        for visitor in (guest, tv, forge):
            yield Visit(visitor, "https://grafana.lab.internal/", NO_WAY_THERE, NEW)
        yield Visit(guest, "https://forgejo.lab.internal/", NO_WAY_THERE, NEW)
        yield Visit(guest, "http://media:22/", NO_WAY_THERE)
        for visitor in (tv, guest, admin):
            yield Visit(visitor, "https://jellyfin.lab.internal/", ANSWERED)
        for visitor in (tv, guest, forge):
            yield Visit(visitor, "http://pki.lab.internal/crl/client-1.crl", ANSWERED)

    def visits_after(self) -> Iterator[Visit]:
        """The same door after the admin's certificate was revoked: shut for the old one, open for the new one."""
        for service in ("grafana", "forgejo"):
            yield Visit(self.admin, f"https://{service}.lab.internal/", REFUSED, OLD)
        yield Visit(self.admin, "https://grafana.lab.internal/", ANSWERED, NEW)
        yield Visit(self.tv, "https://jellyfin.lab.internal/", ANSWERED)

    # -- all of it ----------------------------------------------------------------------------------------------------

    def tell(self) -> list[Seen]:
        """Every chapter in its order; returns what the visitors saw."""
        screen = self.screen
        self.found()
        for name in self.hosts:
            screen.line(f"ca: invoke deploy.bootstrap {name}")
            screen.line(f"    {_last(self.bootstrap(name))}")
        self.forget_login()
        screen.line("ca: doit, which makes what is missing, delivers it over ssh, and looks at what is served")
        screen.line(f"    {_last(self.doit())}")
        self.hand_out(NEW, self.admin, self.guest, self.tv, self.hosts["forge"])
        screen.line("visitors: everybody asks, also with a copy of the admin's certificate")
        seen = [visit.pay() for visit in self.visits()]
        self.hand_out(OLD, self.admin)
        screen.line("ca: invoke revoke admin --reason key-compromise --yes")
        screen.line(f"    {_last(self.revoke())}")
        self.hand_out(NEW, self.admin)
        return seen + [visit.pay() for visit in self.visits_after()]


@contextmanager
def story(screen: Screen) -> Iterator[Story]:
    """The lab of the story, with real servers on the machines, until the block ends."""
    check_programs(*PROGRAMS)
    wanted = loader.load(HERE / "project.yaml")
    vlans = {**{name: str(network) for name, network in wanted.networks.items()}, "clients": CLIENTS}
    with Lab(vlans) as lab:
        screen.line(f"lab: {', '.join(vlans)}: four VLANs, a router with a firewall between them")
        told = Story(lab, wanted, screen)
        for name, host in told.hosts.items():
            said = wanted.hosts[name]
            screen.line(f"lab: {name} ({host.vlan}): {said.proxy} before {', '.join(said.services)}; sshd")
        screen.line("lab: ca and admin (mgmt), guest (clients), tv (av)")
        yield told


def show(screen: Screen, seen: Sequence[Seen]) -> None:
    screen.table("", ("", "visitor", "asks for", "shows", "gets"), [one.row for one in seen])


def _last(said: str) -> str:
    return said.strip().rpartition("\n")[2]
