"""The console blocks of the README, typed at a terminal as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.projects import PROJECT, bare_home

BLOCKS = re.findall(r"```console\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
SECONDS = re.compile(r"\(\d+\.\d s\)")


def typed(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that it prints."""
    parts = re.split(r"(?m)^\$ (.*)\n", block)[1:]
    return [(command, lines.splitlines()) for command, lines in zip(parts[::2], parts[1::2], strict=True)]


def at_a_terminal(home: Path, command: str) -> str:
    """What a command prints to a person."""
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=PROJECT,
        env={**os.environ, "PKI_HOME": str(home), "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    return words(done.stdout.decode())


def words(text: str) -> str:
    """A text in which neither the width of a terminal nor the seconds that a run took make a difference."""
    return " ".join(SECONDS.sub("(… s)", text).split())


def follow(home: Path, block: str) -> None:
    """Type the `./run` lines of a block; what is printed must be what the block shows, a line `…` standing for any lines."""
    for command, shown in typed(block):
        if not command.startswith("./run"):
            continue
        parts = "\n".join(line for line in shown if not line.startswith("run: ")).split("\n…\n")
        pattern = ".*".join(re.escape(words(part)) for part in parts)
        printed = at_a_terminal(home, command).replace(f"PKI_HOME={home} ", "")  # the README's project is the clone
        assert re.fullmatch(pattern, printed), f"{command} prints:\n{printed}\nthe README shows:\n{shown}"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return bare_home(tmp_path / "home").path


def test_first_block_makes_the_example_and_a_second_run_has_nothing_to_do(fresh: Path) -> None:
    follow(fresh, BLOCKS[0])


def test_mistake_is_told_with_the_line_that_the_readme_names(fresh: Path) -> None:
    text = (fresh / "pki.yaml").read_text()
    service = text.index("jellyfin:")
    (fresh / "pki.yaml").write_text(text[:service] + re.sub(r"access: \w+", "access: mlts", text[service:], count=1))
    follow(fresh, BLOCKS[1])
