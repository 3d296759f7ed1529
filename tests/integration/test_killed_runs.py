"""kill -9 before each rename of a ceremony: the next run finds a project that it can finish. The campaign `kills` has the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns import consistency
from tests.integration.conftest import LiveHome
from tests.support.projects import PROJECT


def killed_before_rename(home: LiveHome, rename: int, *command: str) -> None:
    """The ceremony is short, and random moments seldom hit it: here the process kills itself."""
    line = [sys.executable, "-m", "tests.campaigns.fused", f"replace:{rename}", *command]
    done = subprocess.run(line, cwd=PROJECT, env=home.environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, f"it has fewer renames than this test believes\n{done.stderr!r}"


def assert_believable(home: LiveHome) -> None:
    """What holds at every moment: recorded before visible, whole pairs, a whole ledger."""
    assert list(consistency.believable(home.path, consistency.ledger_rows(home.path))) == []


@pytest.mark.parametrize("rename", range(1, 21))
def test_ceremony_survives_kill_before_each_rename(rename: int, new_project: LiveHome, tmp_path: Path) -> None:
    home = new_project.copy(tmp_path / "home")
    killed_before_rename(home, rename, "doit", "authority")
    assert_believable(home)
    report = home.doit("authority")
    assert report.status == 0, report.failed
    assert_believable(home)
    left = [str(path) for folder in ("ca", "offline") for path in (home.path / folder).rglob(".*.new")]
    assert not left, f"left beside: {left}"


@pytest.mark.parametrize("rename", [1, 2, 3])
def test_new_passphrase_survives_kill_before_each_rename(rename: int, home: LiveHome) -> None:
    killed_before_rename(home, rename, "invoke", "ca.change-passphrase", "server-1")
    home.invoke("renew", "media")
    home.invoke("ca.change-passphrase", "server-1")
    assert b"server-1.new" not in home.read("secrets.yaml")
    report = home.doit()
    assert report.status == 0, report.failed
    assert home.doit().made == {}
    rows = consistency.ledger_rows(home.path)
    assert list(consistency.finished(home.path, rows, home.moment())) == []
