"""What a certificate is used for: which services serve it, which accept its holder, who must install it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pki.common import filesystem
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Host, Inventory, Leaf
from pki.config.proxies import PROGRAMS, ProxyProgram
from pki.ledger.types import Issued
from pki.project.layout import Store

NO_SERVICE = "no service that is declared in pki.yaml"  # there may be others that this project does not know


@dataclass(frozen=True, slots=True)
class Use:
    """A host, and those of its services that use a certificate."""

    name: str
    host: Host
    services: tuple[str, ...]

    @property
    def program(self) -> ProxyProgram | None:
        """Return the proxy of the host, if it declares one."""
        return PROGRAMS[self.host.proxy] if self.host.proxy else None

    def __str__(self) -> str:
        return f"{', '.join(self.services)} on {self.name}" + (f" ({self.host.proxy})" if self.host.proxy else "")


def uses_serving(inventory: Inventory, leaf: str) -> list[Use]:
    """Return the host whose services serve a leaf, according to pki.yaml."""
    return [
        Use(name, host, services)
        for name, host in inventory.hosts.items()
        if (
            services := tuple(
                service_name
                for service_name, service in host.services.items()
                if leaf_name(name, service.access) == leaf
            )
        )
    ]


def uses_requiring_clients(inventory: Inventory) -> list[Use]:
    """Return the hosts with services that require a client certificate, according to pki.yaml."""
    return [
        Use(name, host, services)
        for name, host in inventory.hosts.items()
        if (
            services := tuple(
                service_name for service_name, service in host.services.items() if service.access == "mtls"
            )
        )
    ]


def current_bundle(store: Store, leaf: Leaf, issued: Sequence[Issued]) -> bytes:
    """Return the PEM bundle of a leaf if its certificate is one of `issued`; else b""."""
    bundle = filesystem.read(store.bundle(leaf)) or b""
    return bundle if any(certificate.pem.encode() in bundle for certificate in issued) else b""


def join_uses(uses: Iterable[Use], nothing: str = NO_SERVICE) -> str:
    """Return the uses as one line; `nothing` if there are none in pki.yaml, although others may exist."""
    return "; ".join(map(str, uses)) or nothing
