"""Format text for paper: wrapped lines and numbered pages."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

COLUMNS = 78
ROWS = 58  # lines; A4 and Letter have more at 6 lines to the inch, also with margins
SECTION = "%%"  # a line of its own in a template: the text after it stays on one page if possible
NEW_PAGE = "%%%"  # begins a page
FORM_FEED = "\f"
HEAD = 3  # title with page number, rule, blank line


def wrap_line(line: str, indent: str = "", width: int = COLUMNS) -> list[str]:
    """Wrap a line at `width` columns. It keeps its indentation; further lines are indented by four more."""
    bare = line.lstrip(" ")
    first = indent + " " * (len(line) - len(bare))
    return textwrap.wrap(
        bare, width, initial_indent=first, subsequent_indent=f"{first}    ", break_on_hyphens=False
    ) or [""]


def paginate(text: str, title: str) -> str:
    """Return the text in numbered pages of ROWS lines, separated by form feeds.

    A section that does not fit on the rest of a page begins a new page. A section longer than a page is split at a
    blank line.
    """
    pages = list(_pages(text))
    return FORM_FEED.join(
        "\n".join([*_head(title, number, len(pages)), *lines]) + "\n" for number, lines in enumerate(pages, 1)
    )


def _head(title: str, number: int, count: int) -> list[str]:
    place = f"page {number} of {count}"
    room = COLUMNS - len(place) - 2
    name = title if len(title) <= room else f"{title[: room - 1]}…"
    return [f"{name:<{COLUMNS - len(place)}}{place}", "=" * COLUMNS, ""]


def _pages(text: str) -> Iterator[list[str]]:
    """Yield the lines of each page, without its head."""
    page: list[str] = []
    for is_new_page, section in _sections(text):
        for place, block in enumerate(_fitting(section)):
            begins_page = is_new_page and place == 0
            if page and (begins_page or len(page) + 1 + len(block) > ROWS - HEAD):
                yield page
                page = []
            page += ["", *block] if page else block
    yield page


def _sections(text: str) -> Iterator[tuple[bool, list[str]]]:
    """Yield each section, and whether it begins a new page."""
    is_new_page, lines = False, list[str]()
    for line in [*text.splitlines(), SECTION]:
        if line not in {SECTION, NEW_PAGE}:
            lines.append(line)
            continue
        if stripped := _stripped(lines):
            yield is_new_page, stripped
            is_new_page = False
        is_new_page, lines = is_new_page or line == NEW_PAGE, []


def _stripped(lines: list[str]) -> list[str]:
    """Return the lines without blank ones at both ends."""
    return "\n".join(lines).strip("\n").splitlines()


def _fitting(section: list[str]) -> Iterator[list[str]]:
    """Yield a section in parts of at most a page, split at blank lines if there are any."""
    rest = section
    while len(rest) > ROWS - HEAD:
        blank = [place for place in range(1, ROWS - HEAD + 1) if not rest[place]]
        place = blank[-1] if blank else ROWS - HEAD
        yield rest[:place]
        rest = _stripped(rest[place:])
    yield rest
