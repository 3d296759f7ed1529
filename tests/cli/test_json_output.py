"""What commands print for programs: one model each, whose JSON Schema `schema NAME` prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from pki.cli.json_output import MODELS
from pki.monitor import probes
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import Home


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process."""

    def call(*arguments: str, days: float = 0) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment(days))

    return call


@pytest.fixture(autouse=True)
def _no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "probe_services", lambda *_: ())


def assert_described(invoke: Invoke, name: str, said: Said) -> Any:
    """What a command printed is one object of its model, and its schema says so."""
    content = json.loads(said.out)
    assert content["version"] == 1
    assert content["at"] == "2026-11-23T06:00:00Z"
    MODELS[name].model_validate(content)
    schema = json.loads(invoke("schema", name).out)
    assert schema["title"] == f"{name} --json"
    assert set(content) == set(schema["properties"]) == set(schema["required"]) | {"version"}
    assert schema["additionalProperties"] is False
    return content


def test_each_command_prints_what_its_schema_describes_and_the_same_exit_status(home: Home, invoke: Invoke) -> None:
    serial = home.project().ledger.certificates(artifact="cert:media")[0].serial
    home.edit("    proxy: haproxy\n", "    proxy: haproxy\n    deliver: ssh\n")
    home.plan().deliveries["forge"].records.history.add_log_entry(home.moment(), "ab" * 32, "delivered")
    elsewhere = {"ledger.accept-loss", "ledger.import"}  # what they need is not here: see below
    words = {"explain": "jellyfin", "ledger.show": f"{serial:x}", "deploy.history": "forge", "deploy.drift": "media"}
    words |= {"ledger.recover": "--all", "timeline": "--years=1"}
    for name in MODELS.keys() - elsewhere:
        typed = (name, words[name]) if name in words else (name,)
        said = invoke(*typed, "--json")
        assert said.status == invoke(*typed).status, name
        assert_described(invoke, name, said)
    assert TypeAdapter(dict).validate_json(invoke("schema").out)["title"] == "pki.yaml"


def test_what_is_due_is_in_the_plan_for_programs_with_its_code(home: Home, invoke: Invoke) -> None:
    home.edit("jellyfin:", "films:")
    said = invoke("plan", "--json")
    assert said.status == 2
    due = {one["name"]: one["reasons"] for one in json.loads(said.out)["to_do"]}
    assert due["cert:media"][0]["code"] == "LACKS_NAMES"
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


def test_what_a_ledger_lost_and_learnt_again_is_said_for_programs(home: Home, invoke: Invoke, tmp_path: Path) -> None:
    """Nothing else is printed, also where a question would be asked or a file is none of ours."""
    lost = tmp_path / "ledger.db"
    (home.path / "ca/ledger.db").rename(lost)
    refused = invoke("ledger.accept-loss", "--json")
    assert (refused.status, refused.out) == (1, "")
    assert "--json does not ask; nothing was written\n→ ./run invoke ledger.accept-loss --json --yes" in refused.error
    content = assert_described(invoke, "ledger.accept-loss", invoke("ledger.accept-loss", "--json", "--yes"))
    assert {"client-1", "root-1", "server-1"} <= set(content["authorities"])
    assert {one["source"] for one in content["crls"]} == {"forge", "monitoring"}, "media has no CRL"
    shutil.rmtree(home.path / "build/release/forge")
    content = assert_described(invoke, "ledger.recover", invoke("ledger.recover", "forge", "--json"))
    assert {one["source"] for one in content["crls"]} == {"forge"}, "its release is made first, which is said elsewhere"
    (tmp_path / "none.crl").write_text("no CRL")
    said = invoke("ledger.recover", "--file", str(tmp_path / "none.crl"), "--json")
    content = assert_described(invoke, "ledger.recover", said)
    assert (said.status, content["crls"], len(content["without_crl"])) == (1, [], 1)


def test_a_damaged_ledger_is_said_with_what_is_wrong(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pki.ledger.ledger.SqlLedger.verify", lambda _ledger: ["event 3: was changed"])
    said = invoke("ledger.verify", "--json")
    content = json.loads(said.out)
    assert (said.status, content["intact"], content["faults"]) == (1, False, ["event 3: was changed"])
    assert "restore" in content["remedy"]


def test_a_schema_that_there_is_not_is_refused_with_those_that_there_are(invoke: Invoke) -> None:
    said = invoke("schema", "statsu")
    assert (said.status, said.error) == (1, "unknown output 'statsu'\n→ did you mean status?\n")


def test_a_schema_replaces_no_file_that_is_none(home: Home, invoke: Invoke) -> None:
    for content in ("sandbox: true\n", "", "{", "[]", "{}", "[" * 100_000):
        path = home.write("mine", content)
        said = invoke("schema", "--output", str(path))
        assert (said.status, path.read_text()) == (1, content)
        hint = "remove it, or name another file: --output"
        assert said.error == f"{path}: exists already, and is not a JSON Schema of this program\n→ {hint}\n"


def test_a_schema_replaces_an_older_one(home: Home, invoke: Invoke) -> None:
    path = home.path / "pki.schema.json"
    for _ in range(2):
        assert invoke("schema", "--output", str(path)).status == 0
    assert path.read_text() == invoke("schema").out
