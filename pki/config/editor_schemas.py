"""The JSON Schemas of pki.yaml and secrets.yaml for editors, and their files in a project: `.schema/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from pki.common import filesystem, yaml_text
from pki.common.errors import PkiError
from pki.config.fields import AUTHORITY_NAME, NOTIFY, PKCS12
from pki.config.key_descriptions import PKI_YAML, SECRETS_YAML, Key
from pki.config.model import Inventory
from pki.config.time_fields import format_duration

FOLDER = ".schema"  # hidden, and in git: an editor needs it in every clone of the project
DRAFT = "https://json-schema.org/draft/2020-12/schema"
SECRET_NAMES = {  # pattern of the names in secrets.yaml → their description
    "^smtp$": "smtp",
    "^ledger$": "ledger",
    r"^root(-peer)?-[1-9][0-9]*$": "root",
    r"^(server|client|peer)-[1-9][0-9]*(\.new)?$": "intermediate",
    f"^({NOTIFY})$": "notify",
    f"^{PKCS12}$": "p12",
    rf"^(?!(root|server|client|peer|notify|smtp|ledger|backup|p12)\b){AUTHORITY_NAME}(\.new)?$": "adopted",
}


class _Schema(GenerateJsonSchema):
    """Writes default values in the form of pki.yaml."""

    def encode_default(self, dft: Any) -> Any:
        """Return a default value as text or JSON."""
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return dft.model_dump(mode="json", by_alias=True) if isinstance(dft, BaseModel) else super().encode_default(dft)


def pki_yaml_schema() -> str:
    """Return the JSON Schema of pki.yaml (draft 2020-12), with a description and an example of each key."""
    document = Inventory.model_json_schema(by_alias=True, schema_generator=_Schema)
    for name, section in {"Inventory": document, **document["$defs"]}.items():
        section["description"] = " ".join(section["description"].split())
        for key, schema in section["properties"].items():
            description = PKI_YAML[name][key]
            schema["description"] = _description(description, schema)
            schema["examples"] = [_example(description, schema)]
    return _text(document, "pki.yaml")


def secrets_yaml_schema() -> str:
    """Return the JSON Schema of secrets.yaml, with a description of each kind of entry."""
    entries = {
        pattern: {
            "type": "string",
            "description": _description(SECRETS_YAML[name], {"default": None}),
            "examples": [SECRETS_YAML[name].example],
        }
        for pattern, name in SECRET_NAMES.items()
    }
    description = "The passphrases of CA keys and the secrets of alerts, by name. Never in git."
    return _text(
        {
            "type": ["object", "null"],
            "description": description,
            "patternProperties": entries,
            "additionalProperties": False,
        },
        "secrets.yaml",
    )


def _text(document: Mapping[str, Any], title: str) -> str:
    return json.dumps({**document, "$schema": DRAFT, "title": title}, indent=2) + "\n"


def _description(key: Key, schema: Mapping[str, Any]) -> str:
    """Return the sentence of a key with its default: editors show `examples` beside it, but no default."""
    default = f"Default: {key.default or _in_words(schema['default'])}." if "default" in schema else "Required."
    return f"{key.text} {default}"


def _in_words(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, dict):
        return "the defaults of its keys" if default else "none"
    if isinstance(default, list):
        return ", ".join(default) or "none"
    return "none" if default is None else str(default)


def _example(key: Key, schema: Mapping[str, Any]) -> Any:
    """Return the example as JSON: numbers and booleans where the schema demands them, else texts as in pki.yaml."""
    value = yaml_text.load(key.example, "example")
    kinds = {option.get("type") for option in (schema, *schema.get("anyOf", ()))}
    if "integer" in kinds:
        return int(value)
    return value == "true" if "boolean" in kinds else value


# -- in a project -----------------------------------------------------------------------------------------------------


def line_for(file: str) -> str:
    """Return the comment with which yaml-language-server finds the schema of pki.yaml or secrets.yaml in the project."""
    return f"# yaml-language-server: $schema={FOLDER}/{file.removesuffix('.yaml')}.json\n"


def schema_files() -> dict[str, bytes]:
    """Return path in a project → content of each schema."""
    return {
        f"{FOLDER}/pki.json": pki_yaml_schema().encode(),
        f"{FOLDER}/secrets.json": secrets_yaml_schema().encode(),
    }


def refresh(home: Path) -> None:
    """Write the schemas that the project has and that are not those of this program. Unwritable ones stay as they are."""
    for name, content in schema_files().items():
        with suppress(OSError, PkiError):
            if filesystem.read(home / name) not in {None, content}:
                filesystem.write(home / name, content)
