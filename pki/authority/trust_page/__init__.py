"""What others need in order to trust a project: the page at its publishing address, and the profile that it offers.

Making them takes longer than the rest of a run that has nothing to do, so only `known` is asked for every day.
"""

from __future__ import annotations

from pki.common.cache import code_digest, token
from pki.config import identifiers
from pki.project.project import Project


def known(project: Project) -> str:
    """One text for all that page and profile follow from, the CRLs aside, whose files are looked at."""
    said = project.inventory
    publisher = said.hosts.get(said.publish.host)
    live = [name for authority in identifiers.AUTHORITIES for name in project.live(authority)]
    found = {name: there.fingerprint if (there := project.generation(name)) else "" for name in live}
    return token(
        *(said.organisation, said.domains, said.publish.url, said.sandbox, publisher and publisher.proxy),
        *(found, code_digest()),
    )
