"""Projects as a person founds, backs up and restores them: through `./run`, with git and age beside it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import subprocess
import termios
from pathlib import Path

import pytest

from tests.integration.conftest import LiveHome, run
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT

RUN = PROJECT / "run"


@pytest.fixture
def plain() -> dict[str, str]:
    """The environment of somebody who has never set anything."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}


def test_founded_project_is_under_git_without_its_secrets_and_two_runs_settle_it(
    tmp_path: Path, plain: dict[str, str]
) -> None:
    said = run(RUN, "invoke", "init", "project", "--yes", "--sandbox", cwd=tmp_path, env=plain)
    project = tmp_path / "project"
    assert f"  cd {project}\n" in said
    assert "  git add . && git commit -m 'Create the project'\n" in said
    environment = {**plain, "PKI_HOME": str(project)}
    run(RUN, "doit", cwd=tmp_path, env=environment)
    assert is_idle(run(RUN, "doit", cwd=tmp_path, env=environment))
    run("git", "-C", project, "add", ".", env=plain)
    held = run("git", "-C", project, "ls-files", env=plain).splitlines()
    assert {"pki.yaml", ".gitignore", "README.md", "templates/.versions.json"} <= set(held)
    assert {name.partition("/")[0] for name in held} == {
        "pki.yaml",
        ".schema",
        ".gitignore",
        "README.md",
        "run",
        "dodo.py",
        "tasks.py",
        "templates",
    }


def test_project_in_somebody_elses_repository_gets_none_of_its_own(tmp_path: Path, plain: dict[str, str]) -> None:
    run("git", "init", "--quiet", tmp_path, env=plain)
    run(RUN, "invoke", "init", "project", "--yes", cwd=tmp_path, env=plain)
    assert not (tmp_path / "project/.git").exists()


def test_project_is_founded_where_the_command_is_typed_without_git_too(tmp_path: Path, plain: dict[str, str]) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "cmp"):
        (tools / tool).symlink_to(shutil.which(tool) or pytest.fail(tool))
    (tmp_path / "project").mkdir()
    said = run(RUN, "invoke", "init", "--yes", cwd=tmp_path / "project", env={**plain, "PATH": str(tools)})
    assert "git " not in said
    assert (tmp_path / "project/pki.yaml").exists()


# -- the age command --------------------------------------------------------------------------------------------------

WORDS = "trumpet velvet cactus orbit mango thistle"


def typed(command: list[str | Path], text: str) -> bytes:
    """What a command writes that asks for a passphrase at a terminal of its own."""
    end, terminal = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        preexec_fn=own_terminal,  # noqa: PLW1509 - no threads here
    )
    os.close(terminal)
    os.write(end, f"{text}\n".encode())
    said, _ = process.communicate(timeout=300)
    os.close(end)
    assert process.returncode == 0
    return said


def own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_age_opens_a_backup_and_tar_unpacks_it(home: LiveHome, tmp_path: Path) -> None:
    (tmp_path / "words").write_text(WORDS)
    home.invoke("backup", str(tmp_path / "project.age"), "--passphrase-file", str(tmp_path / "words"))
    content = typed(["age", "-d", tmp_path / "project.age"], WORDS)
    (tmp_path / "out").mkdir()
    (tmp_path / "project.tar").write_bytes(content)
    run("tar", "-x", "-f", tmp_path / "project.tar", "-C", tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"manifest.json", *manifest["files"]}
    sums = "".join(f"{said['sha256']}  {name}\n" for name, said in manifest["files"].items())
    run("sha256sum", "--check", "--quiet", "-", cwd=tmp_path / "out", stdin=sums)
    assert (tmp_path / "out/ca/server/server-1/key.pem").read_bytes() == home.read("ca/server/server-1/key.pem")


def test_project_is_restored_where_the_command_is_typed(home: LiveHome, tmp_path: Path, plain: dict[str, str]) -> None:
    (tmp_path / "words").write_text(WORDS)
    environment = {**plain, "PKI_HOME": str(home.path)}
    run(RUN, "invoke", "backup", "b.age", "--passphrase-file", "words", cwd=tmp_path, env=environment)
    shutil.rmtree(home.path / "ca")
    run(RUN, "invoke", "restore", "b.age", "--passphrase-file", "words", cwd=tmp_path, env=environment)
    assert is_idle(run(RUN, "doit", cwd=tmp_path, env=environment))
