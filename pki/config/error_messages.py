"""Convert errors of pydantic about pki.yaml and other YAML documents to messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any, get_args, get_type_hints

from pydantic_core import ErrorDetails

from pki.config.model import Inventory

Place = tuple[str | int, ...]
Fault = tuple[Place, str]
# keys of pki.yaml in version 0.1.0 → the present word
RENAMED = {"handover": "overlap", "rungs": "presigned", "spread": "renew_spread"}
ONLY_ELSEWHERE = {"ml-dsa-65": "for single leaves only: hosts.NAME.key, clients.NAME.key; no CA has such a key yet"}


MARKS = {"[key]", "[adopt]", "[external]"}  # in the place of an error: a key, and the kind of a rule
UNKNOWN_AUTHORITY = (
    "; to adopt a CA that was created elsewhere: {adopt: DIR}; "
    "for an intermediate on another server: {external: requests/NAME.csr, domains: […]}"
)


def place_of(detail: ErrorDetails) -> Place:
    """Return the path in the document that an error is about."""
    return tuple(step for step in detail["loc"] if step not in MARKS)


def message_of(detail: ErrorDetails, model: Any = Inventory) -> str:
    """Return the message of an error; `model` is the model of the document, for suggestions of keys.

    Values below `secrets` are never quoted, because they may contain a passphrase.
    """
    expected, actual = _expected_and_actual(detail, model)
    is_secret = detail["loc"][:1] == ("secrets",) and detail["loc"][1:] not in {(), ("file",)}
    return expected if is_secret or not actual else f"{expected}, got {actual}"


def _expected_and_actual(detail: ErrorDetails, model: Any) -> tuple[str, str]:
    """Return what was expected and the actual value; the value is "" if it adds no information."""
    kind, context, actual = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return "is missing", ""
    if kind in {"extra_forbidden", "unknown_authority"}:
        return f"unknown key{_other_key(detail, model)}", ""
    if kind == "literal_error":
        words = [word for word in str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ") if word]
        word_list = ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
        elsewhere = ONLY_ELSEWHERE.get(str(actual)) if detail["loc"][-1:] == ("key",) else None
        return (
            f"expected {word_list}",
            f"{actual!r}{f' ({elsewhere})' if elsewhere else did_you_mean(str(actual), words)}",
        )
    if kind == "value_error":
        return str(context["error"]), repr(actual)
    if kind == "string_pattern_mismatch" and "a-z0-9-" in str(context["pattern"]):
        return "expected lower-case letters, digits and hyphens", repr(actual)
    expected = {
        "string_pattern_mismatch": "expected text of another form",
        "string_type": "expected text",
        "string_too_long": "expected a shorter name",
        "tuple_type": "expected a list",
        "too_short": "expected at least one",
        "dict_type": "expected a mapping",
        "model_type": "expected a mapping",
        "bool_parsing": "expected true or false",
        "bool_type": "expected true or false",
        "int_parsing": "expected a whole number",
        "greater_than_equal": f"expected at least {context.get('ge')}",
        "less_than_equal": f"expected at most {context.get('le')}",
        "time_delta_type": "expected a number and a unit such as 90d",
    }.get(kind, detail["msg"].lower())
    return expected, _describe(actual)


def _other_key(detail: ErrorDetails, model: Any) -> str:
    """Return what to write instead of an unknown key, as a phrase after `unknown key`; "" if nothing is close."""
    key, defined_keys = str(detail["loc"][-1]), _defined_keys(detail["loc"], model)
    if (new_key := RENAMED.get(key, "")) in defined_keys:
        return f": it is called {new_key} now"
    adopt = UNKNOWN_AUTHORITY if detail["type"] == "unknown_authority" else ""
    return did_you_mean(key, defined_keys) or adopt


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ` (did you mean …?)` with the closest candidate, or "" if none is close."""
    return _did_you_mean(word, tuple(candidates))


@lru_cache(maxsize=256)  # the same error often occurs for many hosts
def _did_you_mean(word: str, candidates: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _defined_keys(loc: tuple[str | int, ...], document: Any) -> list[str]:
    """Return the keys that the model defines at the place of an unknown key."""
    model: Any = document
    models: list[Any] = []
    for step in loc[:-1]:
        if step in MARKS:
            model = next((other for other in models if str(step).strip("[]") in other.model_fields), model)
            continue
        fields = getattr(model, "model_fields", {})
        field = next((f for n, f in fields.items() if str(step) in (n, f.alias)), None)
        inner = field.annotation if field else _hints(model).get("__pydantic_extra__")
        models = models_within(inner)
        model = models[-1:] or model
        model = model[0] if isinstance(model, list) and model else model
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


_hints = cache(get_type_hints)


def models_within(annotation: Any) -> list[Any]:
    """Return the models of sections that a type of a field names, in their order."""
    if hasattr(annotation, "model_fields"):
        return [getattr(annotation, "__origin__", annotation)]
    return [model for part in get_args(annotation) for model in models_within(part)]


def dotted_path(where: Place) -> str:
    """Return a path as text, such as `hosts.web.names[0]`, or "" for the whole document."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".")


def path_prefix(where: Place) -> str:
    """Return a path with a colon, as it stands before a message: `hosts.web.names[0]: `, or "" for the whole document."""
    return f"{dotted_path(where)}: " if where else ""
