"""Check a built site: every link and anchor leads somewhere, and nothing is loaded from another host."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"src", "srcset", "poster", "data", "action"}  # attributes whose address a browser fetches
RELATIONS = {"canonical", "prev", "next", "alternate"}  # of <link>: named, and not fetched
CSS_ADDRESS = re.compile(r"url\(\s*['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)")


@dataclass
class Page(HTMLParser):
    """The addresses in a page: those that a browser loads, those that a reader may follow, and the anchors."""

    text: str
    loaded: list[str] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the addresses and anchors of an element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.loaded += [values[name] for name in LOADED if name in values]
        self.loaded += [next(filter(None, found)) for found in CSS_ADDRESS.findall(values.get("style", ""))]
        if "href" in values:
            is_loaded = tag == "link" and values.get("rel") not in RELATIONS
            (self.loaded if is_loaded else self.followed).append(values["href"])


def find_faults(site: Path) -> list[str]:
    """Return a sentence for each broken link or anchor, and each address of another host that a page would load."""
    pages = {path.relative_to(site).as_posix(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    faults = list[str]()
    for name, page in pages.items():
        if name == "404.html":
            continue  # served at any path: its addresses are those of the web server's root
        faults += [f"{name}: loads {address}" for address in page.loaded if _is_elsewhere(address)]
        near = [address for address in [*page.loaded, *page.followed] if not _is_elsewhere(address)]
        faults += [f"{name}: {address} leads nowhere" for address in near if not _leads(site, pages, name, address)]
    return faults + [f"{name}: loads {address}" for name, address in _of_styles(site) if _is_elsewhere(address)]


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in {"", "data"}


def _leads(site: Path, pages: dict[str, Page], name: str, address: str) -> bool:
    """Return whether an address in a page leads to a file of the site, and to an anchor in it."""
    parts = urlsplit(address)
    if parts.scheme == "data":
        return True
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name
    if (site / target).is_dir():
        target = posixpath.normpath(posixpath.join(target, "index.html"))
    if not (site / target).is_file():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in pages or anchor in pages[target].anchors


def _of_styles(site: Path) -> Iterator[tuple[str, str]]:
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.svg")]):
        for found in CSS_ADDRESS.findall(path.read_text()):
            yield path.relative_to(site).as_posix(), next(filter(None, found))
