"""What commands print for programs: one model each, whose JSON Schema `schema NAME` prints."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from pki.commands.output import MODELS
from tests.commands import Invoke, Said, said_by
from tests.conftest import Home


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process."""

    def call(*arguments: str, days: float = 0) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment(days))

    return call


def test_each_command_prints_what_its_schema_describes_and_the_same_exit_status(home: Home, invoke: Invoke) -> None:
    serial = home.house().ledger.certificates(artifact="cert:media")[0].serial
    home.edit("    proxy: haproxy\n", "    proxy: haproxy\n    deliver: ssh\n")
    home.plan().deliveries["forge"].history.note(home.moment(), "ab" * 32, "delivered")
    words = {"explain": "jellyfin", "ledger.show": f"{serial:x}", "deploy.history": "forge", "deploy.drift": "media"}
    for name, model in MODELS.items():
        typed = (name, words[name]) if name in words else (name,)
        said = invoke(*typed, "--json")
        assert said.status == invoke(*typed).status, name
        content = json.loads(said.out)
        assert content["version"] == 1
        assert content["at"] == "2026-11-23T06:00:00Z"
        model.model_validate(content)
        schema = json.loads(invoke("schema", name).out)
        assert schema["title"] == f"{name} --json"
        assert set(content) == set(schema["properties"]) == set(schema["required"]) | {"version"}
        assert schema["additionalProperties"] is False
    assert TypeAdapter(dict).validate_json(invoke("schema").out)["title"] == "pki.yaml"


def test_what_is_due_is_in_the_plan_for_programs_with_its_code(home: Home, invoke: Invoke) -> None:
    home.edit("jellyfin:", "films:")
    said = invoke("plan", "--json")
    assert said.status == 2
    due = {one["name"]: one["reasons"] for one in json.loads(said.out)["to_do"]}
    assert due["cert:media"][0]["code"] == "OTHER_NAMES"
    assert "films.lab.internal" in due["cert:media"][0]["text"]
    rows = {row["name"]: row["state"] for row in json.loads(invoke("status", "--json").out)["rows"]}
    assert rows["cert:media"] == "due"


def test_how_a_name_was_understood_is_a_field(invoke: Invoke) -> None:
    content = json.loads(invoke("explain", "jellyfin", "--json").out)
    assert content["understood"] == "jellyfin is a service on media: cert:media"
    assert content["subject"] == "cert:media"
    assert json.loads(invoke("explain", "media", "--json").out)["understood"] == ""


def test_drift_is_said_host_by_host(home: Home, invoke: Invoke) -> None:
    changed = next((home.path / "build/hosts/media").rglob("*.pem"))
    changed.write_text("other")
    said = invoke("deploy.drift", "--json")
    assert said.status == 2
    rows = {row["host"]: row for row in json.loads(said.out)["hosts"]}
    assert [one["text"] for one in rows["media"]["differences"]]
    assert rows["forge"]["differences"] == []


def test_a_damaged_ledger_is_said_with_what_is_wrong(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pki.ledger.Ledger.verify", lambda _ledger: ["event 3: was changed"])
    said = invoke("ledger.verify", "--json")
    content = json.loads(said.out)
    assert (said.status, content["intact"], content["faults"]) == (1, False, ["event 3: was changed"])
    assert "restore" in content["remedy"]


def test_a_schema_that_there_is_not_is_refused_with_those_that_there_are(invoke: Invoke) -> None:
    said = invoke("schema", "statsu")
    assert (said.status, said.error) == (1, "statsu: no such output\n→ did you mean status?\n")
