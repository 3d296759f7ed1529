"""Load and validate pki.yaml. Reports all faults at once, each with its line and YAML path."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pki.common import filesystem, yaml_text
from pki.common.errors import InventoryError, PkiError
from pki.common.visible import line_fault
from pki.config.error_messages import Fault, Place, message_of, path_prefix, place_of
from pki.config.model import Inventory
from pki.config.validation import PositionText, find_cross_faults


def load(path: Path) -> Inventory:
    """Read and validate pki.yaml.

    Raises InventoryError with all faults of the file, or PkiError if the file does not exist.
    """
    return load_with_tree(path, read(path))[0]


def read(path: Path) -> bytes:
    """Return the bytes of pki.yaml. Raises PkiError if the file does not exist."""
    data = filesystem.read(path)
    if data is None:
        raise PkiError(f"{path}: there is no inventory", "name its folder: PKI_HOME=DIR ./run invoke plan")
    return data


def load_with_tree(path: Path, data: bytes) -> tuple[Inventory, Any]:
    """Return the inventory in `data`, and the tree of texts from which `parse_valid` builds it again. Raises as `load`."""
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
    except UnicodeDecodeError as error:
        raise PkiError(f"{path.name}: cannot be read: {error}") from None
    tree = yaml_text.load(text, path.name)
    return _check(copy.deepcopy(tree), text, path.name), tree


def parse_valid(tree: Any) -> Inventory | None:
    """Return the inventory of a tree that was validated before, or None if the tree is invalid."""
    try:
        return Inventory.model_validate(tree)
    except ValidationError:
        return None


def find_faults(tree: Any) -> list[Fault]:
    """Return the faults of a tree that is not written to a file yet."""
    return _find_all_faults(copy.deepcopy(tree), lambda _: "")[1]


def _check(tree: Any, text: str, name: str) -> Inventory:
    positions = yaml_text.Lines(text)
    inventory, faults = _find_all_faults(tree, lambda where: f" ({name}:{positions.of(where)})")
    if faults or inventory is None:
        lines = sorted({(positions.of(where), path_prefix(where), what) for where, what in faults})
        raise InventoryError([f"{name}:{line}: {where}{what}" for line, where, what in lines])
    return inventory


def _find_all_faults(tree: Any, position_text: PositionText) -> tuple[Inventory | None, list[Fault]]:
    faults: list[Fault] = []
    removed_places: set[Place] = set()
    unprintable = list(_unprintable_faults(tree))
    inventory = _validate(tree, faults, removed_places)
    reported = {where for where, _ in faults}
    faults += [fault for fault in unprintable if fault[0] not in reported]
    if inventory is not None:
        faults += find_cross_faults(inventory, removed_places, position_text)
    return inventory, faults


def _unprintable_faults(tree: Any, where: Place = ()) -> Iterator[Fault]:
    """Yield a fault for each key and value that is not one line of printable characters (a command may end in a LF)."""
    if isinstance(tree, str):
        text = tree.removesuffix("\n") if where[-1:] == ("command",) else tree
        if fault := line_fault(text):
            yield where, fault
    elif isinstance(tree, dict | list):
        for step, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if isinstance(step, str) and (fault := line_fault(step)):
                yield (*where, step), f"the key: {fault}"
            yield from _unprintable_faults(value, (*where, step))


def _validate(tree: Any, faults: list[Fault], removed_places: set[Place]) -> Inventory | None:
    """Return the valid part of the inventory, or None if a required part is invalid.

    Removes each invalid part, adds its fault to `faults` and its place to `removed_places`, and validates the rest
    again, so that no fault hides another one.
    """
    while True:
        try:
            return Inventory.model_validate(tree)
        except ValidationError as error:
            errors = [(place_of(detail), message_of(detail)) for detail in error.errors(include_url=False)]
        faults += [fault for fault in errors if fault[0] not in removed_places]
        places = {_removable_place(where) for where, _ in errors}
        removed = [_remove(tree, place) for place in sorted(places, key=len, reverse=True)]
        if places <= removed_places or None in removed:
            return None
        removed_places |= places | {place for place in removed if place}


PLACEHOLDERS: dict[Place, Any] = {
    ("organisation",): "x",
    ("domains",): ["stand.in"],
    ("publish", "url"): "http://stand.in",
}


def _removable_place(where: Place) -> Place:
    """Return the smallest part around a fault that can be removed: a service, a field of a host, a client, a list."""
    if where[:1] in {("domains",), ("permit_addresses",), ("roots",)}:
        return where[:1]
    if where[:1] == ("hosts",):
        return where[: 4 if where[2:3] == ("services",) else 3]
    return where[:2]


def _remove(tree: Any, place: Place) -> Place | None:
    """Remove `place` from the tree. Returns the removed place, or None if the rest is meaningless without it."""
    if not place or not isinstance(tree, dict):
        return None
    node: Any = tree
    for step in place[:-1]:
        node = node.get(step)
        if not isinstance(node, dict):  # removed already, with another fault
            return place
    if place in PLACEHOLDERS:
        node[place[-1]] = PLACEHOLDERS[place]
    elif node.pop(place[-1], None) is None:  # a required field: remove the part around it
        return _remove(tree, place[:-1]) if len(place) > 2 else None
    return place
