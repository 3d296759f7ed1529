"""Mutations of JSON: of one document or one line of several, with the digest that makes a changed one look sound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pki.ceremony import transcript_chain
from pki.common import sealed_records
from tests.campaigns.inputs import values

Path = tuple[Any, ...]


def _paths(tree: Any, above: Path = ()) -> Iterator[Path]:
    yield above
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _paths(value, (*above, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _paths(value, (*above, number))


def _at(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _put(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    _at(tree, path[:-1])[path[-1]] = value
    return tree


def changed(tree: Any, place: int, _other: int, new: Any) -> Any:
    paths = list(_paths(tree))
    return _put(tree, paths[place % len(paths)], values.spelled(new) if isinstance(new, str) else new)


def dropped(tree: Any, place: int, _other: int, _new: Any) -> Any:
    paths = [path for path in _paths(tree) if path]
    if paths:
        path = paths[place % len(paths)]
        del _at(tree, path[:-1])[path[-1]]
    return tree


def renamed(tree: Any, place: int, _other: int, new: Any) -> Any:
    paths = [path for path in _paths(tree) if path and isinstance(path[-1], str)]
    if paths:
        path = paths[place % len(paths)]
        folder = _at(tree, path[:-1])
        folder[values.spelled(new)] = folder.pop(path[-1])
    return tree


def moved(tree: Any, place: int, other: int, _new: Any) -> Any:
    paths = list(_paths(tree))
    copied = json.loads(json.dumps(_at(tree, paths[other % len(paths)])))
    return _put(tree, paths[place % len(paths)], copied)


def again(tree: Any, place: int, _other: int, _new: Any) -> Any:
    """An entry of a list is there twice."""
    paths = [path for path in _paths(tree) if path and isinstance(path[-1], int)]
    if paths:
        path = paths[place % len(paths)]
        folder = _at(tree, path[:-1])
        folder.append(folder[path[-1]])
    return tree


def _written(tree: Any, data: bytes, how: int) -> bytes:
    """A changed document as it was written before: with a digest, or as a record of a chain."""
    if not isinstance(tree, dict) or how % 4 == 0:
        return json.dumps(tree).encode() + b"\n"
    if sealed_records.MARK in data:
        tree.pop(sealed_records.DIGEST, None)
        return sealed_records.encode_sealed(tree, 1 if data.startswith(b"{\n") else None)
    if b'"previous"' in data and "hash" in tree:
        del tree["hash"]
        tree["hash"] = hashlib.sha256(transcript_chain.canonical(tree)).hexdigest()
        return transcript_chain.canonical(tree) + b"\n"
    return json.dumps(tree, indent=1 if data.startswith(b"{\n") else None).encode() + b"\n"


def _mutation(change: Callable[[Any, int, int, Any], Any]) -> Callable[[bytes, int, int, Any], bytes]:
    def mutation(data: bytes, place: int, other: int, new: Any) -> bytes:
        lines = data.splitlines(keepends=True) if not data.startswith(b"{\n") else [data]
        if not lines:
            return data
        number = (place >> 8) % len(lines)
        line = lines[number]
        try:
            tree = change(json.loads(line), place, other, new)
            lines[number] = _written(tree, line, other)
        except (ValueError, RecursionError):  # no JSON any more, or none that this record can hold
            return data
        return b"".join(lines)

    return mutation


MUTATIONS: Mapping[str, Callable[[bytes, int, int, Any], bytes]] = {
    f"json {one.__name__}": _mutation(one) for one in (changed, dropped, renamed, moved, again)
}
