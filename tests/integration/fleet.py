"""Four hosts with four proxies in a lab, and a machine that delivers to them over ssh: what a user has, in small."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pki.demo.lab import Lab
from pki.demo.namespace_machine import NamespaceMachine
from tests.integration.conftest import moved_clock
from tests.support.projects import PROJECT

UNITS = {"nginx": "nginx", "haproxy": "haproxy", "caddy": "caddy", "apache": "apache2"}
WELL, FAILED, TOLD = frozenset({0}), frozenset({1, 2}), frozenset({2})
INVENTORY = """\
organisation: Example Fleet
domains: [lab.internal]
permit_addresses: [192.0.2.0/24]
publish: {url: "http://pki.lab.internal", host: nginx}
sandbox: true
networks: {lan: 192.0.2.0/24}
deploy: {ssh_config: ssh_config}
alerts: {email: {to: admin@lab.internal, from: pki@lab.internal}}
clients:
  admin: {email: admin@lab.internal}
  other: {email: other@lab.internal}
hosts:
"""
HOST = """\
  {name}:
    network: lan
    address: {address}
    deliver: ssh
    proxy: {name}
    services:
      {name}-admin: {{upstream: "http://127.0.0.1:3000", access: mtls}}
      {name}-open: {{upstream: "http://127.0.0.1:3000", access: tls}}
"""


@dataclass
class Fleet:
    """The machines, and the project at `home` that the machine `ca` works on."""

    lab: Lab
    home: Path
    ca: NamespaceMachine
    hosts: dict[str, NamespaceMachine]

    def program(self, *command: str, status: frozenset[int] = WELL, days: int = 0) -> str:
        """What doit or invoke says on the ca machine, `days` from now; its exit status must be one of these."""
        done = self.ca.run(
            sys.executable,
            "-m",
            *command,
            cwd=PROJECT,
            env={"PKI_HOME": str(self.home), "PKI_CALLED_FROM": str(self.home), **(moved_clock(days) if days else {})},
            timeout=600,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode in status, f"{command}: exit {done.returncode}\n{said}"
        assert "Traceback" not in said
        return said

    def curl(self, url: str, *options: str) -> str:
        """The HTTP status that curl gets, or its exit status as `curl 56`."""
        done = self.ca.run(
            *("curl", "--silent", "--max-time", "30", "--cacert", str(self.home / "build/trust/roots.pem")),
            *("--output", "/dev/null", "--write-out", "%{http_code}", *options, url),
            check=False,
        )
        return f"curl {done.returncode}" if done.returncode else done.stdout

    def as_client(self, host: str, client: str = "admin") -> str:
        """What a client gets from the host's mTLS service."""
        return self.curl(
            f"https://{host}-admin.lab.internal/", "--cert", str(self.home / f"ca/clients/{client}/tls.pem")
        )

    def served(self, host: str, service: str = "open") -> str:
        """The fingerprint of the certificate that openssl gets; empty when there is none."""
        name = f"{host}-{service}.lab.internal"
        shown = self.ca.run(
            *("openssl", "s_client", "-connect", f"{name}:443", "-servername", name),
            *("-CAfile", str(self.home / "build/trust/roots.pem"), "-verify_return_error"),
            check=False,
        ).stdout
        return fingerprint(shown) if "BEGIN CERTIFICATE" in shown else ""

    def issued(self, host: str, level: str = "") -> str:
        """The fingerprint of the certificate that the project has for a host."""
        return fingerprint((self.home / f"build/certs/{host}{level}/cert.pem").read_text())

    def receipt(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / f"build/receipts/{host}.json").read_text())
        return found

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.home / path).read_text()
        assert old in text
        (self.home / path).write_text(text.replace(old, new))

    def reloads(self, host: str) -> int:
        """How often the host's services were asked to reload."""
        return self.hosts[host].read("/var/log/systemctl.log").count(f"reload {UNITS[host]}")


def fingerprint(text: str) -> str:
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextmanager
def fleet(home: Path, kinds: Sequence[str] = tuple(UNITS)) -> Iterator[Fleet]:
    """A host for each kind of proxy, up and bootstrapped, nothing delivered yet; nginx publishes."""
    shutil.copytree(PROJECT / "templates", home / "templates")
    (home / "ssh_config").write_text(f"Host *\n    UserKnownHostsFile {home}/known_hosts\n")
    said, known = INVENTORY, ""
    with Lab() as lab:
        ca = lab.machine("ca")
        ca.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        hosts = {}
        for number, name in enumerate(kinds):
            unit = UNITS[name]
            address = f"192.0.2.{11 + number}"
            names = (f"{name}-admin.lab.internal", f"{name}-open.lab.internal", f"{name}-new.lab.internal")
            host = hosts[name] = lab.machine(name, address=address, names=names)
            said += HOST.format(name=name, address=address)
            if unit == "apache2":
                host.run("a2enmod", "-q", "ssl", "proxy", "proxy_http", "proxy_wstunnel", "headers", "rewrite")
            host.write("/root/.ssh/authorized_keys", ca.read("/root/.ssh/id_ed25519.pub"), 0o600)
            host.start("python3", "-m", "http.server", "--directory", "/usr/share/common-licenses", "3000")
            host.serve("ssh", unit)
            known += f"{address} {host.host_key()}\n"
        (home / "known_hosts").write_text(known)
        (home / "pki.yaml").write_text(said)
        made = Fleet(lab, home, ca, hosts)
        for name in hosts:
            made.program("invoke", "deploy.bootstrap", name)
        ca.run("rm", "/root/.ssh/id_ed25519")
        yield made
