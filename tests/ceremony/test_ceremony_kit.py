"""The kit for the offline machine: what is in it, what is not, and what a medium that is not fit leads to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from pki.ceremony import kit_unpacking, request_response
from pki.ceremony.online import kit
from pki.ceremony.online.kit import Machine
from pki.common.errors import PkiError
from pki.common.program_files import FILES, LOCKS
from tests.support.ceremonies import RealHome, real_home
from tests.support.projects import PROJECT

HERE = Machine()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A checkout in which somebody lives: with a project, keys, an environment and what runs leave behind."""
    folder = tmp_path / "checkout"
    (folder / "pki/__pycache__").mkdir(parents=True)
    for name in (*FILES, *LOCKS):
        shutil.copy(PROJECT / name, folder)
    for name in ("docs/a.md", "templates/nginx/site.conf", "pki/x509/certificate_signing.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("program")
    for name in ("pki/__pycache__/issue.pyc", "pki/.issue.py.new", "pki.yaml", "secrets.yaml", "key.pem"):
        (folder / name).write_text("PRIVATE")
    for name in (".venv", "ca", "build", "offline", "tests", ".git", "rehearsal", "wheels"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("PRIVATE")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheels come from pip elsewhere; here one stands for all."""

    def downloaded(_program: Path, folder: Path, _machine: Machine, *, hsm: bool) -> list[Path]:
        wheel = folder / f"one-{hsm}.whl"
        wheel.write_bytes(b"wheel")
        return [wheel]

    monkeypatch.setattr(kit, "download_wheels", downloaded)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_kit_holds_the_program_and_nothing_of_the_project(program: Path, tmp_path: Path) -> None:
    target = kit.check_place(tmp_path)
    kit.write_kit(target, program, HERE, {"request-0001.yaml": b"asked"}, hsm=False)
    assert files_of(target) == {
        *FILES,
        *LOCKS,
        "docs/a.md",
        "templates/nginx/site.conf",
        "pki/x509/certificate_signing.py",
        "wheels/one-False.whl",
        "wheels/made-for",
        "request-0001.yaml",
        "SHA256SUMS",
    }
    assert os.access(target / "run", os.X_OK)


def test_kit_lists_the_digest_of_every_file_and_is_named_by_that_of_the_list(program: Path, tmp_path: Path) -> None:
    target = kit.check_place(tmp_path)
    digest, count = kit.write_kit(target, program, HERE, {}, hsm=True)
    said = (target / "SHA256SUMS").read_bytes()
    assert hashlib.sha256(said).hexdigest() == digest
    listed = dict(reversed(line.split("  ", 1)) for line in said.decode().splitlines())
    assert listed.keys() == files_of(target) - {"SHA256SUMS"}
    assert count == len(listed)
    assert all(hashlib.sha256((target / name).read_bytes()).hexdigest() == found for name, found in listed.items())


def test_same_program_and_request_give_the_same_kit(program: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        target = kit.check_place(tmp_path / name)
        digests.add(kit.write_kit(target, program, HERE, {"request-0001.yaml": b"asked"}, hsm=False))
    assert len(digests) == 1


def test_kit_is_never_overwritten(program: Path, tmp_path: Path) -> None:
    kit.write_kit(kit.check_place(tmp_path), program, HERE, {}, hsm=False)
    with pytest.raises(PkiError, match="exists already"):
        kit.check_place(tmp_path)


def test_kit_that_cannot_be_written_leaves_nothing_behind(program: Path, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    medium.mkdir()
    (program / "run").unlink()
    with pytest.raises(PkiError, match="cannot be written"):
        kit.write_kit(kit.check_place(medium), program, HERE, {}, hsm=False)
    assert not list(medium.iterdir())


@pytest.mark.parametrize("said", [("3.10", ""), ("3", ""), ("py3", ""), ("", "win_amd64"), ("", "x86_64")])
def test_machine_that_nothing_fits_is_refused_with_an_example(said: tuple[str, str]) -> None:
    with pytest.raises(PkiError, match=r"such as (3\.13|manylinux_2_28_x86_64)"):
        Machine(*said)


def test_newer_system_takes_the_wheels_of_older_ones_too() -> None:
    options = list(Machine("3.13", "manylinux_2_28_aarch64").options())
    assert options[0] == "--python-version=3.13"
    assert "--platform=manylinux_2_28_aarch64" in options
    assert "--platform=manylinux2014_aarch64" in options
    assert not [option for option in options if "2_29" in option or "x86" in option]
    assert not list(HERE.options())


# -- taken from a drive that cannot be trusted ------------------------------------------------------------------------

READERS = ("cat", "cp", "tar", "cut", "sha256sum", "find", "wc", "grep", "sort", "head", "xargs", "install", "rsync")
EVIL = b"import os; os.system('id')\n"


class Drive:
    """A drive with a kit on it, at an offline machine; what is typed there is counted by the files that it opens."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.exchange, self.home, self.tools = folder / "exchange", folder / "home", folder / "tools"
        for place in (self.exchange, self.home, self.tools):
            place.mkdir()
        self.digest, self.count = kit.write_kit(
            kit.check_place(self.exchange), program, HERE, {"a b.txt": b"x"}, hsm=False
        )
        self.kit = self.exchange / kit.NAME

    def swap_after_each_program(self, change: str) -> None:
        """Have the drive give other bytes as soon as one program has read from it: `change` is shell text."""
        for name in READERS:
            if real := shutil.which(name):
                text = f'#!/bin/sh\n{real} "$@"\nstatus=$?\nPATH={os.environ["PATH"]}\n{change}\nexit $status\n'
                (self.tools / name).write_text(text)
                (self.tools / name).chmod(0o755)

    def type(self, *lines: str) -> str:
        """Type lines as they are printed, with this drive in place of /mnt/exchange."""
        text = "\n".join(lines).replace("/mnt/exchange", str(self.exchange))
        environment = {**os.environ, "HOME": str(self.home), "PATH": f"{self.tools}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def take(self) -> tuple[str, str]:
        """What the two steps say: the digest of the list, then that of the files."""
        first = self.type(*kit_unpacking.LIST)
        return first, self.type("cd ~/kit", *kit_unpacking.FILES, *kit_unpacking.CHECKS)


@pytest.fixture
def drive(program: Path, tmp_path: Path) -> Drive:
    return Drive(tmp_path, program)


def test_kit_is_taken_by_the_printed_lines(drive: Drive) -> None:
    first, second = drive.take()
    assert first == f"{drive.digest}  SHA256SUMS\n"
    assert second == f"whole\n{drive.count}\n"
    assert files_of(drive.home / "kit") == files_of(drive.kit)
    assert all(
        (drive.home / "kit" / name).read_bytes() == (drive.kit / name).read_bytes() for name in files_of(drive.kit)
    )


def test_drive_that_gives_other_bytes_at_the_second_read_gives_none_of_them(drive: Drive) -> None:
    """After the first program that touches it, every file of the drive is another one, and so is the list."""
    evil = drive.exchange / "evil"
    shutil.copytree(drive.kit, evil)
    (evil / "run").write_bytes(EVIL)
    (evil / ".venv").mkdir()
    (evil / ".venv/python").write_bytes(EVIL)
    sums = "".join(
        f"{hashlib.sha256((evil / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(files_of(evil) - {"SHA256SUMS"})
    )
    (evil / "SHA256SUMS").write_text(sums)
    drive.swap_after_each_program(
        f'if [ -d "{evil}" ]; then mv "{drive.kit}" "{drive.kit}.good"; mv "{evil}" "{drive.kit}"; fi'
    )
    first, second = drive.take()
    assert first == f"{drive.digest}  SHA256SUMS\n", "the list is the good one"
    assert "whole" not in second
    assert "run: FAILED" in second
    assert not (drive.home / "kit/.venv").exists()


def test_list_that_changes_between_two_reads_is_not_the_one_that_was_compared(drive: Drive) -> None:
    """A bad list first, the good one ever after: what is compared with the paper is what is used."""
    good = (drive.kit / "SHA256SUMS").read_bytes()
    (drive.exchange / "good").write_bytes(good)
    (drive.kit / ".venv").mkdir()
    (drive.kit / ".venv/python").write_bytes(EVIL)
    more = f"{hashlib.sha256(EVIL).hexdigest()}  .venv/python\n".encode()
    (drive.kit / "SHA256SUMS").write_bytes(good + more)
    drive.swap_after_each_program(f'cp "{drive.exchange}/good" "{drive.kit}/SHA256SUMS"')
    assert drive.digest not in drive.type(*kit_unpacking.LIST)


@pytest.mark.parametrize("name", [".venv/bin/python", "sitecustomize.py", "wheels/evil.whl", "pki/evil.py"])
def test_file_that_the_list_does_not_name_is_left_on_the_drive(drive: Drive, name: str) -> None:
    (drive.kit / name).parent.mkdir(parents=True, exist_ok=True)
    (drive.kit / name).write_bytes(EVIL)
    first, second = drive.take()
    assert first.startswith(drive.digest)
    assert second == f"whole\n{drive.count}\n"
    assert not (drive.home / "kit" / name).exists()


@pytest.mark.parametrize("kind", ["link", "folder link", "fifo", "lost"])
def test_file_that_is_no_plain_file_on_the_drive_is_a_plain_copy_or_is_missed(drive: Drive, kind: str) -> None:
    """A link to the drive would be read again whenever it is used: what was checked would not be what is run."""
    target, outside = drive.kit / "pki/x509/certificate_signing.py", drive.exchange / "outside"
    if kind == "folder link":
        (drive.kit / "pki").rename(outside)
        (drive.kit / "pki").symlink_to(outside)
    else:
        target.rename(outside)
        if kind == "link":
            target.symlink_to(outside)
        elif kind == "fifo":
            os.mkfifo(target)
            threading.Thread(target=lambda: target.write_bytes(EVIL)).start()
    _, second = drive.take()
    assert ("whole" in second) == (kind in {"link", "folder link"})
    copied = drive.home / "kit/pki/x509/certificate_signing.py"
    assert not copied.is_symlink()
    assert copied.is_file()
    assert not (drive.home / "kit/pki").is_symlink()


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace command")
def test_no_byte_is_read_from_the_drive_twice(drive: Drive) -> None:
    """Each file is opened once by all that is typed, the list too: strace counts."""
    log = drive.home.parent / "opened"
    text = "\n".join([*kit_unpacking.LIST, *kit_unpacking.FILES, *kit_unpacking.CHECKS]).replace(
        "/mnt/exchange", str(drive.exchange)
    )
    (drive.home.parent / "typed").write_text(text)
    subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", log, "sh", drive.home.parent / "typed"],
        env={**os.environ, "HOME": str(drive.home)},
        check=True,
        capture_output=True,
    )
    opened = re.findall(rf'"{re.escape(str(drive.kit))}/([^"]+)"', log.read_text())
    assert sorted(opened) == sorted(files_of(drive.kit))


# -- the request ------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> RealHome:
    return real_home(tmp_path)


def test_request_in_the_kit_is_the_file_that_was_asked_to_the_byte(home: RealHome) -> None:
    asked = home.ask()
    assert request_response.dump(asked.request) == asked.path.read_bytes()
