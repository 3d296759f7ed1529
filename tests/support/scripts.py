"""The printed script of a ceremony as a reader goes through it: pages, steps, numbered items, and what to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LABELS = ("TYPE", "ANSWER", "SCREEN", "WRITE", "SAY", "AWAY", "FIX")
STEP = re.compile(r"STEP (\d+)  ([A-Z, ]+?)(?: {2,}time _+)?")
ITEM = re.compile(r"  ((?:\d+|C)\.\d+) \[ \] (.*)")
LABEL = re.compile(rf"({'|'.join(LABELS)}) {{2,}}(.*)")
GUTTER = 10
HEAD = 3


@dataclass
class Item:
    """One numbered line: what stands behind each of its labels, in order."""

    number: str
    parts: list[tuple[str, list[str]]] = field(default_factory=list)

    def of(self, label: str) -> list[str]:
        """What stands behind a label, once for each time, its lines joined as they are typed."""
        return ["\n".join(lines) for name, lines in self.parts if name == label]

    @property
    def commands(self) -> list[str]:
        """The lines to type at the shell."""
        return self.of("TYPE")


@dataclass
class Step:
    """One step: its title, what stands below it, and its items."""

    number: int
    title: str
    lines: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


@dataclass
class Printed:
    """A script, from the text that is printed."""

    text: str

    @property
    def pages(self) -> list[list[str]]:
        """The lines of each page with its head."""
        return [page.splitlines() for page in self.text.split("\f")]

    @property
    def lines(self) -> list[str]:
        """All lines without the heads of the pages."""
        return [line for page in self.pages for line in page[HEAD:]]

    @property
    def steps(self) -> list[Step]:
        return list(_steps(self.lines))

    @property
    def items(self) -> dict[str, Item]:
        """Every numbered line, in the order of the page."""
        return {item.number: item for step in self.steps for item in step.items}

    def section(self, title: str) -> list[str]:
        """The lines below a title in capitals, up to the next one."""
        at = next(place for place, line in enumerate(self.lines) if line.startswith(title))
        end = next((n for n, line in enumerate(self.lines[at + 1 :], at + 1) if line[:1].isupper()), len(self.lines))
        return self.lines[at + 1 : end]


def _steps(lines: list[str]) -> Iterator[Step]:
    step: Step | None = None
    for line in lines:
        if line[:1].isupper():
            if step:
                yield step
            match = STEP.fullmatch(line)
            step = Step(int(match[1]), match[2]) if match else None
        elif step:
            step.lines.append(line)
            _read(step, line)
    if step:
        yield step


def _read(step: Step, line: str) -> None:
    """Put a line of a step into its item: below a label, or below the label before it."""
    rest = line.strip()
    if match := ITEM.fullmatch(line):
        step.items.append(Item(match[1]))
        rest = match[2]
    elif not step.items or not line.startswith(" " * GUTTER):
        return
    parts = step.items[-1].parts
    if labelled := LABEL.fullmatch(rest):
        parts.append((labelled[1], [labelled[2]]))
    elif parts and line.startswith(" " * (GUTTER + 8)):
        parts[-1][1].append(line[GUTTER + 8 :])
    elif rest:
        parts.append(("", [rest]))
