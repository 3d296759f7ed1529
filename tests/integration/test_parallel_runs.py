"""`doit -n` as a whole program: ended by any signal, in a container without shared memory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.integration.conftest import TIMEOUT, LiveHome, run
from tests.support.projects import PROJECT

SIGNALS = [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP]
MOMENTS = int(os.environ.get("PKI_SAMPLES", "1"))
AT_ONCE = "4"


def processes_of(session: int) -> list[str]:
    """Processes that still live in a session, as `ps` shows them."""
    shown = subprocess.run(
        ["ps", "-o", "pid=,stat=,args=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [line for line in shown.stdout.splitlines() if " Z" not in line]


def soon_none(session: int) -> list[str]:
    """What is left of a session after the moment that the kernel and a cleaning-up worker need."""
    deadline = time.monotonic() + TIMEOUT
    while (left := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def started(home: LiveHome) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "doit", "-n", AT_ONCE],
        cwd=PROJECT,
        env=home.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def build_takes(tmp_path_factory: pytest.TempPathFactory, new_project: LiveHome) -> float:
    """Seconds that a whole first run with several processes takes here."""
    home = new_project.copy(tmp_path_factory.mktemp("measured") / "home")
    begun = time.monotonic()
    assert started(home).wait(TIMEOUT) == 0
    return time.monotonic() - begun


@pytest.fixture
def unbuilt(new_project: LiveHome, tmp_path: Path) -> Iterator[LiveHome]:
    home = new_project.copy(tmp_path / "home")
    yield home
    shutil.rmtree(home.path)


@pytest.mark.parametrize("whole_group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_nothing_is_left_of_a_run_that_is_ended_and_the_next_one_finishes(
    moment: int, number: signal.Signals, whole_group: bool, build_takes: float, unbuilt: LiveHome
) -> None:
    process = started(unbuilt)
    time.sleep((moment + 0.6) / MOMENTS * build_takes)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    process.wait(TIMEOUT)
    assert soon_none(process.pid) == []
    said = run(sys.executable, "-m", "doit", cwd=PROJECT, env=unbuilt.environment)
    assert "waiting for another run" not in said
    assert "failed" not in said
    assert unbuilt.doit().made == {}
    assert not list(unbuilt.path.rglob(".*.new"))


# Debian's python opens semaphores below /dev/shm, which a container may lack, or have read-only.
WITHOUT_SHM = {
    "absent": "umount /dev/shm 2>/dev/null; mount -t tmpfs -o size=64k none /dev && mknod -m 666 /dev/null c 1 3"
    " && mknod -m 666 /dev/urandom c 1 9",
    "read-only": "mount -t tmpfs -o ro none /dev/shm",
}


@pytest.mark.parametrize("how", WITHOUT_SHM)
def test_runs_and_revocations_need_no_shared_memory(how: str, home: LiveHome) -> None:
    """Two hosts by ssh are what makes `revoke` start several processes."""
    for host in ("forge", "media"):
        home.edit(f"  {host}:\n", f"  {host}:\n    deliver: ssh\n")
    serial = x509.load_pem_x509_certificate(home.read("ca/clients/admin/cert.pem")).serial_number
    script = f"{WITHOUT_SHM[how]} && exec {sys.executable} -m invoke revoke admin --reason key-compromise --yes"
    said = run("unshare", "-m", "sh", "-c", script, ok=False, cwd=PROJECT, env=home.environment)
    assert "Traceback" not in said
    entries = x509.load_der_x509_crl(home.read("build/crl/client-1.crl"))
    assert entries.get_revoked_certificate_by_serial_number(serial) is not None
    assert re.search(r"^folder +monitoring +written to a folder", said, re.MULTILINE)
    not_verified = "revoked and published; not verified: forge/forgejo, monitoring;"
    assert said.splitlines()[-1].startswith(not_verified), "nobody reaches the one, and the other is a folder"
