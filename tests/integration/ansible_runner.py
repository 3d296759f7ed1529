"""The programs of Ansible, installed once."""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import run
from tests.support.projects import PROJECT


@pytest.fixture(scope="session")
def runner() -> Path:
    """ansible-runner in an environment of its own, as on a machine that has Ansible already."""
    venv, lock = PROJECT / ".venv-ansible", PROJECT / "requirements-ansible.lock"
    with (PROJECT / ".run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        installed = venv / lock.name
        if not installed.exists() or installed.read_bytes() != lock.read_bytes():
            run(sys.executable, "-m", "venv", "--clear", venv)
            run(venv / "bin/python", "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", lock, timeout=600)
            shutil.copy(lock, installed)
    return venv / "bin/ansible-runner"
