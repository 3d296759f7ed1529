"""The page of the outputs with `--json`, from their models."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pki.cli.json_output import MODELS, Output
from tests.documentation.reference.markdown import anchor, code, prose, table

WORDS = {str: "text", int: "number", bool: "true or false", NoneType: "null"}
TIME = "time"  # UTC, such as 2026-11-23T06:00:00Z


def text() -> str:
    """Return the page."""
    common = [_row(name, field) for name, field in Output.model_fields.items()]
    parts = [
        "# Output as JSON\n\n"
        "These commands have `--json`. They print one object, and have the same [exit status](exit-statuses.md) as without it.\n"
        "A field is never removed, and never changes its meaning, without a new `version`. `./run invoke schema plan` prints the\n"
        "JSON Schema of the output of `plan`, and so on. A time is text in UTC, such as `2026-11-23T06:00:00Z`.\n\n"
        + ", ".join(f"[`{name}`](#{anchor(name)})" for name in MODELS)
        + "\n",
        "Fields of every output:\n\n" + table(("field", "type", "meaning"), common),
    ]
    for name, model in MODELS.items():
        rows = [row for row in rows_of(model) if row[0] not in {code(field) for field in Output.model_fields}]
        parts.append(f"## {name}\n\n" + table(("field", "type", "meaning"), rows))
    parts.append(
        "## Example\n\nThe artifacts that the next run makes:\n\n"
        "```sh\n./run invoke plan --json | python3 -c 'import json, sys; "
        '[print(due["name"]) for due in json.load(sys.stdin)["to_do"]]\'\n```\n'
    )
    return "\n".join(parts)


def rows_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield path, type and meaning of each field; the fields of the entries of a list follow it as `list[].field`."""
    for name, field in model.model_fields.items():
        shown, kind, meaning = _row(name, field)
        yield code(path + shown.strip("`")), kind, meaning
        if part := next((one for one in _parts(field.annotation) if _is_model(one)), None):
            dots = "[]." if get_origin(field.annotation) is list else "."
            yield from rows_of(part, path + shown.strip("`") + dots)


def _row(name: str, field: Any) -> tuple[str, str, str]:
    is_time = any(type(one).__name__ == "PlainSerializer" for one in field.metadata)
    kind = TIME if is_time else type_name(field.annotation)
    return code(field.serialization_alias or name), kind, prose(field.description or "")


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) or (kind,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def type_name(kind: Any) -> str:
    """Return a type in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(code, map(str, parts)))
    if origin in {Union, UnionType}:
        return " or ".join(map(type_name, parts))
    if origin is list:
        return "list of objects" if _is_model(parts[0]) else f"list of {type_name(parts[0])}s".replace("texts", "text")
    if origin is dict:
        return "object"
    if _is_model(kind):
        return "object"
    return WORDS.get(kind, TIME)
