"""The trust page at the project's publishing address, and the configuration profile for Apple's systems.

Rendering takes longer than the rest of a run that has nothing to do, so every run computes only `cache_key`.
"""

from __future__ import annotations

from pki.common.cache import code_digest, digest_of
from pki.config import identifiers
from pki.config.model import Inventory
from pki.project.authorities import Authorities


def cache_key(inventory: Inventory, authorities: Authorities) -> str:
    """Return a digest of all that page and profile depend on, except the CRL files."""
    config = inventory
    publisher = config.hosts.get(config.publish.host)
    live = [name for authority in identifiers.AUTHORITIES for name in authorities.live(authority)]
    fingerprints = {
        name: generation.fingerprint if (generation := authorities.generation(name)) else "" for name in live
    }
    return digest_of(
        *(config.organisation, config.domains, config.publish.url, config.sandbox, publisher and publisher.proxy),
        *(fingerprints, code_digest()),
    )
