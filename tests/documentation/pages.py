"""The sources of the site: the pages of docs/ and some beside it, with links that lead to pages of the site."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from pki.common.errors import PkiError

INDEX = "docs/index.md"
BESIDE = {  # pages outside docs/ → their place in the site
    "README.md": "project/readme.md",
    "SECURITY.md": "project/security.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "tests/README.md": "project/tests.md",
    "tests/bench/README.md": "project/benchmarks.md",
    "tests/documentation/README.md": "project/documentation.md",
    "tests/campaigns/README.md": "project/campaigns.md",
    "tests/mutants/README.md": "project/mutants.md",
}
SECTIONS = {  # folder of the site → its title
    "tutorial": "Tutorial",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "project": "The repository",
}
LINK = re.compile(r"(!?)\[((?:[^\]\[`]|`[^`]*`|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)


def stage(program: Path, folder: Path) -> str:
    """Write the sources of the site below `folder`; return the navigation as TOML.

    Raises PkiError for each link to a file that does not exist, and each page that no link in docs/index.md leads to.
    """
    places = _places(program)
    faults: list[str] = []
    for name, place in places.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".md"):
            target.write_text(_with_links_of_site(program, name, places, faults))
        else:
            target.write_bytes((program / name).read_bytes())
    order = list(dict.fromkeys(_pages_in(program / INDEX)))
    pages = [name for name in places if name.endswith(".md") and name != INDEX]
    faults += [f"{INDEX}: has no link to {name}" for name in pages if name.startswith("docs/") and name not in order]
    if faults:
        raise PkiError("\n".join(faults))
    return _navigation([places[name] for name in sorted(pages, key=[*order, *pages].index)])


def _places(program: Path) -> dict[str, str]:
    """Return path in the repository → place in the site."""
    docs = sorted(path.relative_to(program).as_posix() for path in (program / "docs").rglob("*") if path.is_file())
    beside = {name: place for name, place in BESIDE.items() if (program / name).exists()}
    return {**{name: name.removeprefix("docs/") for name in docs}, **beside}


def _with_links_of_site(program: Path, name: str, places: dict[str, str], faults: list[str]) -> str:
    """Return a page whose links lead to pages of the site; a link to another file of the repository becomes its path."""
    text = (program / name).read_text()

    def replaced(link: re.Match[str]) -> str:
        path, hash_sign, anchor = link[3].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if target in places:
            to = posixpath.relpath(places[target], posixpath.dirname(places[name]) or ".")
            return f"{link[1]}[{link[2]}]({to}{hash_sign}{anchor})"
        if not (program / target).exists():
            faults.append(f"{name}:{text[: text.index(link[0])].count(chr(10)) + 1}: {path} does not exist")
        return link[2] if target in link[2] or posixpath.basename(target) in link[2] else f"{link[2]} (`{target}`)"

    return "".join(part if is_code else LINK.sub(replaced, part) for part, is_code in _parts(text))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a page, and whether each is a block of code."""
    end = 0
    for fence in FENCE.finditer(text):
        yield text[end : fence.start()], False
        yield fence[0], True
        end = fence.end()
    yield text[end:], False


def _pages_in(index: Path) -> Iterator[str]:
    """Yield the pages that an index links to, as paths in the repository, in its order."""
    for link in LINK.finditer(index.read_text()):
        path = link[3].partition("#")[0]
        if path.endswith(".md"):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(INDEX), path))


def _navigation(places: list[str]) -> str:
    """Return the value of `nav`: the sections with their pages."""
    sections = {
        title: pages
        for folder, title in SECTIONS.items()
        if (pages := [place for place in places if place.startswith(f"{folder}/")])
    }
    lines = [f"  {{ {json.dumps(title)} = {json.dumps(pages)} }}," for title, pages in sections.items()]
    return "\n".join(["nav = [", '  "index.md",', *lines, "]"])
