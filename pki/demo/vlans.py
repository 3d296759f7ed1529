"""The VLAN demo: three hosts behind a firewall, one CA, and requests from every VLAN."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pki.common.program_files import PROGRAM
from pki.common.terminal import Screen
from pki.config import loader
from pki.config.model import Inventory
from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine, check_programs
from pki.demo.visits import ANSWERED, NOT_REACHABLE, REFUSED, ROOTS, PageRequest, PageResponse

HERE = Path(__file__).parent
PROJECT_FOLDER = Path("/srv/pki")
CLIENTS = "192.0.2.128/25"  # a VLAN that is not in pki.yaml: nobody there needs a certificate
PROGRAMS = ("ssh", "ssh-keygen", "sshd", "nginx", "haproxy", "caddy", "curl")
EXAMPLE = ("curl", "--cacert", ROOTS, "--cert", "/root/admin.pem", "https://grafana.lab.internal/")
VALID, REVOKED = "admin", "admin-revoked"  # certificates: /root/admin.pem on a machine that has it


class Demo:
    """The machines of the demo, and its steps."""

    def __init__(self, lab: Lab, config: Inventory, screen: Screen) -> None:
        self.lab = lab
        self.config = config
        self.screen = screen
        self.hosts = {name: self._host(name) for name in config.hosts}
        self.ca = lab.machine("ca", "mgmt")
        self.admin = lab.machine("admin", "mgmt")
        self.guest = lab.machine("guest", "clients")
        self.tv = lab.machine("tv", "av")
        self._permit()

    # -- the network --------------------------------------------------------------------------------------------------

    def _host(self, name: str) -> NamespaceMachine:
        """Start a host of pki.yaml with its applications and its proxy as after their installation."""
        host_config = self.config.hosts[name]
        names = [f"{service}.{self.config.domains[0]}" for service in host_config.services]
        if name == self.config.publish.host:
            names.append(self.config.publish.hostname)
        host = self.lab.machine(name, host_config.network, str(host_config.address), names)
        upstreams = {service: rule.upstream for service, rule in host_config.services.items() if rule.upstream}
        ports = (f"{service}={urlsplit(upstream.url).port}" for service, upstream in upstreams.items())
        host.start(sys.executable, HERE / "upstream.py", *ports, says="ready")
        host.serve("ssh", str(host_config.proxy))
        return host

    def _permit(self) -> None:
        """Let mgmt reach every host, clients reach Jellyfin, and every VLAN reach the CRLs.

        The rest is not forwarded.
        """
        monitoring = self.hosts["monitoring"]
        for name in ("forge", "media"):
            self.lab.permit("mgmt", self.hosts[name], 22, 443)
        self.lab.permit("clients", self.hosts["media"], 443)
        for vlan in ("clients", "dev", "av"):
            self.lab.permit(vlan, monitoring, 80)

    # -- the project ----------------------------------------------------------------------------------------------------

    def create_project(self) -> None:
        """Create a project on the machine ca, from which root may log in on the hosts as root."""
        self.ca.write(PROJECT_FOLDER / "pki.yaml", (HERE / "project.yaml").read_text())
        self.ca.run("mkdir", "-p", f"{PROJECT_FOLDER}/templates")
        self.ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        known_hosts = ""
        for name, host in self.hosts.items():
            host.write("/root/.ssh/authorized_keys", self.ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            known_hosts += f"{name},{host.address} {host.host_key()}\n"
        self.ca.write("/root/.ssh/known_hosts", known_hosts)

    def forget_login(self) -> None:
        """Remove the login of root: deployments use their own key, which opens no shell."""
        self.ca.run("rm", "/root/.ssh/id_ed25519", "/root/.ssh/id_ed25519.pub")

    def bootstrap(self, name: str) -> str:
        """Bootstrap a host over ssh: install pki-apply, and a key that can start only that."""
        return self._program("invoke", "deploy.bootstrap", name)

    def doit(self) -> str:
        """Run doit and return its output; when it ends, everything is deployed and verified."""
        return self._program("doit")

    def revoke(self) -> str:
        """Revoke the admin's certificate; the command then runs doit, which issues a new one and deploys the CRLs."""
        return self._program("invoke", "revoke", "admin", "--reason", "key-compromise", "--yes")

    def hand_out(self, certificate: str, *visitors: NamespaceMachine) -> None:
        """Copy the admin's certificate and key to visitors, so that only the network can keep them out."""
        roots = self.ca.read(PROJECT_FOLDER / "build/trust/roots.pem")
        certificate_and_key = self.ca.read(PROJECT_FOLDER / "ca/clients/admin/tls.pem")
        for visitor in visitors:
            visitor.write(ROOTS, roots)
            visitor.write(f"/root/{certificate}.pem", certificate_and_key, 0o600)

    def _program(self, *command: str) -> str:
        process = self.ca.run(
            sys.executable, "-m", *command, cwd=PROGRAM, env={"PKI_HOME": str(PROJECT_FOLDER)}, timeout=120
        )
        return process.stdout

    # -- requests ---------------------------------------------------------------------------------------------------

    def requests(self) -> Iterator[PageRequest]:
        """Yield the requests of every visitor: only the management VLAN reaches Grafana, and only with the certificate."""
        admin, guest, tv, forge = self.admin, self.guest, self.tv, self.hosts["forge"]
        for service in ("grafana", "prometheus", "loki", "forgejo"):
            yield PageRequest(admin, f"https://{service}.lab.internal/", ANSWERED, VALID)
        for service in ("grafana", "forgejo"):
            yield PageRequest(admin, f"https://{service}.lab.internal/", REFUSED)
        for visitor in (guest, tv, forge):
            yield PageRequest(visitor, "https://grafana.lab.internal/", NOT_REACHABLE, VALID)
        yield PageRequest(guest, "https://forgejo.lab.internal/", NOT_REACHABLE, VALID)
        yield PageRequest(guest, "http://media:22/", NOT_REACHABLE)
        for visitor in (tv, guest, admin):
            yield PageRequest(visitor, "https://jellyfin.lab.internal/", ANSWERED)
        for visitor in (tv, guest, forge):
            yield PageRequest(visitor, "http://pki.lab.internal/crl/client-1.crl", ANSWERED)

    def requests_after_revocation(self) -> Iterator[PageRequest]:
        """Yield the same requests after the revocation: the old certificate is refused, the new one accepted."""
        for service in ("grafana", "forgejo"):
            yield PageRequest(self.admin, f"https://{service}.lab.internal/", REFUSED, REVOKED)
        yield PageRequest(self.admin, "https://grafana.lab.internal/", ANSWERED, VALID)
        yield PageRequest(self.tv, "https://jellyfin.lab.internal/", ANSWERED)

    # -- all of it ----------------------------------------------------------------------------------------------------

    def run(self) -> list[PageResponse]:
        """Run all steps in their order; return the responses."""
        screen = self.screen
        self.create_project()
        for name in self.hosts:
            screen.line(f"ca: invoke deploy.bootstrap {name}")
            screen.line(f"    {_last_line(self.bootstrap(name))}")
        self.forget_login()
        screen.line("ca: doit, which issues what is missing, deploys it over ssh, and verifies what is served")
        screen.line(f"    {_last_line(self.doit())}")
        self.hand_out(VALID, self.admin, self.guest, self.tv, self.hosts["forge"])
        screen.line("visitors: every machine sends requests, also with a copy of the admin's certificate")
        responses = [request.send() for request in self.requests()]
        self.hand_out(REVOKED, self.admin)
        screen.line("ca: invoke revoke admin --reason key-compromise --yes")
        screen.line(f"    {_last_line(self.revoke())}")
        self.hand_out(VALID, self.admin)
        return responses + [request.send() for request in self.requests_after_revocation()]


@contextmanager
def demo(screen: Screen) -> Iterator[Demo]:
    """Yield the lab of the demo with real servers on its machines."""
    check_programs(*PROGRAMS)
    config = loader.load(HERE / "project.yaml")
    vlans = {**{name: str(network) for name, network in config.networks.items()}, "clients": CLIENTS}
    with Lab(vlans) as lab:
        screen.line(f"lab: {', '.join(vlans)}: four VLANs, a router with a firewall between them")
        demo_run = Demo(lab, config, screen)
        for name, host in demo_run.hosts.items():
            host_config = config.hosts[name]
            screen.line(
                f"lab: {name} ({host.vlan}): {host_config.proxy} before {', '.join(host_config.services)}; sshd"
            )
        screen.line("lab: ca and admin (mgmt), guest (clients), tv (av)")
        yield demo_run


def show(screen: Screen, responses: Sequence[PageResponse]) -> None:
    """Print the table of the responses."""
    screen.table("", ("", "visitor", "asks for", "shows", "gets"), [response.row for response in responses])


def _last_line(output: str) -> str:
    return output.strip().rpartition("\n")[2]
