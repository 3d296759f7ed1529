"""The console blocks of docs/: what is typed in each, and what the page shows of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

from tests.support.projects import PROJECT

Key = tuple[str, str]
SECONDS = re.compile(r"\(\d+\.\d s\)")
SIZE = re.compile(r"\d+ (?=files, |KiB)")
HEX, ANY_LINES, ANY_TEXT = r"[0-9a-f]{4}…", r"(?m)^…$", "…"


@dataclass(frozen=True)
class Typed:
    """A line that is typed, and the lines below it, where `…` stands for what is left out."""

    command: str
    shown: str

    def is_shown_by(self, printed: str) -> bool:
        """Return whether the page shows what was printed; a command that it shows alone may print anything."""
        return not self.shown.strip() or bool(re.fullmatch(_pattern(self.shown), words(printed), re.DOTALL))


@cache
def blocks() -> dict[Key, list[Typed]]:
    """Each block by its page and its first command; the second one of both has `#2` behind it."""
    commands: dict[Key, list[Typed]] = {}
    occurrences: Counter[Key] = Counter()
    for page in sorted((PROJECT / "docs").rglob("*.md")):
        for block in re.findall(r"(?m)^```console\n(.*?)^```", page.read_text(), re.DOTALL):
            parts = re.split(
                rf"(?m)^{re.escape(block[0])} (.*)\n", block
            )  # a line of output may begin with the other sign
            typed = [
                Typed(re.sub(r" +# .*", "", command), shown)
                for command, shown in zip(parts[1::2], parts[2::2], strict=True)
            ]
            assert not parts[0].strip(), f"{page.name}: a console block begins with what nobody typed: {parts[0]}"
            key = page.name, typed[0].command
            occurrences[key] += 1
            commands[(key[0], f"{key[1]} #{occurrences[key]}") if occurrences[key] > 1 else key] = typed
    return commands


def block(page: str, first: str) -> list[Typed]:
    return blocks()[page, first]


def first_command(page: str) -> str:
    """What is typed first on a page."""
    return next(command for name, command in blocks() if name == page)


def words(text: str) -> str:
    """A text in which neither the width of a terminal, the seconds of a run nor the size of a backup make a difference."""
    return " ".join(SIZE.sub("", SECONDS.sub("(… s)", text)).split())


def _pattern(shown: str) -> str:
    """What is shown, as an expression for the words that are printed."""
    return r"\s*".join(
        "".join(
            r"[0-9a-f:]{4,}…?" if re.fullmatch(HEX, piece) else ".*?" if piece == ANY_TEXT else re.escape(piece)
            for piece in re.split(rf"({HEX}|{ANY_TEXT})", words(part))
        ).replace(re.escape("(") + ".*?" + re.escape(" s)"), re.escape("(… s)"))
        if part != "…"
        else ".*"
        for part in re.split(r"(?m)^(…)$", shown)
    )
