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
from tests.support.samples import function_of, leave_out

TESTS = Path(__file__).parent
SAMPLED = {  # functions of which one case in so many is run in the whole fast suite
    "backup/test_restoring.py::test_after_every_loss_nothing_new_is_made_restore_is_named_and_then_nothing_is_due": 3,
    "common/test_odd_files.py::test_a_run_names_what_stands_in_place_of_a_file_or_does_without_it": 3,
    "ceremony/test_ceremony_bundles.py::test_no_mutation_of_a_response_is_accepted_even_by_a_careless_operator": 3,
    "test_pki_apply.py::test_a_hostile_stream_is_refused_in_a_sentence_and_nothing_changes": 3,
    "deploy/test_stolen_keys.py::test_it_can_place_no_root_that_is_not_accepted_in_whatever_form": 3,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the whole fast suite, take samples of long lists; a file or a folder that is named is tested as a whole."""
    if config.args == config.getini("testpaths"):
        leave_out(config, items, lambda item: SAMPLED.get(f"{item.path.relative_to(TESTS)}::{function_of(item)}", 1))


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
