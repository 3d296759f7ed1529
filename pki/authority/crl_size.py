"""CRLs on a publishing host whose proxy serves no file beyond some size: they grow with each revocation."""

from __future__ import annotations

from dataclasses import dataclass

from pki.common import filesystem
from pki.config.identifiers import AUTHORITIES
from pki.config.proxies import largest_published
from pki.project.project import Project

REMEDY = "publish.host: name a host with another proxy, in pki.yaml; docs/proxies.md"
KILOBYTE = 1024


@dataclass(frozen=True, slots=True)
class Published:
    """The CRL of a generation, in bytes; its `server` (`haproxy at forge`) serves files of at most `largest`."""

    generation: str
    size: int
    largest: int
    server: str

    @property
    def fits(self) -> bool:
        return self.size <= self.largest

    @property
    def complaint(self) -> str:
        """What is to be said of it; nothing while it is far from that size."""
        if self.size * 4 < self.largest * 3:
            return ""
        beyond = "beyond that " if self.fits else ""
        kilobytes = f"{-(-self.size // KILOBYTE)} kB", f"{self.largest // KILOBYTE} kB"
        text = "has {}, and {} serves files of at most {}: {}it is published there no more"
        return text.format(kilobytes[0], self.server, kilobytes[1], beyond)


def sizes(project: Project) -> list[Published]:
    """Every CRL that is there to be published; none where the publishing host's proxy serves files of any size."""
    said = project.inventory
    if not (largest := largest_published(said)):
        return []
    server = f"{said.hosts[said.publish.host].proxy} at {said.publish.host}"
    names = [name for authority in AUTHORITIES for name in project.live(authority)]
    return [
        Published(name, size, largest, server)
        for name in names
        if (size := filesystem.size_of(project.store.crl(name)))
    ]
