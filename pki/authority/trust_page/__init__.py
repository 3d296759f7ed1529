"""The trust page at the project's publishing address, and the configuration profile for Apple's systems.

Rendering takes longer than a run that has nothing to do, so such a run computes only `cache_key`.
"""

from __future__ import annotations

from pki.common.cache import code_digest, digest_of
from pki.config import identifiers
from pki.config.model import Inventory
from pki.project.authorities import Authorities


def cache_key(inventory: Inventory, authorities: Authorities) -> str:
    """Return a digest of all that page and profile depend on, except the CRL files."""
    publisher = inventory.hosts.get(inventory.publish.host)
    names = [name for authority in identifiers.AUTHORITIES for name in authorities.live(authority)]
    generations = {name: authorities.generation(name) for name in names}
    return digest_of(
        inventory.organisation,
        inventory.domains,
        inventory.publish.url,
        inventory.sandbox,
        publisher.proxy if publisher else None,
        {name: generation.fingerprint if generation else "" for name, generation in generations.items()},
        code_digest(),
    )
