"""Mutations of YAML: of its nodes, by where each is in the text, so that comments and style stay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from tests.campaigns.inputs import values

WORD = re.compile(rb"[^\s,:;=\[\]{}()#\"']+")
BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(9))


def words(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the words of a text begin and end."""
    return (found.span() for found in WORD.finditer(data))


def _nodes(text: str) -> list[tuple[yaml.Node, yaml.Node | None]]:
    """Every node of a text, and of each value its key."""
    try:
        root = yaml.compose(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    found: list[tuple[yaml.Node, yaml.Node | None]] = []
    waiting: list[tuple[yaml.Node, yaml.Node | None]] = [(root, None)] if root else []
    while waiting and len(found) < 5000:
        node, key = waiting.pop()
        found.append((node, key))
        if isinstance(node, yaml.MappingNode):
            waiting += [(value, name) for name, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(one, None) for one in node.value]
    return sorted(found, key=lambda one: (one[0].start_mark.index, -one[0].end_mark.index))


def _span(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _pairs(text: str) -> list[tuple[yaml.Node, yaml.Node]]:
    return [(value, key) for value, key in _nodes(text) if key is not None]


def value(text: str, place: int, other: int, new: object) -> str:
    """A node becomes another text, bare or quoted."""
    nodes = _nodes(text)
    if not nodes:
        return text
    start, end = _span(nodes[place % len(nodes)][0])
    said = values.spelled(new)
    return text[:start] + (json.dumps(said) if other % 2 else said) + text[end:]


def scalar(text: str, place: int, other: int, new: object) -> str:
    """The same of a scalar only."""
    nodes = [node for node, _ in _nodes(text) if isinstance(node, yaml.ScalarNode)]
    if not nodes:
        return text
    start, end = _span(nodes[place % len(nodes)])
    said = values.spelled(new)
    return text[:start] + (json.dumps(said) if other % 2 else said) + text[end:]


def number(text: str, place: int, _other: int, new: object) -> str:
    """A number within a text becomes another one."""
    found = list(re.finditer(r"\d+", text))
    if not found:
        return text
    one = found[place % len(found)]
    said = str(values.NUMBERS[int(new) % len(values.NUMBERS)]) if isinstance(new, int) else values.spelled(new)
    return text[: one.start()] + said + text[one.end() :]


def dropped(text: str, place: int, _other: int, _new: object) -> str:
    """A key with its value is not there."""
    pairs = _pairs(text)
    if not pairs:
        return text
    node, key = pairs[place % len(pairs)]
    rest = text[node.end_mark.index :]
    return text[: key.start_mark.index] + (rest.lstrip(", ") if rest.startswith(",") else rest)


def doubled(text: str, place: int, other: int, _new: object) -> str:
    """A key is there twice, with its own value or that of another key."""
    pairs = _pairs(text)
    if not pairs:
        return text
    (node, key), (far, _) = pairs[place % len(pairs)], pairs[other % len(pairs)]
    name = text[slice(*_span(key))]
    again = text[slice(*_span(far if other % 2 else node))]
    is_flow = "\n" not in text[key.start_mark.index : node.end_mark.index] and key.start_mark.column > 4
    between = ", " if is_flow else f"\n{' ' * key.start_mark.column}"
    return text[: node.end_mark.index] + f"{between}{name}: {again}" + text[node.end_mark.index :]


def renamed(text: str, place: int, other: int, new: object) -> str:
    """A key gets another name: any, or that of another key."""
    pairs = _pairs(text)
    if not pairs:
        return text
    key = pairs[place % len(pairs)][1]
    said = values.spelled(new) if other % 2 else text[slice(*_span(pairs[other % len(pairs)][1]))]
    start, end = _span(key)
    return text[:start] + said + text[end:]


def moved(text: str, place: int, other: int, _new: object) -> str:
    """A value becomes a copy of another one, of whatever type."""
    nodes = [node for node, _ in _nodes(text)]
    if not nodes:
        return text
    (start, end), (far, far_end) = _span(nodes[place % len(nodes)]), _span(nodes[other % len(nodes)])
    return text[:start] + text[far:far_end] + text[end:]


def wrapped(text: str, place: int, other: int, _new: object) -> str:
    """A value is in a list, a mapping, a deep nest, or has a tag or an anchor."""
    nodes = [node for node, _ in _nodes(text)]
    if not nodes:
        return text
    start, end = _span(nodes[place % len(nodes)])
    around = ("[@]", "{x: @}", "[" * 3000 + "@" + "]" * 3000, "!!set {@}", "&x @", "!x @", "!!int @", "'@'", "|\n  @")
    return text[:start] + around[other % len(around)].replace("@", text[start:end]) + text[end:]


def bomb(text: str, _place: int, other: int, _new: object) -> str:
    """Aliases of aliases: nine levels of nine each."""
    return BOMB + text if other % 2 else text + BOMB


def _of_text(change: Callable[[str, int, int, Any], str]) -> Callable[[bytes, int, int, Any], bytes]:
    def mutation(data: bytes, place: int, other: int, new: Any) -> bytes:
        return change(data.decode(errors="replace"), place, other, new).encode(errors="surrogatepass")

    return mutation


MUTATIONS: Mapping[str, Callable[[bytes, int, int, Any], bytes]] = {
    f"yaml {one.__name__}": _of_text(one)
    for one in (value, scalar, number, dropped, doubled, renamed, moved, wrapped, bomb)
}
