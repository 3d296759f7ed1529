"""Houses as a person founds, backs up and restores them: through `./run`, with git and age beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.integration.conftest import run

RUN = PROJECT / "run"


@pytest.fixture
def plain() -> dict[str, str]:
    """The environment of somebody who has never set anything."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}


def test_founded_house_is_under_git_without_its_secrets_and_two_runs_settle_it(
    tmp_path: Path, plain: dict[str, str]
) -> None:
    said = run(RUN, "invoke", "init", "house", "--yes", "--sandbox", cwd=tmp_path, env=plain)
    house = tmp_path / "house"
    assert f"git -C {house} add ." in said
    environment = {**plain, "PKI_HOME": str(house)}
    run(RUN, "doit", cwd=tmp_path, env=environment)
    assert "nothing to do" in run(RUN, "doit", cwd=tmp_path, env=environment)
    run("git", "-C", house, "add", ".", env=plain)
    held = run("git", "-C", house, "ls-files", env=plain).splitlines()
    assert {"pki.yaml", ".gitignore", "README.md", "templates/nginx/pki-services.conf"} <= set(held)
    assert {name.partition("/")[0] for name in held} == {"pki.yaml", ".gitignore", "README.md", "templates"}


def test_house_in_somebody_elses_repository_gets_none_of_its_own(tmp_path: Path, plain: dict[str, str]) -> None:
    run("git", "init", "--quiet", tmp_path, env=plain)
    run(RUN, "invoke", "init", "house", "--yes", cwd=tmp_path, env=plain)
    assert not (tmp_path / "house/.git").exists()


def test_house_is_founded_where_the_command_is_typed_without_git_too(tmp_path: Path, plain: dict[str, str]) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "cmp"):
        (tools / tool).symlink_to(shutil.which(tool) or pytest.fail(tool))
    (tmp_path / "house").mkdir()
    said = run(RUN, "invoke", "init", "--yes", cwd=tmp_path / "house", env={**plain, "PATH": str(tools)})
    assert "git -C" not in said
    assert (tmp_path / "house/pki.yaml").exists()
