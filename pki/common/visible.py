"""Make foreign text safe to display: escape control characters and limit the length.

This module imports nothing of this package, because it is copied to Ansible.
"""

from __future__ import annotations

import re

SENTENCE = 400  # characters of foreign text within one message
# A terminal, a mail reader or a chat interprets these as commands, or displays the text in another order:
# C0, DEL and C1, soft hyphen, zero-width and bidirectional marks (https://www.unicode.org/reports/tr9/), separators of
# lines and paragraphs, byte order marks, tags, and halves of surrogate pairs. Line feeds are allowed: see `visible`.
UNSAFE = (
    "\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
CONTROL = re.compile(f"[{UNSAFE}]")


def visible(text: str) -> str:
    """Return a text with its control characters as escapes of Python; line feeds are kept."""
    return text if text.isprintable() else CONTROL.sub(_escape, text)


def visible_line(text: str, longest: int = SENTENCE) -> str:
    """Return foreign text as one line of at most `longest` characters; line feeds become blanks."""
    line = text[: longest + 1].replace("\n", " ")
    return shorten(visible(line), longest)


def line_fault(text: str) -> str:
    """Return why a text is not one line of printable characters, or "".

    Required for values in pki-apply.conf, manifests, units, crontabs and authorized_keys: each line of these files
    permits or starts something.
    """
    unprintable_character = (
        "" if text.isprintable() else next(character for character in text if not character.isprintable())
    )
    return (
        f"expected one line of printable characters, got U+{ord(unprintable_character):04X}"
        if unprintable_character
        else ""
    )


def in_one_line(text: str) -> str:
    """Return a text with one blank for each sequence of line feeds, tabs and blanks."""
    return " ".join(text.split())


def shorten(text: str, longest: int) -> str:
    """Return at most `longest` characters of a text, with an ellipsis if it was truncated."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
