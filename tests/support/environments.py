"""Programs from PyPI that developers run, in environments of their own beside `.venv`: each has a lock file with hashes."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from pki.common.program_files import PROGRAM


def environment(name: str) -> Path:
    """Make `.venv-NAME` from `requirements-NAME.lock` where it is missing or out of date; return its folder."""
    venv, lock = PROGRAM / f".venv-{name}", PROGRAM / f"requirements-{name}.lock"
    with (PROGRAM / ".run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        installed = venv / lock.name
        if not installed.exists() or installed.read_bytes() != lock.read_bytes():
            install = ("-m", "pip", "install", "--no-deps", "--require-hashes", "-r", str(lock))
            for command in ((sys.executable, "-m", "venv", "--clear", str(venv)), (str(venv / "bin/python"), *install)):
                done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
                assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            shutil.copy(lock, installed)
    return venv
