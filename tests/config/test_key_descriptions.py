"""The JSON Schemas that editors read: every key of pki.yaml and secrets.yaml has a description, a default and an example."""

from __future__ import annotations

import inspect
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter

from pki.common import yaml_text
from pki.config import authority_rules, editor_schemas, key_descriptions, model, secret_sources
from pki.config.strict_model import StrictModel

SCHEMA: dict[str, Any] = json.loads(editor_schemas.pki_yaml_schema())
SECTIONS = {"Inventory": SCHEMA, **SCHEMA["$defs"]}
MODELS: dict[str, type[StrictModel]] = {
    name: item
    for module in (model, authority_rules, secret_sources)
    for name, item in inspect.getmembers(module, inspect.isclass)
    if issubclass(item, StrictModel)
}
SENTENCE = re.compile(r"[A-Za-z].*\. (Default: .+|Required)\.")


def test_each_key_has_one_sentence_a_default_and_an_example() -> None:
    """The table names no key that pki.yaml does not have."""
    assert {name: set(keys) for name, keys in key_descriptions.PKI_YAML.items()} == {
        name: set(section["properties"]) for name, section in SECTIONS.items()
    }
    for name, section in SECTIONS.items():
        for key, schema in section["properties"].items():
            assert SENTENCE.fullmatch(schema["description"]), f"{name}.{key}"
            assert schema["examples"], f"{name}.{key}"
            assert ("Required." in schema["description"]) == (key in section.get("required", ())), f"{name}.{key}"


def test_each_example_is_a_valid_value_of_its_key() -> None:
    for name, keys in key_descriptions.PKI_YAML.items():
        fields = {field.alias or key: field for key, field in MODELS[name].model_fields.items()}
        for key, description in keys.items():
            kind = (fields[key].annotation, key, *fields[key].metadata)  # a type needs metadata: its key
            TypeAdapter(Annotated[kind]).validate_python(yaml_text.load(description.example, f"{name}.{key}"))


def test_a_default_in_a_description_is_the_one_of_the_model() -> None:
    host = SECTIONS["Host"]["properties"]
    assert host["port"]["description"].endswith("Default: 443.")
    assert host["trust"]["description"].endswith("Default: debian.")
    assert host["address"]["description"].endswith("Default: none.")
    assert (host["port"]["examples"], host["shared"]["examples"]) == ([8443], [True])
    server = SECTIONS["ServerRule"]["properties"]["lifetime"]["description"]
    assert server.endswith("Default: 90d.")
    assert MODELS["ServerRule"].model_fields["lifetime"].default == timedelta(days=90)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("server-1", "intermediate"),
        ("client-12.new", "intermediate"),
        ("root-1", "root"),
        ("smtp", "smtp"),
        ("notify", "notify"),
        ("notify-matrix", "notify"),
        ("legacy", "adopted"),
        ("old-ca", "adopted"),
        ("server", None),
        ("server-0", None),
        ("backup", None),
        ("Legacy", None),
    ],
)
def test_each_name_in_secrets_yaml_has_one_description(name: str, kind: str | None) -> None:
    """`backup` is not read from there, and a name of no generation unlocks no key."""
    patterns = json.loads(editor_schemas.secrets_yaml_schema())["patternProperties"]
    matches = [pattern for pattern in patterns if re.search(pattern, name)]
    assert [editor_schemas.SECRET_NAMES[pattern] for pattern in matches] == ([kind] if kind else [])
    assert all(SENTENCE.fullmatch(entry["description"]) for entry in patterns.values())


def test_schemas_are_refreshed_only_where_a_project_has_them(tmp_path: Path) -> None:
    editor_schemas.refresh(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".schema").mkdir()
    (tmp_path / ".schema/pki.json").write_text("{}")
    editor_schemas.refresh(tmp_path)
    assert (tmp_path / ".schema/pki.json").read_text() == editor_schemas.pki_yaml_schema()
    assert [path.name for path in (tmp_path / ".schema").iterdir()] == ["pki.json"]
