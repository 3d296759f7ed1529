"""What a certificate is used for: which services serve it, which accept its holder, who must install it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pki.common import filesystem
from pki.config.fields import UNSEEN, Speaks
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Host, Inventory, Leaf, Service
from pki.config.proxies import PROGRAMS, ServerProgram
from pki.config.service_protocols import ServiceProtocol, protocol_of
from pki.ledger.types import Issued
from pki.project.layout import Store

NO_SERVICE = "no service that is declared in pki.yaml"  # there may be others that this project does not know


@dataclass(frozen=True, slots=True)
class Use:
    """A host, and those of its services that use a certificate: behind its proxy, or servers that read it themselves.

    `speaks` and `protocol` are those of the servers, None behind a proxy.
    """

    name: str
    host: Host
    services: tuple[str, ...]
    speaks: Speaks | None = None
    protocol: ServiceProtocol | None = None

    @property
    def program(self) -> ServerProgram | None:
        """Return the server, or the proxy of the host, if it declares one."""
        if self.protocol:
            return self.protocol.program
        return PROGRAMS[self.host.proxy] if self.host.proxy else None

    @property
    def remark(self) -> str:
        """Return what must be known before the servers are relied upon to refuse a client; "" for nothing."""
        if self.protocol is None:
            return ""
        return f"not verifiable from here: {self.protocol.unseen}" if self.protocol.unseen else self.protocol.caution

    @property
    def unseen(self) -> str:
        """Return why nobody can verify from here who is let in, "" if that can be seen."""
        return self.protocol.unseen if self.protocol else ""

    def __str__(self) -> str:
        server = self.speaks or self.host.proxy
        return f"{', '.join(self.services)} on {self.name}" + (f" ({server})" if server else "")


def uses_serving(inventory: Inventory, leaf: str) -> list[Use]:
    """Return the services that serve a leaf, according to pki.yaml."""
    return [
        use for name, host in inventory.hosts.items() for use in _by_server(name, host, partial(_serves, name, leaf))
    ]


def uses_requiring_clients(inventory: Inventory) -> list[Use]:
    """Return the services that require a client certificate, according to pki.yaml."""
    return [use for name, host in inventory.hosts.items() for use in uses_of_host(name, host)]


def uses_of_host(name: str, host: Host) -> list[Use]:
    """Return the services of one host that require a client certificate, by server."""
    return list(_by_server(name, host, lambda service: service.access == "mtls"))


def _serves(name: str, leaf: str, service: Service) -> bool:
    return leaf_name(name, service.access) == leaf


def _by_server(name: str, host: Host, uses: Callable[[Service], bool]) -> Iterator[Use]:
    """Yield the services that `uses` selects, by server; those that cannot be asked are last."""
    by_server: dict[tuple[Speaks | None, ServiceProtocol | None], list[str]] = {}
    for service_name, service in host.services.items():
        if uses(service):
            server = (None, None) if service.is_proxied else (service.speaks, protocol_of(service))
            by_server.setdefault(server, []).append(service_name)
    for speaks, protocol in sorted(by_server, key=lambda server: server[0] in UNSEEN):
        yield Use(name, host, tuple(by_server[speaks, protocol]), speaks, protocol)


def current_bundle(store: Store, leaf: Leaf, issued: Sequence[Issued]) -> bytes:
    """Return the PEM bundle of a leaf if its certificate is one of `issued`; else b""."""
    bundle = filesystem.read(store.bundle(leaf)) or b""
    return bundle if any(certificate.pem.encode() in bundle for certificate in issued) else b""


def join_uses(uses: Iterable[Use], nothing: str = NO_SERVICE) -> str:
    """Return the uses as one line; `nothing` if there are none in pki.yaml, although others may exist."""
    return "; ".join(map(str, uses)) or nothing
