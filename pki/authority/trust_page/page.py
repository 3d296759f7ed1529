"""Render the trust page, one HTML file for everybody who must trust the project's roots, and the Apple profile."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.trust_page import qr
from pki.ceremony import words
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.templating import Pages
from pki.config import identifiers
from pki.config.model import Inventory
from pki.config.proxies import largest_published
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.x509 import canonical
from pki.x509.export import mobileconfig

BYTES_IN_A_LINE = 8


def files(inventory: Inventory, store: Store, authorities: Authorities) -> dict[str, bytes]:
    """Return the contents of page and profile, by path relative to the project."""
    live = {authority: _generations(authorities, authority) for authority in identifiers.AUTHORITIES}
    roots = [root.certificate for root in live["root"]]
    return {
        store.shown(store.trust("index.html")): _fitting(inventory, store, live),
        store.shown(store.trust("roots.mobileconfig")): mobileconfig.trust_only(
            inventory.organisation, inventory.domains[0], roots
        ),
    }


def _generations(authorities: Authorities, authority: str) -> list[Generation]:
    """Return the live generations of an authority, newest first. Raises PkiError when one is missing."""
    generations = list[Generation]()
    for name in reversed(authorities.live(authority)):
        generation = authorities.generation(name)
        if generation is None:
            raise authorities.missing_authority(authority)
        generations.append(generation)
    return generations


def _fitting(inventory: Inventory, store: Store, live: dict[str, list[Generation]]) -> bytes:
    """Return the page, without QR codes or installation steps if it would exceed the proxy's file size limit."""
    largest = largest_published(inventory)
    for has_codes, has_steps in ((True, True), (False, True), (False, False)):
        page = render(context(inventory, store, live, has_codes=has_codes) | {"steps": has_steps})
        if not largest or len(page) <= largest:
            return page
    raise PkiError(
        f"the page has {len(page)} bytes, and the proxy of {inventory.publish.host} serves files of at most {largest}",
        "publish.host: name a host with another proxy",
    )


def render(values: dict[str, Any]) -> bytes:
    """Return the page as HTML, without scripts and without anything loaded from elsewhere."""
    return Pages(Path(__file__).parent).render("page.html", values).encode()


def context(
    inventory: Inventory, store: Store, live: dict[str, list[Generation]], *, has_codes: bool
) -> dict[str, Any]:
    """Return the template values of the page."""
    return {
        "organisation": inventory.organisation,
        "domains": inventory.domains,
        "url": inventory.publish.url,
        "sandbox": inventory.sandbox,
        "steps": True,
        "roots": [
            {**_root(root, has_code=has_codes), "is_older": root is not live["root"][0]} for root in live["root"]
        ],
        "authorities": [
            {
                "name": generation.name,
                "end": _day(generation.not_after),
                "next_update": _next_update(store, generation),
            }
            for authority in identifiers.AUTHORITIES
            for generation in live[authority]
        ],
    }


def _root(root: Generation, *, has_code: bool) -> dict[str, Any]:
    digits = root.fingerprint.upper()
    pairs = [digits[start : start + 2] for start in range(0, len(digits), 2)]
    lines = [":".join(pairs[start : start + BYTES_IN_A_LINE]) for start in range(0, len(pairs), BYTES_IN_A_LINE)]
    return {
        "name": root.name,
        "common_name": root.common_name,
        "start": _day(root.not_before),
        "end": _day(root.not_after),
        "lines": lines,
        "words": words.of_digest(root.fingerprint),
        "code": qr.svg(":".join(pairs)) if has_code else "",
    }


def _next_update(store: Store, generation: Generation) -> str:
    """Return the day of nextUpdate of the CRL of a generation. Raises PkiError when the CRL is missing or damaged."""
    data = filesystem.read(store.crl(generation.name))
    crl = canonical.read_crl(data or b"", Encoding.DER)
    if crl is None or crl.next_update_utc is None:
        raise PkiError(f"the CRL of {generation.name} is {'damaged' if data else 'missing'}", "./run doit")
    return _day(crl.next_update_utc)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
