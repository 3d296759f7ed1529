"""Sizes of published CRLs, compared with the file size that the proxy of the publishing host can serve."""

from __future__ import annotations

from dataclasses import dataclass

from pki.common import filesystem
from pki.config.model import Inventory
from pki.config.proxies import largest_published
from pki.project.authorities import Authorities, own_authorities
from pki.project.layout import Store

REMEDY = "publish.host: name a host with another proxy, in pki.yaml; docs/how-to/proxies.md"
KILOBYTE = 1024


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """The CRL of a generation; `size` is in bytes. `server` (`haproxy at forge`) serves at most `largest` bytes."""

    generation: str
    size: int
    largest: int
    server: str

    @property
    def fits(self) -> bool:
        """Return whether the proxy can serve the CRL."""
        return self.size <= self.largest

    @property
    def complaint(self) -> str:
        """Return a phrase about a CRL that has three quarters of the maximum size or more; else ""."""
        if self.size * 4 < self.largest * 3:
            return ""
        beyond = "beyond that " if self.fits else ""
        size_kb = -(-self.size // KILOBYTE)  # rounded up
        largest_kb = self.largest // KILOBYTE
        return (
            f"has {size_kb} kB, and {self.server} serves files of at most {largest_kb} kB: "
            f"{beyond}it is no longer published there"
        )


def sizes(inventory: Inventory, store: Store, authorities: Authorities) -> list[PublishedCrl]:
    """Return every CRL that exists; nothing where the proxy of the publishing host has no limit."""
    largest = largest_published(inventory)
    if not largest:
        return []
    publisher = inventory.publish.host
    server = f"{inventory.hosts[publisher].proxy} at {publisher}"
    names = [name for authority in own_authorities(authorities) for name in authorities.live(authority)]
    crls = [PublishedCrl(name, filesystem.size_of(store.crl(name)), largest, server) for name in names]
    return [crl for crl in crls if crl.size > 0]  # 0: there is no file
