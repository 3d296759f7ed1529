"""Commands about backups, in the process of the tests."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed in `tmp_path`."""

    def call(*arguments: str, home: Path | None = None, days: float = 0) -> Said:
        moment = {"pki_now": START + timedelta(days=days), "pki_called_from": str(tmp_path)}
        return said_by(capsys, *arguments, pki_home=str(home or tmp_path), **moment)

    return call
