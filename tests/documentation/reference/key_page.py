"""The page of the keys of pki.yaml, from its model and the descriptions in its schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pki.config import delivery_window, fields, ip_addresses, name_fields, time_fields
from pki.config.key_descriptions import PKI_YAML, SECRETS_YAML
from pki.config.model import Inventory
from pki.config.strict_model import StrictModel
from pki.config.time_fields import format_duration
from tests.documentation.reference.markdown import anchor, code, prose, table

NAMED = {  # type of a field → its name, such as TimeOfDay
    repr(kind): name
    for module in (fields, name_fields, time_fields, delivery_window)
    for name, kind in vars(module).items()
    if get_origin(kind) is Annotated
}
SPELLED = {"dns": "DNS", "url": "URL", "ca": "CA", "slug": "name"}
PLAIN = {
    str: "text",
    int: "number",
    bool: "`true` or `false`",
}
IP_TYPES = {
    repr(ip_addresses.Network): "IPv4 or IPv6 network",
    repr(ip_addresses.Networks): "IPv4 or IPv6 network, or a list",
    repr(ip_addresses.Addresses): "IPv4 or IPv6 address, or a list",
}


class Row(NamedTuple):
    """One key: its path in pki.yaml, its type, default and meaning in Markdown."""

    path: str
    kind: str
    default: str
    meaning: str


class Section(NamedTuple):
    """The keys of a mapping of pki.yaml; of two kinds of mappings at one path, the title names the key that the second needs."""

    path: str
    meaning: str
    rows: list[Row]
    title: str = ""


def text() -> str:
    """Return the page."""
    sections = list(_sections(Inventory, ""))
    parts = [
        (
            "# Keys of pki.yaml\n\n"
            "[Configure a project](pki-yaml.md) explains them. Unknown keys are errors. NAME stands for a name that you choose. An editor\n"
            "shows the same descriptions: `./run invoke schema` prints the JSON Schema.\n"
        ),
        ", ".join(f"[{_title(one)}](#{anchor(_title(one))})" for one in sections) + "\n",
    ]
    for section in sections:
        rows = [(code(row.path), row.kind, row.default, row.meaning) for row in section.rows]
        meaning = "\n\n".join(prose(" ".join(part.split())) for part in section.meaning.split("\n\n"))
        parts.append(f"## {_title(section)}\n\n{meaning}\n\n" + table(("key", "type", "default", "meaning"), rows))
    rows = [(code(name), prose(f"{key.text} Example: `{key.example}`")) for name, key in SECRETS_YAML.items()]
    parts.append(
        "## secrets.yaml\n\nThe file with the passphrases. Never in git.\n\n" + table(("key", "meaning"), rows)
    )
    return "\n".join(parts)


def _title(section: Section) -> str:
    return section.title or section.path or "Top level"


def _sections(model: type[StrictModel], path: str, title: str = "") -> Iterator[Section]:
    """Yield the keys of a model and, after it, those of the models below it."""
    rows, below = list[Row](), list[tuple[type[StrictModel], str]]()
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        key = field.alias or name
        full = f"{path}.{key}" if path else key
        description = PKI_YAML[model.__name__][key]
        default = description.default or _default(field.get_default(call_default_factory=True))
        meaning = prose(f"{description.text} Example: `{description.example}`")
        rows.append(Row(full, _kind(hints[name]), "required" if field.is_required() else prose(default), meaning))
        below += [(part, where) for part, where in _models_in(hints[name], full)]
    if extra := get_type_hints(model, include_extras=True).get("__pydantic_extra__"):
        below += [(part, f"{path}.NAME") for part, _ in _models_in(get_args(extra)[1], path)]
    yield Section(path, model.__doc__ or "", rows, title)
    for number, (part, where) in enumerate(below):
        is_second = any(where == other for _, other in below[:number])
        yield from _sections(part, where, f"{where} with {next(iter(part.model_fields))}" if is_second else "")


def _models_in(kind: Any, path: str) -> Iterator[tuple[type[StrictModel], str]]:
    """Yield the models in a type, with the path at which their keys are: below NAME in a mapping of names."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind, path  # type: ignore[misc]
    elif get_origin(kind) is dict:
        yield from _models_in(get_args(kind)[1], f"{path}.NAME")
    elif get_origin(kind) is Annotated:
        yield from _models_in(get_args(kind)[0], path)
    elif get_origin(kind) in {Union, UnionType}:
        for part in get_args(kind):
            yield from _models_in(part, path)


def _kind(kind: Any) -> str:
    """Return a type in words."""
    if name := IP_TYPES.get(repr(kind)):
        return name
    if name := NAMED.get(repr(kind)):
        words = re.findall(r"[A-Z][a-z]*", name)
        return " ".join(SPELLED.get(word.lower(), word.lower()) for word in words)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    parts = get_args(kind)
    shown = {
        Annotated: lambda: _limited(parts),
        Literal: lambda: ", ".join(code(str(part)) for part in parts),
        Union: lambda: " or ".join(_kind(part) for part in parts if part is not NoneType),
        UnionType: lambda: " or ".join(_kind(part) for part in parts if part is not NoneType),
        tuple: lambda: f"{_kind(parts[0])}, or a list",
        dict: lambda: f"mapping: {_kind(parts[0])} → {_kind(parts[1])}",
    }.get(get_origin(kind))
    return shown() if shown else PLAIN[kind]


def _limited(parts: tuple[Any, ...]) -> str:
    limits = {name: getattr(one, name) for one in _limits(parts[1:]) for name in ("ge", "le") if hasattr(one, name)}
    return f"number from {limits['ge']} to {limits['le']}" if limits else _kind(parts[0])


def _limits(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for one in metadata:
        yield from getattr(one, "metadata", ())


def _default(value: Any) -> str:
    """Return a default as pki.yaml writes it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, BaseModel):
        return "those of its keys"
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`" if value else "`0d`"
    if isinstance(value, tuple):
        return ", ".join(map(_default, value)) or "none"
    if value is None or value is PydanticUndefined or value == {}:
        return "none"
    return f"`{value}`"
