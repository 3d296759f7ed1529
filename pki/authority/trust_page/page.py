"""The trust page: what a person needs to trust a project's roots, in one file; and the profile for Apple's systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from pki.authority.trust_page import qr
from pki.ceremony import words
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.templating import Pages
from pki.config import identifiers
from pki.config.proxies import largest_published
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509 import canonical
from pki.x509.export import mobileconfig

BYTES_IN_A_LINE = 8


def files(project: Project) -> dict[str, bytes]:
    """The page and the profile that it offers, by path below the home."""
    said = project.inventory
    live = {authority: _generations(project, authority) for authority in identifiers.AUTHORITIES}
    roots = [found.certificate for found in live["root"]]
    return {
        project.store.shown(project.store.trust("index.html")): _fitting(project, live),
        project.store.shown(project.store.trust("roots.mobileconfig")): mobileconfig.trust_only(
            said.organisation, said.domains[0], roots
        ),
    }


def _generations(project: Project, authority: str) -> list[Generation]:
    """Those that are live, newest first."""
    found = [project.generation(name) for name in reversed(project.live(authority))]
    if None in found:
        raise project.missing_authority(authority)
    return [one for one in found if one]


def _fitting(project: Project, live: dict[str, list[Generation]]) -> bytes:
    """The page; where the publishing host's proxy serves no file of its size, without QR codes, or without steps too."""
    said = project.inventory
    largest = largest_published(said)
    for has_codes, has_steps in ((True, True), (False, True), (False, False)):
        page = render(context(project, live, has_codes=has_codes) | {"steps": has_steps})
        if not largest or len(page) <= largest:
            return page
    raise PkiError(
        f"the page has {len(page)} bytes, and the proxy of {said.publish.host} serves files of at most {largest}",
        "publish.host: name a host with another proxy",
    )


def render(values: dict[str, Any]) -> bytes:
    """The page as HTML: no scripts, nothing from elsewhere."""
    return Pages(Path(__file__).parent).render("page.html", values).encode()


def context(project: Project, live: dict[str, list[Generation]], *, has_codes: bool) -> dict[str, Any]:
    """What the page says, in plain values."""
    said = project.inventory
    return {
        "organisation": said.organisation,
        "domains": said.domains,
        "url": said.publish.url,
        "sandbox": said.sandbox,
        "steps": True,
        "roots": [
            {**_root(found, has_code=has_codes), "is_older": found is not live["root"][0]} for found in live["root"]
        ],
        "authorities": [
            {
                "name": found.name,
                "end": _day(found.certificate.not_valid_after_utc),
                "next_update": _due(project, found),
            }
            for authority in identifiers.AUTHORITIES
            for found in live[authority]
        ],
    }


def _root(found: Generation, *, has_code: bool) -> dict[str, Any]:
    digits = found.fingerprint.upper()
    pairs = [digits[start : start + 2] for start in range(0, len(digits), 2)]
    lines = [":".join(pairs[start : start + BYTES_IN_A_LINE]) for start in range(0, len(pairs), BYTES_IN_A_LINE)]
    return {
        "name": found.name,
        "common_name": found.common_name,
        "start": _day(found.certificate.not_valid_before_utc),
        "end": _day(found.certificate.not_valid_after_utc),
        "lines": lines,
        "words": words.of_digest(found.fingerprint),
        "code": qr.svg(":".join(pairs)) if has_code else "",
    }


def _due(project: Project, found: Generation) -> str:
    """The day by which a new CRL comes."""
    data = filesystem.read(project.store.crl(found.name))
    crl = canonical.read_crl(data or b"", Encoding.DER)
    end = crl.next_update_utc if crl is not None else None
    if end is None:
        raise PkiError(f"the CRL of {found.name} is {'damaged' if data else 'not there'}", "./run doit")
    return _day(end)


def _day(moment: Any) -> str:
    return f"{moment:%Y-%m-%d}"
