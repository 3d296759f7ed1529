"""Programs from PyPI that developers run, in environments of their own beside `.venv`: each has a lock file with hashes."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM


def environment(name: str) -> Path:
    """Make `.venv-NAME` from `requirements-NAME.lock` where it is missing or out of date; return its folder.

    Raises PkiError if its packages cannot be installed.
    """
    venv, lock = PROGRAM / f".venv-{name}", PROGRAM / f"requirements-{name}.lock"
    typed = f"./run pip install --dry-run --no-deps --require-hashes -r {lock.name}"
    with (PROGRAM / ".run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        installed = venv / lock.name
        if not installed.exists() or installed.read_bytes() != lock.read_bytes():
            install = ("-m", "pip", "install", "--no-deps", "--require-hashes", "-r", str(lock))
            for command in ((sys.executable, "-m", "venv", "--clear", str(venv)), (str(venv / "bin/python"), *install)):
                done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                    raise PkiError(f"{lock.name} cannot be installed: {reason}", typed)
            shutil.copy(lock, installed)
    return venv


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        environment(argument)
