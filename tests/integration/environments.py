"""Programs from PyPI that the tests run, in environments of their own beside `.venv`: each has a lock file with hashes."""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path

from tests.integration.conftest import run
from tests.support.projects import PROJECT


def environment(name: str) -> Path:
    """Make `.venv-NAME` from `requirements-NAME.lock` where it is missing or out of date; return its folder."""
    venv, lock = PROJECT / f".venv-{name}", PROJECT / f"requirements-{name}.lock"
    with (PROJECT / ".run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        installed = venv / lock.name
        if not installed.exists() or installed.read_bytes() != lock.read_bytes():
            run(sys.executable, "-m", "venv", "--clear", venv)
            run(venv / "bin/python", "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", lock, timeout=600)
            shutil.copy(lock, installed)
    return venv
