"""Services that cannot be asked from here, as results beside those of the probes: OpenVPN and RADIUS."""

from __future__ import annotations

from collections.abc import Iterator

from pki.config.fields import UNSEEN
from pki.config.leaf_certificates import service_names
from pki.config.model import Inventory
from pki.config.service_protocols import PROTOCOLS, port_of
from pki.monitor.probes import ProbeResult


def unseen_services(inventory: Inventory) -> Iterator[ProbeResult]:
    """Yield a result for each service that cannot be asked, with the reason; nothing was connected to."""
    for host_name, host in inventory.hosts.items():
        for service, settings in host.services.items():
            if settings.speaks in UNSEEN:
                yield ProbeResult(
                    host_name,
                    service,
                    service_names(inventory, host, service)[0],
                    port_of(host, service),
                    settings.access,
                    reached=False,
                    unverifiable=PROTOCOLS[settings.speaks].unseen,
                )
