"""One fixture for all: `home`, a whole sandbox with every ceremony held, in a temporary folder of its own."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.common import child_processes
from pki.common.errors import PkiError
from pki.common.limited_process import LimitedProcess
from tests.support.copies import copy_project
from tests.support.projects import RENDERED_IN_A_CHILD, Home, bare_home, hasty, keys_opened_once, rendered_here


@pytest.fixture(scope="session", autouse=True)
def _imported_is_no_garbage() -> Iterator[None]:
    """What is imported is looked through once, and not each time that garbage is collected; runs freeze nothing more."""
    gc.set_threshold(10_000)
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        yield


@pytest.fixture(autouse=True)
def tidied() -> Iterator[None]:
    """A run leaves no garbage to collect, for it is the last thing in its process; here a thousand others follow."""
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def _nothing_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test took out of the environment is unknown to the next one."""
    monkeypatch.setattr(child_processes, "_removed", {})


@pytest.fixture(scope="session", autouse=True)
def _keys_opened_once() -> Iterator[None]:
    with keys_opened_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def haste() -> Iterator[None]:
    """Be hasty in every test."""
    with hasty():
        yield


@pytest.fixture(scope="session", autouse=True)
def templates_rendered_here() -> Iterator[None]:
    with rendered_here():
        yield


@pytest.fixture
def rendered_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render templates in a child process with limits, as for users."""
    monkeypatch.setattr(LimitedProcess, "ask", RENDERED_IN_A_CHILD)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example after its first run: built once, copied for each test (passphrases take 0.1 s each to try)."""
    home = bare_home(tmp_path_factory.mktemp("built") / "home")
    report = home.doit()
    if report.status:
        raise PkiError(f"the example does not build: {report.failed}")
    return home.path


@pytest.fixture
def home(built_once: Path, tmp_path: Path) -> Iterator[Home]:
    """The example after its first run, at the moment START."""
    target = tmp_path / "home"
    copy_project(built_once, target)
    yield Home(target)
    shutil.rmtree(target)


@pytest.fixture
def fresh(tmp_path: Path) -> Home:
    """The example before its first run."""
    return bare_home(tmp_path / "home")


@pytest.fixture(scope="session")
def real_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example outside the sandbox, after its root ceremony and its first run; the vault lies beside it."""
    from tests.support.ceremonies import real_home  # noqa: PLC0415 - which stands on this module

    home = real_home(tmp_path_factory.mktemp("real"))
    home.ceremony()
    report = home.doit()
    if report.status:
        raise PkiError(f"the example does not build: {report.failed}")
    return home.path.parent


@pytest.fixture
def real(real_once: Path, tmp_path: Path) -> Iterator[Home]:
    """The example outside the sandbox, after its root ceremony and its first run, at the moment START."""
    from tests.support.ceremonies import RealHome  # noqa: PLC0415 - which stands on this module

    copy_project(real_once, tmp_path / "real")
    yield RealHome(tmp_path / "real" / "project")
    shutil.rmtree(tmp_path / "real")
