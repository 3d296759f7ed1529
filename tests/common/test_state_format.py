"""The format of `ca/`: an older program leaves a project of a newer one alone, and plan names a change of the version."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pki import __version__
from pki.common import state_format
from pki.common.errors import PkiError
from pki.monitor.report.run import Run
from tests.support.commands import Said, said_by
from tests.support.projects import START, Home

NEWER = (
    f"ca/ was written by doit-pki 7.1.0 in format 3; this is doit-pki {__version__}, which knows format 2"
    "\n→ use doit-pki 7.1.0 or newer: docs/how-to/upgrade.md"
)


def written(home: Home, **record: object) -> None:
    (home.path / "ca" / state_format.FILE).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "command",
    [
        "plan",
        "status",
        "health",
        "renew media",
        "ledger.verify",
        "client.add guest --email guest@lab.internal",
        "client.revoke admin --reason superseded --yes",
        "revoke media --reason superseded --yes",
        "deploy.bootstrap media",
        "deploy.drift",
        "backup backup.age",
        "templates.eject nginx/nginx.conf",
        "schedule",
    ],
)
def test_an_older_program_refuses_a_newer_format(home: Home, capsys: pytest.CaptureFixture[str], command: str) -> None:
    written(home, format=3, program="7.1.0")
    before = home.read("ca/ledger.db"), home.read("pki.yaml")
    said = said_by(capsys, *command.split(), pki_home=str(home.path), pki_now=START)
    assert (said.status, said.error) == (1, f"{NEWER}\n")
    assert (home.read("ca/ledger.db"), home.read("pki.yaml")) == before


def test_every_way_to_open_a_project_refuses_a_newer_format(home: Home) -> None:
    written(home, format=3, program="7.1.0")
    with pytest.raises(PkiError, match="format 3"):
        home.project()


def test_doit_refuses_a_newer_format_and_leaves_the_record(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    written(home, format=3, program="7.1.0")
    assert Run(home.path, START).main([]) == 3
    assert f"nothing was done: {NEWER}" in capsys.readouterr().err
    assert state_format.read(home.path / "ca") == state_format.StateFormat(3, "7.1.0")


def test_plan_names_another_version_until_doit_has_run(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    def plan() -> Said:
        return said_by(capsys, "plan", pki_home=str(home.path), pki_now=START)

    assert "the last run was by" not in plan().out
    written(home, format=2, program="0.1.0")
    assert f"the last run was by 0.1.0, this is {__version__}; what is to do may follow from that" in plan().out
    assert Run(home.path, START).main([]) == 0
    state = state_format.read(home.path / "ca")
    assert state
    assert (state.format, state.program, state.keeps_templates) == (state_format.FORMAT, __version__, False)
    assert "the last run was by" not in plan().out
    report = json.loads((home.path / "build/report/status.json").read_text())
    assert report["program"] == __version__


DAMAGED = ["", "{", "[1]", '{"format": "x", "program": ""}', '{"format": true, "program": "1"}', "[" * 100_000, "\xff"]
DAMAGED += ['{"format": 1, "program": "1", "defaults": []}', '{"format": 2, "program": "\\u001b[2J"}']


FAULT = "ca/.format.json: is damaged, so the version of the program that wrote ca/ is not known"


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_never_taken_for_none(tmp_path: Path, text: str) -> None:
    (tmp_path / state_format.FILE).write_text(text, encoding="latin-1")
    with pytest.raises(PkiError) as caught:
        state_format.check(tmp_path)
    assert caught.value.message == FAULT


def test_a_damaged_record_is_refused_until_the_printed_command_was_typed(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.path / "ca" / state_format.FILE
    path.write_text("{")
    assert Run(home.path, START).main([]) == 3
    message, hint = capsys.readouterr().err.strip().splitlines()
    assert message.endswith(f"nothing was done: {FAULT}")
    assert path.read_text() == "{"
    said = said_by(capsys, "plan", pki_home=str(home.path), pki_now=START)
    assert (said.status, said.error.splitlines()[0]) == (1, FAULT)
    command = hint.partition("worked here: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=home.path)  # noqa: S602 - as a user types it
    assert Run(home.path, START).main([]) == 0


def test_a_project_records_its_format_before_anything_is_created_in_it(
    fresh: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(fresh.path / "templates")
    (fresh.path / "templates").mkdir()
    fresh.edit("sandbox: true", "sandbox: false")
    assert said_by(capsys, "ceremony.request", pki_home=str(fresh.path), pki_now=START).status == 0
    state = state_format.read(fresh.path / "ca")
    assert state
    assert (state.format, state.keeps_templates) == (state_format.FORMAT, False)


def test_plan_names_changed_defaults_and_templates_until_doit_has_run(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nginx/pki-drain.conf", "tls/tls.pem"):
        (home.path / "templates" / name).unlink()
    home.edit("    network: mgmt\n", "    network: mgmt\n    port: 443\n")
    assert Run(home.path, START).main([]) == 0
    before = json.loads(home.read(f"ca/{state_format.FILE}"))
    before |= {"program": "0.1.0", "defaults": {**before["defaults"], "profiles.client.rekey": "keep", "gone": "1"}}
    before["defaults"] |= {
        "profiles.client.lifetime": "90d",
        "hosts.*.port": "8443",
    }  # one is in pki.yaml, one not always
    before["templates"] |= {"nginx/pki-drain.conf": "0", "caddy/Caddyfile": "0"}  # the project has its own Caddyfile
    del before["templates"]["tls/tls.pem"]
    written(home, **before)
    capsys.readouterr()
    shown = [
        line.split(maxsplit=2)[1:]
        for line in said_by(capsys, "plan", pki_home=str(home.path), pki_now=START).out.splitlines()
        if line.startswith("note")
    ]
    texts = {" ".join(f"{subject} {text}".split()) for subject, text in shown}
    assert {text for text in texts if text.startswith(("pki.yaml", "templates "))} == {
        "pki.yaml profiles.client.rekey the default is new now, and was keep",
        "pki.yaml hosts.*.port the default is 443 now, and was 8443",
        "templates the program has 1 template (tls/tls.pem) more",
        "templates the program changed 1 template (nginx/pki-drain.conf)",
    }
    assert Run(home.path, START).main([]) == 0
    assert "the default is" not in said_by(capsys, "plan", pki_home=str(home.path), pki_now=START).out
