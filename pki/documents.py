"""YAML in and out: every scalar is text, a key stands once, and any path can be traced to its line.

Reading scalars as text leaves their meaning to the model: `no` stays a name and `0644` an octal mode.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import yaml

try:
    from yaml import CBaseLoader as Loader
    from yaml import CSafeDumper as Dumper
except ImportError:  # PyYAML built without libyaml: the same results, slower
    from yaml import BaseLoader as Loader  # type: ignore[assignment]
    from yaml import SafeDumper as Dumper  # type: ignore[assignment]

from pki.errors import InventoryError

Path = tuple[str | int, ...]


class _StrictLoader(Loader):
    """Base loader that gathers keys which stand twice."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    self.repeated.append((key.start_mark.line + 1, key.value))
                seen.add(key.value)
        return mapping


def load(text: str, name: str) -> Any:
    """Read one YAML document; `name` is what faults call it.

    Returns dicts, lists and strings only. Raises InventoryError for a syntax error or a key that stands twice.
    """
    try:
        loader = _StrictLoader(text)
        tree = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InventoryError([f"{name}:{line}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise InventoryError([f"{name}: not valid YAML: {error}".replace("\n", " ")]) from None
    if loader.repeated:
        raise InventoryError([f"{name}:{line}: {key}: stands twice in one mapping" for line, key in loader.repeated])
    return tree


def is_deep(text: str, levels: int) -> bool:
    """Whether a document is nested deeper than this: libyaml's composer, which recurses, ends the process at some depth."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > levels:
                return True
    except yaml.YAMLError:
        pass  # loading it says what is wrong
    return False


class _Dumper(Dumper):
    """Text of several lines stands as such, behind a bar; no scalar is quoted for looking like a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(data: dict[str, Any]) -> str:
    """One YAML document, always the same for the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 16)


def line_of(text: str, path: Path) -> int:
    """The line on which `path` stands, or its nearest ancestor when it is not there."""
    node = yaml.compose(text, Loader=Loader)
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line
