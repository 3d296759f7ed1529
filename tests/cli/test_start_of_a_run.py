"""What the start of a run leaves out, because it would cost a run with nothing to do much of its time."""

from __future__ import annotations

import subprocess
import sys

from tests.support.projects import PROJECT


def after_imports(check: str) -> tuple[int, str]:
    """Import dodo.py in a new process as doit does, with a search for plugins that fails; return its status and errors."""
    code = (
        "import gc, importlib.metadata\n"
        "def search(**_): raise SystemExit('searched for plugins')\n"
        "importlib.metadata.entry_points = search\n"
        "import dodo\n"
        f"{check}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_no_garbage_is_collected_among_the_modules_of_a_run() -> None:
    assert after_imports("assert not gc.get_stats()[2]['collections'], gc.get_stats()") == (0, "")


def test_no_plugins_of_pydantic_are_searched_for() -> None:
    assert after_imports("import pki.config.model") == (0, "")
