"""Every fast test of pki-apply once more, with other shells and tools than the system's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import test_pki_apply
from tests.support.hosts import Shell, busybox

host, placed = test_pki_apply.host, test_pki_apply.placed
globals().update({name: thing for name, thing in vars(test_pki_apply).items() if name.startswith("test_")})


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """Bash in its own manner, not as sh."""
    if request.param == "busybox":
        return busybox(tmp_path / "applets")
    return Shell(request.param, f"/usr/bin/{request.param}")
