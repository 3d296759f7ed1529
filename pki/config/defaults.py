"""The default of each key of pki.yaml, as text: a later version compares them with its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from pki.config.error_messages import models_within
from pki.config.model import Inventory
from pki.config.time_fields import format_duration

ANY = "*"  # in a path: every name, as in hosts.*.port


def defaults() -> dict[str, str]:
    """Return path → default of every key that has one, such as `profiles.server.lifetime` → `90d`."""
    return dict(_defaults(Inventory, None, ""))


def _defaults(model: Any, values: BaseModel | None, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the defaults of a model below `prefix`; `values` are those of a section that is left out as a whole."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        default = field.default if values is None else getattr(values, name)
        models = models_within(field.annotation)
        if isinstance(default, BaseModel):
            yield from _defaults(type(default), default, f"{path}.")
        elif models and isinstance(default, dict):
            yield from _defaults(models[-1], None, f"{path}.{ANY}.")
        elif not field.is_required() and not models and not isinstance(default, dict):
            yield path, _text(default)


def _text(value: Any) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value)) or "none"
    text = str(value)
    return {"None": "none", "True": "true", "False": "false"}.get(text, text)


def changed_defaults(before: Mapping[str, str], tree: Any) -> list[tuple[str, str, str]]:
    """Return path, earlier and present default of each key whose default changed and that pki.yaml leaves out somewhere.

    `tree` is pki.yaml as texts. A key that the earlier version did not have is not a change.
    """
    return [
        (path, before[path], default)
        for path, default in defaults().items()
        if path in before and before[path] != default and _is_left_out(tree, path.split("."))
    ]


def _is_left_out(tree: Any, steps: list[str]) -> bool:
    if not steps:
        return False
    if steps[0] == ANY:
        return isinstance(tree, dict) and any(_is_left_out(value, steps[1:]) for value in tree.values())
    if not isinstance(tree, dict) or steps[0] not in tree:
        return ANY not in steps
    return _is_left_out(tree[steps[0]], steps[1:])
