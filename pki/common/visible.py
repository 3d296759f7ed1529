"""Foreign text made safe to show: control characters become visible escapes, and its length is bounded.

This module imports nothing of ours: Ansible carries it along.
"""

from __future__ import annotations

import re

SENTENCE = 400  # characters of foreign text within one message
# A terminal, a mail reader or a chat takes these for commands, or shows the text in another order than it is read:
# C0, DEL and C1, soft hyphen, zero-width and bidirectional marks (https://www.unicode.org/reports/tr9/), separators of
# lines and paragraphs, byte order marks, tags, and halves of surrogate pairs. The line feed is apart: see `visible`.
UNSAFE = (
    "\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
CONTROL = re.compile(f"[{UNSAFE}]")


def visible(text: str) -> str:
    """Return a text whose control characters are written as escapes, as Python writes them; its line feeds stay."""
    return text if text.isprintable() else CONTROL.sub(_escape, text)


def visible_line(text: str, longest: int = SENTENCE) -> str:
    """Return foreign text as one visible line of at most `longest` characters; its line feeds become blanks."""
    line = text[: longest + 1].replace("\n", " ")
    return shorten(visible(line), longest)


def line_fault(text: str) -> str:
    """Return why a text is not one line of printable characters; empty when it is.

    What is written into pki-apply.conf, manifests, units, crontabs and authorized_keys must be: each line of these
    permits or starts something of its own.
    """
    odd = "" if text.isprintable() else next(letter for letter in text if not letter.isprintable())
    return f"expected one line of printable characters, got U+{ord(odd):04X}" if odd else ""


def in_one_line(text: str) -> str:
    """Return a text of another program with one blank in place of each of its line feeds, tabs and rows of blanks."""
    return " ".join(text.split())


def shorten(text: str, longest: int) -> str:
    """Return at most `longest` characters of a text, an ellipsis at its end if it was cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")
