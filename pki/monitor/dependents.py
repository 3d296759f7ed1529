"""What a certificate is for: who serves it, who lets its holder in, who is to install it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pki.common import filesystem
from pki.config.leaf_certificates import leaf_name
from pki.config.model import Host, Leaf
from pki.config.proxies import PROGRAMS, ProxyProgram
from pki.ledger.types import Issued
from pki.project.project import Project

NOT_SEEN = "not declared here: not seen"  # of what this project cannot know


@dataclass(frozen=True, slots=True)
class Use:
    """One host, and those of its services that a certificate concerns."""

    name: str
    host: Host
    services: tuple[str, ...]

    @property
    def program(self) -> ProxyProgram | None:
        return PROGRAMS[self.host.proxy] if self.host.proxy else None

    def __str__(self) -> str:
        return f"{', '.join(self.services)} on {self.name}" + (f" ({self.host.proxy})" if self.host.proxy else "")


def serving(project: Project, leaf: str) -> list[Use]:
    """The host that serves a leaf, by pki.yaml."""
    return [
        Use(name, host, services)
        for name, host in project.inventory.hosts.items()
        if (services := tuple(n for n, one in host.services.items() if leaf_name(name, one.access) == leaf))
    ]


def asking(project: Project) -> list[Use]:
    """The hosts that let nobody in without a client certificate, by pki.yaml."""
    return [
        Use(name, host, services)
        for name, host in project.inventory.hosts.items()
        if (services := tuple(n for n, one in host.services.items() if one.access == "mtls"))
    ]


def present(project: Project, leaf: Leaf, issued: Sequence[Issued]) -> bytes:
    """The PEM bundle of a leaf, if its certificate is one of these; else nothing."""
    held = filesystem.read(project.store.bundle(leaf)) or b""
    return held if any(one.pem.encode() in held for one in issued) else b""


def listed(uses: Iterable[Use], nothing: str = NOT_SEEN) -> str:
    """Return the uses in one line; without any, that none is declared, which is not that there is none."""
    return "; ".join(map(str, uses)) or nothing
