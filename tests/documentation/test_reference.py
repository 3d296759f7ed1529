"""The generated pages of docs/reference/: they are those of the code, and leave nothing out."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from invoke.parser.context import to_flag

import tasks
from pki.cli import exit_statuses, json_output
from pki.cli.collection import COMMANDS, GROUPS
from pki.common import file_headers
from pki.common.program_files import PROGRAM
from pki.config import editing, editor_schemas, loader
from pki.config.recipes import service_settings
from pki.monitor.report.metric_definitions import METRICS, PREFIX
from pki.pipeline.artifact_files import CONTENTS
from pki.pipeline.desired_state import DesiredState
from pki.pipeline.template_context import VARIABLES, recipe_views
from tests.documentation import reference
from tests.support.projects import Home

NAMES = [*COMMANDS, *(f"{group}.{name}" for group, tasks in GROUPS.items() for name in tasks)]


def page(name: str) -> str:
    return (PROGRAM / "docs/reference" / name).read_text()


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_generated_page_is_that_of_the_code(name: str) -> None:
    assert page(name) == reference.HEAD + reference.PAGES[name](), "./run invoke docs --reference"


# -- keys -------------------------------------------------------------------------------------------------------------


def paths(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all keys below a schema; NAME stands for a name that users choose."""
    if reference_to := schema.get("$ref"):
        yield from paths(definitions[reference_to.rpartition("/")[2]], definitions, path)
    for option in schema.get("anyOf", ()):
        yield from paths(option, definitions, path)
    for name, below in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from paths(below, definitions, f"{path}{name}.")
    for below in filter(None, (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values())):
        yield from paths(below, definitions, f"{path}NAME.")


def test_each_key_of_the_schema_has_its_row() -> None:
    schema = json.loads(editor_schemas.pki_yaml_schema())
    rows, _, _ = page("keys.md").partition("## secrets.yaml")
    assert sorted(first_cells(rows)) == sorted(set(paths(schema, schema["$defs"])))


# -- commands ---------------------------------------------------------------------------------------------------------


def test_each_command_has_its_heading_and_each_option_its_row() -> None:
    parts = re.split(r"^### ", page("commands.md"), flags=re.MULTILINE)[1:]
    assert sorted(part.partition("\n")[0] for part in parts) == sorted(NAMES)
    for part in parts:
        name = part.partition("\n")[0]
        options = [to_flag(one.name) for one in tasks.ns[name].get_arguments() if one.name]
        rows = [cell.partition(" ")[0] for cell in first_cells(part)]
        assert len(rows) == len(options)
        assert {one for one in rows if one.startswith("--")} <= set(options)


def codes_in(module: object) -> set[int]:
    """The statuses that a module of commands names: `Exit(…, code=2)`."""
    keywords = (node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.keyword))
    return {one.value.value for one in keywords if one.arg == "code" and isinstance(one.value, ast.Constant)}


def test_each_status_of_a_command_is_in_the_table() -> None:
    of_module: dict[object, set[int]] = {}
    for name in NAMES:
        module = inspect.getmodule(inspect.unwrap(tasks.ns[name].body))
        of_module.setdefault(module, set()).update(exit_statuses.COMMANDS, exit_statuses.OWN.get(name, ()))
    for module, statuses in of_module.items():
        assert codes_in(module) <= statuses, module
    assert exit_statuses.OWN.keys() <= set(NAMES)
    assert [name for name in NAMES if "xit status" in (inspect.getdoc(tasks.ns[name]) or "")] == []


def test_each_output_as_json_and_each_of_its_fields_is_described() -> None:
    with_json = {name for name in NAMES if "json" in inspect.signature(inspect.unwrap(tasks.ns[name].body)).parameters}
    assert with_json == json_output.MODELS.keys() == set(re.findall(r"^## ([a-z.-]+)$", page("json.md"), re.MULTILINE))
    for name in with_json:
        schema = json.loads(json_output.schema(name))
        for part in (schema, *schema.get("$defs", {}).values()):
            assert all(field.get("description") for field in part["properties"].values()), name


# -- metrics, headers, artifacts and variables ------------------------------------------------------------------------


def test_each_metric_has_one_row() -> None:
    assert sorted(first_cells(page("metrics.md"))) == sorted(PREFIX + name for name in METRICS)


def test_each_artifact_of_the_table_exists(home: Home) -> None:
    desired = DesiredState.of(home.project())
    for name in CONTENTS:
        kind, _, target = name.partition(":")
        # of an RSA key, of an https upstream, of an external authority, of clusters: the example has none
        if kind not in {"key-pkcs1", "upstream-ca", "external-chain", "external-trust"} and "peer" not in target:
            chosen = {"LEAF": "media", "AUTHORITY": "all"}.get(target, target)
            assert desired.artifact_files(f"{kind}:{chosen}"), name


def test_the_variables_are_those_that_templates_get(home: Home) -> None:
    desired = DesiredState.of(home.project())
    context = desired.context("media")
    editing.write(
        editing.add_services(home.path / "pki.yaml", "media", service_settings("postgres", ["db.lab.internal"], "tls"))
    )
    with_recipe = loader.load(home.path / "pki.yaml")
    shown = {"probes", "inventory.KEY", "generation", "artifact(NAME)", "revoked.client", "too_large.crls"}
    shown |= {f"host.{name}" for name in context["host"]} | {f"leaf.{access}" for access in ("tls", "mtls", "peer")}
    shown |= {f"services[].{name}" for service in context["services"] for name in service}
    shown |= {f"recipes.NAME.{name}" for name in recipe_views(with_recipe, "media")["postgres"].keys() - {"ports"}}
    shown |= {"recipes.NAME.ports.PROTOCOL"}
    shown |= {f"authority.NAME[].{name}" for name in context["authority"].client[0]}
    assert shown == VARIABLES.keys()
    assert {re.split(r"[.\[(]", name)[0] for name in VARIABLES} == {*context, "generation", "artifact"}


def test_each_header_has_one_row() -> None:
    rows = first_cells(page("template-values.md").partition("## Artifacts")[0])
    assert rows == [*file_headers.HEADERS]
