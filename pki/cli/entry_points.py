"""What `dodo.py` and `tasks.py` contain, those of the program and of each project."""

from __future__ import annotations

import gc
import os
import sys
from datetime import datetime
from pathlib import Path
from runpy import run_path
from types import TracebackType
from typing import Any

from pki.common.program_files import PROGRAM, has_no_project


def doit_run(file: str, now: datetime) -> Any:
    """Return a run of doit in the project of a dodo.py, whose `config` and `tasks` doit reads."""
    gc.disable()  # collecting among the modules that are imported takes a tenth of a run with nothing to do
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # the search reads the metadata of every package
    home = _home(file)
    from pki.monitor.report.run import Run  # noqa: PLC0415 - what it imports must find PKI_HOME

    sys.excepthook = _end
    return Run(Path(home), now)


def invoke_commands(file: str, now: datetime) -> Any:
    """Return the collection of commands for the project of a tasks.py, for invoke.

    Where the program `invoke` reads it, our own program takes over: invoke would demand the arguments that are
    optional here, and accept options that have no effect.
    """
    home = _home(file)
    from pki.cli.collection import collect  # noqa: PLC0415 - as above

    commands = collect(home, os.environ.get("PKI_CALLED_FROM") or str(Path.cwd()), now)
    if "invoke.main" in sys.modules:
        from pki.cli.program import ProgramOfInvoke  # noqa: PLC0415 - as above

        ProgramOfInvoke(commands).run(sys.argv)
        raise SystemExit(0)
    return commands


def program_commands() -> Any:
    """Return the collection of commands of the program itself, with the time that its tasks.py takes."""
    return run_path(str(PROGRAM / "tasks.py"))["ns"]


def _home(file: str) -> str:
    """Return the project's folder: that of the file; for the files of the program PKI_HOME. "" without a project."""
    folder = Path(file).resolve().parent
    if folder != PROGRAM:
        os.environ["PKI_HOME"] = str(folder)
    return os.environ.get("PKI_HOME") or ("" if has_no_project() else str(folder))


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print no traceback after Ctrl-C: the last line of the run is enough."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)
