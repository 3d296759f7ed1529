"""A bench on which faults are made and remedies typed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from pki.cli import backup_commands
from pki.common import age
from tests.support.ceremonies import RealHome
from tests.support.commands import Said, said_by
from tests.support.live_host import Live
from tests.support.projects import START, Ask, Home, two_hosts_agree

WORDS = "trumpet velvet cactus orbit mango thistle"
MARK = b"age-encryption.org/v1\nnot really: "


@dataclass
class Bench:
    """Somebody at a terminal of one project, whose clock stands `days` after the first run."""

    home: Home
    capsys: pytest.CaptureFixture[str]
    days: float = 0
    evidence: Ask = two_hosts_agree
    is_in_project: bool = False  # whether it is typed in the project's folder, and not beside it
    fills: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        return self.home.path / name

    def invoke(self, *words: str) -> Said:
        folder = self.home.path if self.is_in_project else self.home.path.parent
        where = {"pki_home": str(self.home.path), "pki_called_from": str(folder)}
        return said_by(
            self.capsys, *words, **where, pki_now=START + timedelta(days=self.days), pki_evidence=self.evidence
        )

    def doit(self, *words: str) -> Said:
        self.capsys.readouterr()
        status = self.home.doit(*words, days=self.days, evidence=self.evidence).status
        output = self.capsys.readouterr()
        return Said(status, output.out, output.err)

    def findings(self) -> dict[str, str]:
        """What health finds: subject → what is wrong, and what is printed to type."""
        checks = json.loads(self.invoke("health", "--json").out)["checks"]
        return {
            check["subject"]: f"{check['message']}\n→ {check['remedy']}" for check in checks if check["level"] != "ok"
        }

    def type(self, line: str) -> Said:
        """Type a line; what the reader fills in is filled in."""
        words = [self.fills.get(word, word) for word in shlex.split(line.removeprefix("./run "))]
        if words[0] == "invoke":
            return self.invoke(*words[1:])
        if words[0] == "doit":
            return self.doit(*words[1:])
        filled = " ".join(self.fills.get(word, word) for word in line.split(" "))
        done = subprocess.run(["sh", "-ec", filled], cwd=self.home.path, capture_output=True, text=True, check=False)
        return Said(done.returncode, done.stdout, done.stderr)


def as_printed(text: str) -> str:
    """A text in which each line is typed in the program's folder, for the project there."""
    return re.sub(r"PKI_HOME=\S+ (?=\./run )", "", text)


@pytest.fixture
def bench(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    return seated(home, tmp_path, monkeypatch, capsys)


def seated(home: Home, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Somebody sits at a terminal, and has a backup."""
    bench = Bench(home, capsys)
    bench.fills = {"FILE": str(folder / "b.age"), "DIR": str(folder / "restored"), "NAME": "media"}
    bench.answers = {"type LOST": "LOST", "reason of the revocation": "superseded"}

    def answered(question: str = "") -> str:
        answer = next((text for part, text in bench.answers.items() if part in question), "yes")
        print(f"{question}{answer}")
        return answer

    patch.setattr(age, "encrypt", lambda data, _: MARK + data)  # scrypt takes seconds
    patch.setattr(age, "decrypt", lambda data, *_: data.removeprefix(MARK))
    patch.setattr(backup_commands, "ask_secretly", lambda _question: WORDS)
    patch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    patch.setattr("builtins.input", answered)
    output = bench.invoke("backup", bench.fills["FILE"])
    assert output.status == 0, output
    return bench


def replaced(home: Home, path: str, old: str, new: str) -> None:
    target = home.path / path
    text = target.read_text()
    assert old in text
    target.write_text(text.replace(old, new))


@pytest.fixture
def outside(
    real: RealHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    return seated(real, tmp_path, monkeypatch, capsys)


@pytest.fixture
def deployed(
    delivered: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    return seated(delivered.home, tmp_path, monkeypatch, capsys)
