"""A project that leaves its sandbox."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pki.deploy import verification
from tests.support.ceremonies import RealHome
from tests.support.hosts import FolderHost
from tests.support.live_host import CRL, Live, aimed, permit
from tests.support.projects import Home


def made(home: Home, folder: Path, patch: pytest.MonkeyPatch) -> Live:
    """A project whose host `media` was deployed by a dialogue."""
    live = Live(home, FolderHost.new(folder / "host"), {}, [])
    aimed(live.home, live.host)
    (live.home.path / CRL).unlink()  # the name of its target bears no generation
    live.transports["media"] = live.host.transport()
    live.reached(patch)
    patch.setattr(verification, "VERIFY_TIMEOUT", 0.3)
    permit(live)
    report = live.doit()
    assert report.status == 0, report.failed
    return live


def out_of_the_sandbox(sandbox: Home) -> RealHome:
    """The project after its first real ceremony; `build/` is as the sandbox left it."""
    home = RealHome(sandbox.path)
    for folder in ("ca", "offline"):
        shutil.move(home.path / folder, home.path.parent / f"sandbox-{folder}")
    home.edit("sandbox: true", "sandbox: false")
    for folder in (home.vault.folder, home.out):
        folder.mkdir()
    home.ceremony()
    return home
