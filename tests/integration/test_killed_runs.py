"""kill -9 at any moment: the next run finds a house that it can finish, and nothing that it would believe wrongly."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.conftest import PROJECT
from tests.integration.conftest import LiveHome, moved_clock

MOMENTS = 25
SEED = 20261123


def moments() -> list[float]:
    """Random parts of a run, one in each of equal stretches."""
    chance = random.Random(SEED)  # noqa: S311 - no secret hangs on it
    return [(number + chance.random()) / MOMENTS for number in range(MOMENTS)]


def kill_after(home: LiveHome, seconds: float, **environment: str) -> None:
    process = home.start_doit(**environment)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def visible_certificates(home: LiveHome) -> Iterator[tuple[Path, x509.Certificate]]:
    for folder in ("ca", "build"):
        for path in (home.path / folder).rglob("*"):
            if path.suffix in {".pem", ".crt"} and not path.name.startswith(".") and path.is_file():
                data = path.read_bytes()
                if b"BEGIN CERTIFICATE-----" in data:
                    yield from ((path, found) for found in x509.load_pem_x509_certificates(data))
                elif path.suffix == ".crt":
                    yield path, x509.load_der_x509_certificate(data)


def assert_believable(home: LiveHome) -> None:
    """What holds at every moment: recorded before visible, whole pairs, a whole ledger."""
    visible = list(visible_certificates(home))
    if visible or (home.path / "ca/ledger.db").exists():
        ledger = home.house().ledger
        recorded = {found.serial for found in ledger.certificates()}
        unknown = {str(path) for path, found in visible if found.serial_number not in recorded}
        assert not unknown, f"visible, and not in the ledger: {unknown}"
        assert ledger.verify() == []
        ledger.close()
    for folder in ("ca", "build"):
        for path in (home.path / folder).rglob("tls.pem"):
            assert_pair(path)


def assert_pair(path: Path) -> None:
    data = path.read_bytes()
    key, certificate = load_pem_private_key(data, None), x509.load_pem_x509_certificate(data)
    assert key.public_key() == certificate.public_key(), f"{path}: key and certificate do not belong together"


def assert_finished(home: LiveHome, days: int) -> None:
    """One run mends all: complete, believable, nothing left beside, and nothing to do for the next."""
    report = home.doit(days=days)
    assert report.status == 0, report.failed
    assert home.doit(days=days).made == {}
    assert_believable(home)
    for folder in ("ca/clients", "build/certs"):
        for path in (home.path / folder).rglob("key.pem"):
            assert path.read_bytes() == path.with_name("tls.pem").read_bytes().partition(b"-----BEGIN CERT")[0]
            assert_pair(path.with_name("tls.pem"))
    for path in (home.path / "build/hosts").rglob("etc/doit-pki/*.pem"):
        if b"PRIVATE KEY" in path.read_bytes():
            assert_pair(path)
    left = [str(path) for path in home.path.rglob(".*.new")]
    assert not left, f"left beside: {left}"


@pytest.fixture(scope="module")
def build_takes(tmp_path_factory: pytest.TempPathFactory, new_house: LiveHome) -> float:
    """Seconds that a whole first run takes here, as a process."""
    home = new_house.copy(tmp_path_factory.mktemp("measured") / "home")
    started = time.monotonic()
    assert home.start_doit().wait() == 0
    return time.monotonic() - started


@pytest.fixture(scope="module")
def renewal_takes(tmp_path_factory: pytest.TempPathFactory, built_once: Path) -> float:
    """Seconds that the run on day 61 takes."""
    home = LiveHome(built_once).copy(tmp_path_factory.mktemp("measured") / "home")
    started = time.monotonic()
    assert home.faked_doit(61).status == 0
    return time.monotonic() - started


@pytest.mark.parametrize("moment", moments(), ids="{:.2f}".format)
def test_first_build_survives_kill(moment: float, build_takes: float, new_house: LiveHome, tmp_path: Path) -> None:
    home = new_house.copy(tmp_path / "home")
    kill_after(home, moment * build_takes)
    assert_believable(home)
    assert_finished(home, 0)
    shutil.rmtree(home.path)


@pytest.mark.parametrize("moment", moments(), ids="{:.2f}".format)
def test_renewal_survives_kill(moment: float, renewal_takes: float, home: LiveHome) -> None:
    kill_after(home, moment * renewal_takes, **moved_clock(61))
    assert_believable(home)
    assert_finished(home, 61)


# The ceremony is short, and random moments seldom hit it: here the process kills itself before its n-th rename.
KILLED_BEFORE_RENAME = """
import os, runpy, signal, sys
left, rename = int(sys.argv[1]), os.replace
def replace(old, new):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(old, new)
os.replace = replace
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("rename", range(1, 21))
def test_ceremony_survives_kill_before_each_rename(rename: int, new_house: LiveHome, tmp_path: Path) -> None:
    home = new_house.copy(tmp_path / "home")
    command = [sys.executable, "-c", KILLED_BEFORE_RENAME, str(rename), "doit", "authority"]
    done = subprocess.run(command, cwd=PROJECT, env=home.environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, "the ceremony has fewer renames than this test believes"
    assert_believable(home)
    report = home.doit("authority")
    assert report.status == 0, report.failed
    assert_believable(home)
    left = [str(path) for folder in ("ca", "offline") for path in (home.path / folder).rglob(".*.new")]
    assert not left, f"left beside: {left}"


@pytest.mark.parametrize("rename", [1, 2, 3])
def test_new_passphrase_survives_kill_before_each_rename(rename: int, home: LiveHome) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_RENAME, str(rename), "invoke", "ca.rewrap", "server-1"]
    done = subprocess.run(command, cwd=PROJECT, env=home.environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    home.invoke("renew", "media")
    home.invoke("ca.rewrap", "server-1")
    assert b"server-1.new" not in home.read("secrets.yaml")
    assert_finished(home, 0)
