"""What stays open of a revoked client: where, for how long at most, and how to end it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pki.config.model import Inventory
from pki.ledger.types import Issued
from pki.monitor import dependents


def of_clients(inventory: Inventory, certificates: Sequence[Issued]) -> Iterator[tuple[str, str]]:
    """Yield the services in which the holder of client certificates may still have open sessions, and how to end them.

    Those are the servers that are not behind a proxy. A server uses the certificate when a connection begins, and does
    not look at it again.
    """
    for use in dependents.uses_requiring_clients(inventory):
        if protocol := use.protocol:
            endings = dict.fromkeys(protocol.ending_for(certificate.serial) for certificate in certificates)
            for service in use.services:
                text = (
                    f"{protocol.sessions} stay open: {protocol.limit}; to end them, on {use.name}: {'; '.join(endings)}"
                )
                yield f"{use.name}/{service}", text
