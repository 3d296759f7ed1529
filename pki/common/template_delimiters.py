"""Marks of Jinja2 in text of other languages: `${#list}` of a shell, `{#IFNAME}` of Zabbix, `{{.Names}}` of Go."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

Lexer = Callable[[str], Iterable[tuple[int, str, str]]]  # line, kind and text of each part of a template

RAW = "where {{, {% or {# is the file's own text: {% raw %} before it, {% endraw %} behind it"
RAW_OR_BLANK = "{% raw %} before these lines, {% endraw %} behind them; where a comment is meant: a blank behind {#"
SUSPICIOUS = re.compile(r"\$\{#|\{#[^\s+-]")  # comments that are meant as such have a blank behind the mark
SCRIPT = "#!"


def find_swallowed_lines(text: str, lex: Lexer) -> Iterator[str]:
    """Lines that a comment of Jinja2 takes out of a file which may have meant something else by its marks."""
    is_script = text.startswith(SCRIPT)
    if "{#" not in text or not (is_script or SUSPICIOUS.search(text)):
        return
    before, first, odd = "", 0, False
    for line, kind, part in lex(text):
        if kind == "comment_begin":
            first, odd = line, before.endswith("$")
        elif kind == "comment":
            odd = odd or SUSPICIOUS.match("{#" + part) is not None or (is_script and "\n" in part)
        elif kind == "comment_end" and odd:
            last = line + part.rstrip("\n").count("\n")
            yield f"{first} to {last}" if last > first else str(first)
        before = part
