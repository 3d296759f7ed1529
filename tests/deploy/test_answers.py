"""What pki-apply answers is read strictly: known keys, types and states, and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pki.deploy import host_output

SUM = "0" * 64
GOOD: list[dict[str, Any]] = [
    {"pki-apply": 1},
    {"pki-apply": 1, "date": 1795000000},
    *(
        {"n": 1, "is": state.value, "sha256": SUM, "path": "/etc/x"}
        for state in sorted(set(host_output.FileStatus) - {"link"})
    ),
    {"n": 1, "is": "absent", "sha256": "", "path": "/etc/x"},
    {"looked": True},
    {"bytes": 0},
    {"ran": "systemctl-reload-nginx", "status": 137, "said": "it is broken\nreally"},
    {"why": ""},
    {"stuck": "/etc/x", "why": "is a mount point", "said": "umount /etc/x"},
    *({"state": state.value} for state in sorted(set(host_output.ChangeState) - {"refused"})),
    {"state": "refused", "why": "no", "said": ""},
    {"error": "no"},
]
BAD: list[object] = [
    {},
    [],
    "kept",
    1,
    None,
    {"pki-apply": 2},
    {"pki-apply": True},
    {"pki-apply": "1"},
    {"pki-apply": 1, "date": "today"},
    {"pki-apply": 1, "date": -1},
    {"pki-apply": 1, "date": True},
    {"pki-apply": 1, "more": 1},
    {"n": 1, "is": "fine", "sha256": SUM, "path": "/etc/x"},
    {"n": 1, "is": "same", "sha256": SUM[1:], "path": "/etc/x"},
    {"n": 1, "is": "same", "sha256": SUM.upper().replace("0", "A"), "path": "/etc/x"},
    {"n": 1, "is": "same", "sha256": SUM + "\n", "path": "/etc/x"},
    {"n": 1, "is": "same", "sha256": SUM, "path": "etc/x"},
    {"n": 1, "is": "same", "sha256": SUM, "path": "/etc/\x1b[2J"},
    {"n": True, "is": "same", "sha256": SUM, "path": "/etc/x"},
    {"n": 1.0, "is": "same", "sha256": SUM, "path": "/etc/x"},
    {"n": 1, "is": "same", "sha256": SUM},
    {"looked": 1},
    {"looked": False},
    {"bytes": -1},
    {"bytes": "9"},
    {"bytes": 1 << 60},
    {"ran": "a b", "status": 0, "said": ""},
    {"ran": "x", "status": "0", "said": ""},
    {"ran": "x", "status": 0},
    {"state": "done"},
    {"state": "kept", "why": "x"},
    {"state": "refused"},
    {"state": "kept", "said": "x", "why": "y"},
    {"error": ["no"]},
    {"stuck": "x", "why": "", "said": ""},
]


@pytest.mark.parametrize("answer", GOOD, ids=json.dumps)
def test_what_pki_apply_answers_is_read(answer: dict[str, Any]) -> None:
    assert host_output.read(json.dumps(answer)) == answer
    assert host_output.validated(answer) == answer


@pytest.mark.parametrize("answer", BAD, ids=json.dumps)
def test_nothing_else_is_an_answer(answer: object) -> None:
    assert host_output.read(json.dumps(answer)) is None
    assert host_output.validated(answer) is None


@pytest.mark.parametrize("line", ["", "{", "NaN", '{"bytes":1e3}', '{"bytes":9' + "9" * 60_000 + "}", "[" * 60_000])
def test_a_line_that_is_no_json_is_no_answer(line: str) -> None:
    assert host_output.read(line) is None


def test_an_answer_has_at_most_64_kilobytes_and_its_texts_are_cut() -> None:
    def line(length: int) -> str:
        return f'{{"error":"{"x" * (length - 12)}"}}'

    assert len(line(1 << 16)) == 1 << 16
    found = host_output.read(line(1 << 16))
    assert found
    assert len(found["error"]) == host_output.WORDS
    assert host_output.read(line((1 << 16) + 1)) is None


def test_only_what_is_stuck_counts_of_what_was_said_before_the_greeting() -> None:
    stuck = {"stuck": "/etc/x", "why": "is a mount point", "said": "on web: umount /etc/x"}
    before = [{"ran": "x", "status": 1, "said": ""}, {"state": "undone"}, stuck, {"state": "stuck"}]
    found = host_output.current_answers([*before, {"pki-apply": 1}, {"looked": True}])
    assert found == [stuck, {"pki-apply": 1}, {"looked": True}]
    assert host_output.refusal(found) == ("/etc/x is a mount point", "on web: umount /etc/x", "")


def test_a_command_that_failed_without_a_word_is_named_with_a_line_that_shows_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is typed on the host: it runs the command that is permitted there under that name."""
    (tmp_path / "conf").write_text("host web\nrun nginx-t-q echo looked; exit 3\nrun nginx-t-q2 false\n")
    monkeypatch.setattr(host_output, "PERMISSIONS", str(tmp_path / "conf"))
    failed = {"ran": "nginx-t-q", "status": 3, "said": " \n"}
    why, hint, ran = host_output.refusal([failed, {"state": "undone"}], "web") or ("", "", "")
    assert ran == "nginx-t-q"
    assert why == '"nginx-t-q" failed with exit status 3; rolled back'
    asked, _, line = hint.partition("on web, as root: ")
    assert asked == "it printed nothing; "
    shown = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == ("looked\nexit status 3\n", "+ echo looked\n+ exit 3\n")


@pytest.mark.parametrize("said", [[{"state": "undone"}], [{"state": "refused", "why": "it is full", "said": ""}]])
def test_a_change_that_no_command_refused_is_told_with_what_to_look_at(said: list[dict[str, Any]]) -> None:
    assert (host_output.refusal(said, "web") or ("", ""))[1].startswith("on web: df -h; ")
