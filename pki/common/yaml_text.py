"""Read and write YAML: every scalar is a text, duplicate keys are errors, and each path has a line number.

The types of scalars are those of the model (`config/fields.py`): `no` is a name and `0644` an octal mode.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import yaml

try:
    from yaml import CBaseLoader as Loader
    from yaml import CSafeDumper as Dumper
except ImportError:  # PyYAML built without libyaml: the same results, slower
    from yaml import BaseLoader as Loader  # type: ignore[assignment]
    from yaml import SafeDumper as Dumper  # type: ignore[assignment]

from pki.common.errors import InventoryError

Path = tuple[str | int, ...]

DEEPEST = 64  # levels; pki.yaml has seven
LARGEST = 4_000_000  # values: a project with 100 000 hosts has fewer


class _StrictLoader(Loader):
    """A loader that collects duplicate keys."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping, and add its duplicate keys to `repeated`."""
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            keys: set[str] = set()
            for key, _ in node.value:
                if key.value in keys:
                    self.repeated.append((key.start_mark.line + 1, key.value))
                keys.add(key.value)
        return mapping


def load(text: str, name: str, deepest: int = DEEPEST) -> Any:
    """Parse one YAML document; `name` is its name in messages, `deepest` the limit of nested levels.

    Returns dicts, lists and strings only. Raises InventoryError for a syntax error, a duplicate key, too many levels,
    and aliases that expand to too many values.
    """
    try:
        _require_size(text, name, deepest)
        loader = _StrictLoader(text)
        tree = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InventoryError([f"{name}:{line}: not valid YAML: {_syntax_error(error, text, name)}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.encode(errors="surrogatepass")[: error.position].count(b"\n") + 1
        reason = f"unacceptable character #x{error.character:04x}: {error.reason}"
        raise InventoryError([f"{name}:{line}: not valid YAML: {reason}"]) from None
    if loader.repeated:
        raise InventoryError([f"{name}:{line}: {key}: duplicate key" for line, key in loader.repeated])
    return tree


def _syntax_error(error: yaml.MarkedYAMLError, text: str, name: str) -> str:
    """Return the cause of a syntax error: often a tab, which looks like spaces."""
    lines, mark = text.split("\n"), error.problem_mark
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip(" \t-?:"))]:
        return f"indented with a tab; YAML is indented with spaces: sed -i 's/\\t/  /g' {name}"
    return str(error.problem)


def _require_size(text: str, name: str, deepest: int) -> None:
    """Raise InventoryError if a document is nested too deep, or too large with its aliases expanded.

    libyaml's composer recurses for each level and would crash the process; functions that read the tree recurse too.
    """
    # anchor and size of each collection that contains the current event
    open_nodes, sizes = [("", 0)], dict[str, int]()
    for event in yaml.parse(text, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor or "", 1))
            if len(open_nodes) > deepest + 1:
                raise InventoryError([f"{name}:{line}: is nested deeper than {deepest} levels"])
            continue
        anchor, size = "", 1
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor = event.anchor or ""
        else:
            continue
        if anchor:
            sizes[anchor] = size
        around, before = open_nodes[-1]
        open_nodes[-1] = around, before + size
        if before + size > LARGEST:
            raise InventoryError([f"{name}:{line}: its aliases expand to more than {LARGEST} values"])


class _Dumper(Dumper):
    """Writes text of several lines as a block (`|`); does not quote a scalar that looks like a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
# for subclasses of str, such as ArtifactId
_Dumper.add_multi_representer(str, lambda dumper, value: _text(dumper, str(value)))


def dump(data: dict[str, Any]) -> str:
    """Return data as one YAML document; equal data gives equal text."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 16)


class Lines:
    """The line numbers of a document, which is parsed at the first use."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._entries: dict[
            int, dict[str, tuple[yaml.Node, yaml.Node]]
        ] = {}  # entries of each mapping, by the id of its node

    @cached_property
    def _root(self) -> yaml.Node | None:
        return yaml.compose(self._text, Loader=Loader)

    def of(self, path: Path) -> int:
        """Return the line of `path`, or of its nearest existing ancestor."""
        node, line = self._root, 1
        for step in path:
            if isinstance(node, yaml.MappingNode):
                if id(node) not in self._entries:  # of duplicate keys the first one counts
                    self._entries[id(node)] = {key.value: (key, value) for key, value in reversed(node.value)}
                entry = self._entries[id(node)].get(str(step))
                if entry is None:
                    return line
                line, node = entry[0].start_mark.line + 1, entry[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                return line
        return line


def line_of(text: str, path: Path) -> int:
    """Return the line of `path` in a document, or of its nearest existing ancestor."""
    return Lines(text).of(path)


class Span(NamedTuple):
    """The position of a key with its value: first and last line, counted from 1, and the column of the key."""

    first: int
    last: int
    column: int


def span_of(text: str, path: tuple[str, ...]) -> Span | None:
    """Return the position of the key at the end of a path of keys, or None if it does not exist."""
    entry = _entry(text, path)
    if entry is None:
        return None
    key, value = entry
    return Span(key.start_mark.line + 1, max(key.end_mark.line, _last_line(value)) + 1, key.start_mark.column)


def keys_of(text: str, path: tuple[str, ...]) -> list[str]:
    """Return the keys of the mapping at a path, in their order; an empty list if there is no mapping."""
    entry = _entry(text, path)
    return [key.value for key, _ in entry[1].value] if entry and isinstance(entry[1], yaml.MappingNode) else []


def closing_brace(text: str, path: tuple[str, ...]) -> int | None:
    """Return the index of the brace that closes the mapping at a path, or None if it is not written in braces."""
    entry = _entry(text, path)
    if entry is None or not isinstance(entry[1], yaml.MappingNode) or not entry[1].flow_style:
        return None
    index: int = entry[1].end_mark.index
    return index - 1


def _entry(text: str, path: tuple[str, ...]) -> tuple[yaml.Node, yaml.Node] | None:
    entry, node = None, yaml.compose(text, Loader=Loader)
    for step in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        entry = next(((key, value) for key, value in entries if key.value == step), None)
        if entry is None:
            return None
        node = entry[1]
    return entry


def _last_line(node: yaml.Node) -> int:
    """Return the line on which a value ends: a block ends with its last element, without following blank lines."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last_node = node.value[-1]
        return _last_line(last_node[1] if isinstance(last_node, tuple) else last_node)
    line: int = node.end_mark.line
    return line
