"""The format of `ca/`: an older program leaves a project of a newer one alone, and plan names a change of the version."""

from __future__ import annotations

import json

import pytest

from pki import __version__
from pki.common import state_format
from pki.common.errors import PkiError
from pki.monitor.report.run import Run
from tests.support.commands import Said, said_by
from tests.support.projects import START, Home

NEWER = (
    f"ca/ was written by doit-pki 7.1.0 in format 2; this is doit-pki {__version__}, which knows format 1"
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
        "client.add guest guest@lab.internal",
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
    written(home, format=2, program="7.1.0")
    before = home.read("ca/ledger.db"), home.read("pki.yaml")
    said = said_by(capsys, *command.split(), pki_home=str(home.path), pki_now=START)
    assert (said.status, said.error) == (1, f"{NEWER}\n")
    assert (home.read("ca/ledger.db"), home.read("pki.yaml")) == before


def test_every_way_to_open_a_project_refuses_a_newer_format(home: Home) -> None:
    written(home, format=2, program="7.1.0")
    with pytest.raises(PkiError, match="format 2"):
        home.project()


def test_doit_refuses_a_newer_format_and_leaves_the_record(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    written(home, format=2, program="7.1.0")
    assert Run(home.path, START).main([]) == 3
    assert f"nothing was done: {NEWER}" in capsys.readouterr().err
    assert state_format.read(home.path / "ca") == state_format.StateFormat(2, "7.1.0")


def test_plan_names_another_version_until_doit_has_run(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    def plan() -> Said:
        return said_by(capsys, "plan", pki_home=str(home.path), pki_now=START)

    assert "the last run was by" not in plan().out
    written(home, format=1, program="0.1.0")
    assert f"the last run was by 0.1.0, this is {__version__}; what is to do may follow from that" in plan().out
    assert Run(home.path, START).main([]) == 0
    assert state_format.read(home.path / "ca") == state_format.current()
    assert "the last run was by" not in plan().out
    report = json.loads((home.path / "build/report/status.json").read_text())
    assert report["program"] == __version__


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": "x", "program": ""}', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_written_again(home: Home, text: str) -> None:
    path = home.path / "ca" / state_format.FILE
    path.write_text(text, encoding="latin-1")
    assert Run(home.path, START).main([]) == 0
    assert state_format.read(home.path / "ca") == state_format.current()
