"""pki.yaml → `Inventory`: strict, every fault at once, each with its line and YAML path."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from pki.common import filesystem, yaml_text
from pki.common.errors import InventoryError, PkiError
from pki.common.visible import line_fault
from pki.config.error_messages import Fault, Place, dotted, location, phrase
from pki.config.fields import brief
from pki.config.model import Inventory
from pki.config.validation import Line, cross_faults


def load(path: Path) -> Inventory:
    """Read and check pki.yaml.

    Raises InventoryError with all faults of the file, or PkiError when there is no such file.
    """
    return load_with_tree(path, read(path))[0]


def read(path: Path) -> bytes:
    """The bytes of pki.yaml. Raises PkiError when there is no such file."""
    data = filesystem.read(path)
    if data is None:
        raise PkiError(f"{path}: there is no inventory", "name its folder: PKI_HOME=DIR")
    return data


def load_with_tree(path: Path, data: bytes) -> tuple[Inventory, Any]:
    """The inventory in the bytes of a file, and the tree of text that `sound` turns into it again."""
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
    except UnicodeDecodeError as error:
        raise PkiError(f"{path.name}: cannot be read: {error}") from None
    tree = yaml_text.load(text, path.name)
    return _checked(copy.deepcopy(tree), text, path.name), tree


def sound(tree: Any) -> Inventory | None:
    """The inventory of a tree in which `load` found no fault, without looking for any again."""
    try:
        return Inventory.model_validate(tree)
    except ValidationError:
        return None


def faults_of(tree: Any) -> list[Fault]:
    """What is wrong with a tree that is not a file yet."""
    return _looked_at(copy.deepcopy(tree), lambda _: "")[1]


def _checked(tree: Any, text: str, name: str) -> Inventory:
    place = yaml_text.Lines(text)
    inventory, faults = _looked_at(tree, lambda where: f" ({name}:{place.of(where)})")
    if faults or inventory is None:
        lines = sorted({(place.of(where), dotted(where), what) for where, what in faults})
        raise InventoryError([f"{name}:{line}: {where}{what}" for line, where, what in lines])
    return inventory


def _looked_at(tree: Any, line: Line) -> tuple[Inventory | None, list[Fault]]:
    faults: list[Fault] = []
    cut: set[Place] = set()
    odd = list(_odd(tree))
    inventory = _validated(tree, faults, cut)
    reported = {where for where, _ in faults}
    faults += [fault for fault in odd if fault[0] not in reported]
    if inventory is not None:
        faults += cross_faults(inventory, cut, line)
    return inventory, faults


def _odd(tree: Any, where: Place = ()) -> Iterator[Fault]:
    """Every key and value that is not one line of printable characters; a block's last line feed ends a command."""
    if isinstance(tree, str):
        text = tree.removesuffix("\n") if where[-1:] == ("command",) else tree
        if fault := line_fault(text):
            yield where, fault
    elif isinstance(tree, dict | list):
        for step, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if isinstance(step, str) and (fault := line_fault(step)):
                yield (*where, step), f"the key: {fault}"
            yield from _odd(value, (*where, step))


class _Schema(GenerateJsonSchema):
    """Defaults as pki.yaml would say them."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return brief(dft)
        return dft.model_dump(mode="json", by_alias=True) if isinstance(dft, BaseModel) else super().encode_default(dft)


def schema() -> str:
    """The JSON Schema of pki.yaml, for editors."""
    found = Inventory.model_json_schema(by_alias=True, schema_generator=_Schema)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "pki.yaml"
    return json.dumps(found, indent=2) + "\n"


def _validated(tree: Any, faults: list[Fault], cut: set[Place]) -> Inventory | None:
    """The inventory, or as much of it as is sound.

    What is faulty is reported and cut out, and the rest looked at again, so that no fault hides another.
    """
    while True:
        try:
            return Inventory.model_validate(tree)
        except ValidationError as error:
            found = [(location(detail), phrase(detail)) for detail in error.errors(include_url=False)]
        faults += [fault for fault in found if fault[0] not in cut]
        places = {_place(where) for where, _ in found}
        removed = [_cut(tree, place) for place in sorted(places, key=len, reverse=True)]
        if places <= cut or None in removed:
            return None
        cut |= places | {place for place in removed if place}


STAND_INS: dict[Place, Any] = {
    ("organisation",): "x",
    ("domains",): ["stand.in"],
    ("publish", "url"): "http://stand.in",
}


def _place(where: Place) -> Place:
    """The smallest whole thing around a fault: a service, a host's field, a client, a list, a section's field."""
    if where[:1] in {("domains",), ("permit_addresses",), ("roots",)}:
        return where[:1]
    if where[:1] == ("hosts",):
        return where[: 4 if where[2:3] == ("services",) else 3]
    return where[:2]


def _cut(tree: Any, place: Place) -> Place | None:
    """Take `place` out of the tree. Returns what was taken, or None when the rest means nothing without it."""
    if not place or not isinstance(tree, dict):
        return None
    node: Any = tree
    for step in place[:-1]:
        node = node.get(step)
        if not isinstance(node, dict):  # gone already, with another fault
            return place
    if place in STAND_INS:
        node[place[-1]] = STAND_INS[place]
    elif node.pop(place[-1], None) is None:  # a field that must be there: without it, the whole around it goes
        return _cut(tree, place[:-1]) if len(place) > 2 else None
    return place
