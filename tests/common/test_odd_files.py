"""What stands in place of a file: it is named, and nobody waits for it; and whose the files are that root wrote."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pki.common import filesystem
from pki.common.errors import PkiError
from tests.support.copies import copy_project
from tests.support.odd_files import ODD, fifo
from tests.support.projects import Home
from tests.support.typed import typed

NOBODY = 65534

IN_PLACE_OF = {  # file → whether a run can do without it
    "pki.yaml": False,
    "ca/ledger.db": False,
    "ca/.run.lock": False,
    "ca/server/server-1/cert.pem": False,
    "ca/server/server-1/key.pem": False,
    "build/certs/media/tls.pem": False,
    "build/certs/media/cert.pem": False,
    "build/crl/client-1.crl": False,
    "build/trust/roots.pem": False,
    "build/release/media/files/etc/doit-pki/media.pem": False,
    "build/hosts/media/etc/doit-pki/media.pem": False,
    "build/hosts/.media.files": True,
    "build/.seen.json": True,
    "build/release/media/manifest.json": True,
    "secrets.yaml": False,
    "build/receipts/media.json": True,
    "build/contacts/media.json": True,
    "build/report/status.json": True,
    "build/report/probes.json": True,
    "ca/.alerts.json": True,
    "ca/.last-backup.json": True,
}


@pytest.fixture(autouse=True)
def _nobody_waits() -> Iterator[None]:
    """A test that waits for a pipe ends with an error."""

    def waited(*_: object) -> None:
        raise TimeoutError("somebody waits for what is no file")

    signal.signal(signal.SIGALRM, waited)
    signal.alarm(100)
    yield
    signal.alarm(0)


@pytest.mark.parametrize(("make", "said"), ODD.values(), ids=ODD)
def test_what_stands_in_place_of_a_file_is_named_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "one"
    make(path)
    with pytest.raises(PkiError) as caught:
        filesystem.read(path)
    assert caught.value.message == f"{path}: {said}"
    assert filesystem.read_if_possible(path) is None
    command = caught.value.hint.partition("then: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    assert filesystem.read(path) is None, "the hint did not help"


def test_health_names_what_stands_in_place_of_the_secrets(home: Home) -> None:
    (home.path / "secrets.yaml").unlink()
    fifo(home.path / "secrets.yaml")
    done = typed(home, "invoke", "health")
    assert done.returncode == 4
    assert "secrets.yaml: is a named pipe, not a file" in done.stdout


def test_a_file_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert filesystem.read(tmp_path / "link") == b"content"


@pytest.mark.parametrize("name", IN_PLACE_OF)
@pytest.mark.parametrize("kind", ["a pipe", "a dangling link"])
def test_a_run_names_what_stands_in_place_of_a_file_or_does_without_it(home: Home, name: str, kind: str) -> None:
    path = home.path / name
    if path.is_file():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    make, said = ODD[kind]
    make(path)
    done = typed(home, "doit")
    assert "Traceback" not in done.stdout + done.stderr
    if IN_PLACE_OF[name]:
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert done.returncode != 0
        assert said in done.stdout + done.stderr, done.stdout + done.stderr
        assert name.rpartition("/")[2] in done.stdout + done.stderr


# -- whose the files are ----------------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another account")


def give_away(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def roots(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.lstat().st_uid != NOBODY]


@as_root
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    give_away(tmp_path / "project")
    path = tmp_path / "project/build/new/file"
    filesystem.write(path, b"content", filesystem.SECRET)
    filesystem.append(path.with_name("log"), b"line\n")
    assert roots(tmp_path / "project") == []
    assert filesystem.mode_of(path) == filesystem.SECRET


@as_root
@pytest.mark.parametrize("days", [0, 40, 80])
def test_a_whole_run_as_root_leaves_every_file_to_the_owner_of_the_project(
    home: Home, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    give_away(home.path)
    (home.path / "pki.yaml").touch()
    home.doit(days=days)
    assert roots(home.path) == []


@as_root
def test_a_first_run_as_root_leaves_every_file_to_the_owner_of_the_project(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    give_away(fresh.path)
    assert fresh.doit().status == 0
    assert roots(fresh.path) == []


@as_root
@pytest.mark.parametrize("name", [name for name, is_needless in IN_PLACE_OF.items() if is_needless])
def test_a_run_does_without_a_file_that_it_cannot_read_and_does_not_need(opened: Home, name: str) -> None:
    path = opened.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    give_away(opened.path)
    os.chown(path, 0, 0)
    path.chmod(0o600)
    done = typed(opened, "doit", account=NOBODY)
    assert done.returncode == 0, done.stdout + done.stderr


@as_root
@pytest.mark.parametrize(
    "name", ["pki.yaml", "secrets.yaml", "ca/ledger.db", "ca/.run.lock", "ca/root/root-1/cert.pem", "ca/server"]
)
def test_a_file_that_cannot_be_read_and_is_needed_is_named_with_the_command_that_helps(opened: Home, name: str) -> None:
    give_away(opened.path)
    path = opened.path / name
    path.touch()
    os.chown(path, 0, 0)
    path.chmod(0o700 if path.is_dir() else 0o600)
    (opened.path / "build/.seen.json").unlink()
    done = typed(opened, "doit", account=NOBODY)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in said
    assert str(path) in said, said
    command = said.partition("sudo ")[2].partition("\n")[0].rstrip(")")
    assert command.startswith("chown -R nobody "), said
    subprocess.run(shlex.split(command), check=True)
    done = typed(opened, "doit", account=NOBODY)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def opened(home: Home) -> Iterator[Home]:
    """The example in a folder that every account may look into: pytest closes its own ones."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy_project(home.path, Path(folder, "home"))
        yield Home(Path(folder, "home"))
