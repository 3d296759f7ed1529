"""A page of ours as a reader sees it: its text, where its links lead, and whether its elements are in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "path", "hr", "img", "input"}
ADDRESSES = {"href", "src", "srcset", "action", "data", "poster", "xlink:href"}


@dataclass
class Page(HTMLParser):
    """What a page says; `faults` are elements that do not nest, and names that stand twice."""

    html: str
    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    headings: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _words: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()
        self.faults += [f"<{tag}> stays open" for tag in self._open]

    @property
    def text(self) -> str:
        """Everything that stands there, with single blanks."""
        return " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        attributes = dict(attrs)
        if tag == "a":
            self.links.append(attributes.get("href") or "")
        self.taken += [str(attributes[name]) for name in ADDRESSES & attributes.keys() if tag != "a"]
        self.faults += [f"{name} on <{tag}>" for name in attributes if name.startswith("on")]
        if name := attributes.get("id"):
            self.faults += [f"id {name} stands twice"] if name in self._names else []
            self._names.add(name)
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append((tag, ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"style", "script"}:
            return
        self._words.append(data)
        if self.headings and self._open and self._open[-1] == self.headings[-1][0]:
            level, words = self.headings[-1]
            self.headings[-1] = (level, words + data)
