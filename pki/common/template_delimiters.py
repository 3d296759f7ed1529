"""Detect delimiters of Jinja2 in other languages: `${#list}` of a shell, `{#IFNAME}` of Zabbix, `{{.Names}}` of Go."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

Lexer = Callable[[str], Iterable[tuple[int, str, str]]]  # line, kind and text of each part of a template

RAW = "write a literal {{, {% or {# in a {% raw %} block"
RAW_OR_BLANK = (
    "write {% raw %} before these lines and {% endraw %} after them; if a comment is intended, write a blank after {#"
)
SUSPICIOUS = re.compile(r"\$\{#|\{#[^\s+-]")  # intended comments have a blank after the delimiter
SCRIPT = "#!"


def find_swallowed_lines(text: str, lex: Lexer) -> Iterator[str]:
    """Yield the lines that Jinja2 removes as a comment although the delimiters may be text of the file itself."""
    is_script = text.startswith(SCRIPT)
    if "{#" not in text or not (is_script or SUSPICIOUS.search(text)):
        return
    previous, first, is_suspicious = "", 0, False
    for line, kind, part in lex(text):
        if kind == "comment_begin":
            first, is_suspicious = line, previous.endswith("$")
        elif kind == "comment":
            is_suspicious = is_suspicious or SUSPICIOUS.match("{#" + part) is not None or (is_script and "\n" in part)
        elif kind == "comment_end" and is_suspicious:
            last = line + part.rstrip("\n").count("\n")
            yield f"{first} to {last}" if last > first else str(first)
        previous = part
