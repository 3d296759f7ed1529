"""The programs of Ansible, installed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.environments import environment


@pytest.fixture(scope="session")
def runner() -> Path:
    """ansible-runner in an environment of its own, as on a machine that has Ansible already."""
    return environment("ansible") / "bin/ansible-runner"
