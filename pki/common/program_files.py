"""The program: its package, the files beside it in a clone, and how it is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
IN_PACKAGE = "program"  # folder of an installed package with the files that are beside the package in a clone
IS_INSTALLED = (PACKAGE / IN_PACKAGE).is_dir()
PROGRAM = PACKAGE / IN_PACKAGE if IS_INSTALLED else PACKAGE.parent  # `run`, `templates/`, `docs/`, the locks
COMMAND = "doit-pki"

FILES = ("run", "tasks.py", "dodo.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
FOLDERS = ("docs", "templates")
LOCKS = (
    "requirements.lock",
    *(f"requirements-{name}.lock" for name in ("ansible", "hsm", "kit", "notify", "postgresql")),
)


def program_files(program: Path = PROGRAM) -> dict[str, Path]:
    """Return path in a clone → file, for each file of a program: no project, keys, tests or caches."""
    files = {name: program / name for name in (*FILES, *LOCKS)}
    package = PACKAGE if program == PROGRAM else program / "pki"
    for prefix, folder in (*((name, program / name) for name in FOLDERS), ("pki", package)):
        files |= {f"{prefix}/{path.relative_to(folder).as_posix()}": path for path in _files_in(folder)}
    return {name: path for name, path in files.items() if not name.startswith(f"pki/{IN_PACKAGE}/")}


def _files_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
            yield path


def executable() -> Path:
    """Return the file that starts the program: `run` in a clone, `doit-pki` in the environment it is installed in."""
    if not IS_INSTALLED:
        return PROGRAM / "run"
    beside = Path(sys.executable).with_name(COMMAND)
    return beside if os.access(beside, os.X_OK) else Path(sys.argv[0]).absolute()


def project_folder() -> Path | None:
    """Return the project for a command typed here: PKI_HOME, or the nearest folder with pki.yaml; None without one."""
    folder = Path.cwd()
    if named := os.environ.get("PKI_HOME"):
        return folder / named
    return next((place for place in (folder, *folder.parents) if (place / "pki.yaml").exists()), None)


def has_no_project() -> bool:
    """Return whether `run` or `doit-pki` found no project where it was typed."""
    return "PKI_CALLED_FROM" in os.environ and not os.environ.get("PKI_HOME")
