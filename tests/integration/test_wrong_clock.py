"""A wrong clock, in whole processes: what a run refuses, who confirms the clock, and what the next right one fixes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT, LiveHome, faketime, moved_clock, now, run
from tests.support import judges
from tests.support.hosts import FolderHost
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT

DOIT = (sys.executable, "-m", "doit")
INVOKE = (sys.executable, "-m", "invoke")
AHEAD = [40, 330, 400, 600]  # days
REFUSED = "./run doit --clock-is-right"
HOSTS = ("clock-a", "clock-b")


@dataclass(frozen=True)
class Lab:
    """A project, and the environment of its commands: an ssh that leads to hosts in folders."""

    home: LiveHome
    folder: Path

    def environment(self, days: int = 0, text: str = "") -> dict[str, str]:
        moved: Mapping[str, str] = faketime(text) | {"DONT_FAKE_MONOTONIC": "1"} if text else {}
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return {**self.home.environment, "PATH": path, **(moved_clock(days) if days else moved)}

    def doit(self, *words: str, days: int = 0, text: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [*DOIT, *words],
            cwd=PROJECT,
            env=self.environment(days, text),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def confirmed(self, *words: str, days: int = 0, answer: bytes = b"yes\n") -> int:
        """`doit --clock-is-right`, typed and answered at a terminal; its exit status."""
        terminal, end = pty.openpty()
        with subprocess.Popen(
            [*DOIT, "--clock-is-right", *words],
            cwd=PROJECT,
            env=self.environment(days),
            stdin=end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            os.write(terminal, answer)
            status = process.wait(TIMEOUT)
        os.close(end)
        os.close(terminal)
        return status

    def hosts_show(self, days: int) -> None:
        """Set the clocks of the hosts."""
        for name in HOSTS:
            (self.folder / name / "clock").write_text(str(int((now() + timedelta(days=days)).timestamp())))

    def events(self) -> int:
        project = self.home.project()
        found = len(project.ledger.events())
        project.ledger.close()
        return found

    def assert_well(self) -> None:
        """Another run has nothing to do, and OpenSSL takes all that is served now, its CRLs too."""
        status, said = self.doit()
        assert (status, is_idle(said)) == (0, True), said
        build = self.home.path / "build"
        for leaf in build.glob("certs/*/"):
            crls = ("-crl_check_all", "-CRLfile", str(self.folder / "crls.pem"))
            (self.folder / "crls.pem").write_bytes(b"".join(one.read_bytes() for one in build.glob("crl/*-[0-9].pem")))
            run(
                *("openssl", "verify", "-x509_strict", *crls, "-CAfile", build / "trust/roots.pem"),
                *("-untrusted", leaf / "chain.pem", leaf / "cert.pem"),
            )
        for path in build.glob("hosts/*/**/*crl*.pem"):
            for crl in judges.crls(path.read_bytes()):
                assert crl.next_update_utc is not None
                assert crl.last_update_utc <= now() < crl.next_update_utc, path


@pytest.fixture
def lab(home: LiveHome, tmp_path: Path) -> Lab:
    far = now().astimezone() + timedelta(hours=11)  # nothing is delivered to them until then: they only tell their date
    window = f"{far:%H:%M}-{far + timedelta(hours=1):%H:%M}"
    hosts = "".join(f'  {name}: {{network: mgmt, deliver: ssh, window: "{window}"}}\n' for name in HOSTS)
    home.edit("hosts:\n", f'schedule: ["{far:%H:%M}"]\nhosts:\n{hosts}')
    for name in HOSTS:
        made = FolderHost.new(tmp_path / name)
        made.conf.write_text(made.conf.read_text().replace("host media", f"host {name}"))
    (tmp_path / "bin").mkdir()
    words = "|".join(HOSTS)
    ssh = tmp_path / "bin/ssh"
    ssh.write_text(f"#!/bin/sh\nfor word; do case $word in {words}) exec {tmp_path}/$word/pki-apply ;; esac; done\n")
    ssh.chmod(0o755)
    found = Lab(home, tmp_path)
    found.hosts_show(-4000)
    assert found.doit()[0] == 0
    return found


@pytest.mark.parametrize("days", [-400, *AHEAD[1:]])
def test_a_run_under_a_clock_that_nobody_confirms_signs_nothing_and_the_next_right_one_has_nothing_to_do(
    lab: Lab, days: int
) -> None:
    before = lab.events()
    status, said = lab.doit(days=days)
    assert status in {1, 2}, said
    assert REFUSED in " ".join(said.split()), said
    assert "clock-a says" in said
    assert lab.events() == before
    lab.assert_well()


def test_a_battery_that_died_signs_nothing(lab: Lab) -> None:
    before = lab.events()
    status, said = lab.doit(text="1970-01-01 00:10:00")
    assert status in {1, 2}, said
    assert REFUSED in " ".join(said.split()), said
    assert lab.events() == before
    lab.assert_well()


def test_a_machine_that_was_off_for_four_months_recovers_by_itself(lab: Lab) -> None:
    status, said = lab.doit(days=122)
    assert (status, "renewed   cert:media" in said) == (0, True), said
    assert is_idle(lab.doit("-n", "2", days=122)[1])


@pytest.mark.parametrize("days", AHEAD)
def test_two_hosts_that_show_the_same_confirm_a_clock_and_later_the_right_one(lab: Lab, days: int) -> None:
    """As where a whole network followed a wrong time server once."""
    lab.hosts_show(days)
    status, said = lab.doit(days=days)
    assert (status, "issued    crl:client-1" in said) == (0, True), said
    lab.hosts_show(0)
    status, said = lab.doit()
    assert (status, "issued    crl:client-1" in said) == (0, True), said
    lab.assert_well()


@pytest.mark.parametrize("days", AHEAD)
def test_a_confirmation_that_was_wrong_is_mended_by_one_that_is_right(lab: Lab, days: int) -> None:
    assert lab.confirmed(days=days, answer=b"no\n") == (0 if days < 180 else 3)
    words = (
        () if days == 600 else ("-n", "2")
    )  # on that day the sandbox holds a ceremony, which another process notices late
    assert lab.confirmed(*words, days=days) == 0
    assert is_idle(lab.doit(days=days)[1])
    status, said = lab.doit()
    if status:  # without a kernel clock in step, as in a container
        assert REFUSED in " ".join(said.split()), said
        health = run(*INVOKE, "health", ok=False, cwd=PROJECT, env=lab.environment())
        assert REFUSED in " ".join(health.split())
        assert lab.confirmed() == 0
    lab.assert_well()
    project = lab.home.project()
    assert project.ledger.verify() == []
    kinds = [one.decision for one in project.ledger.decisions(artifact="project")]
    assert kinds == ["clock-confirmed"] * ((days > 180) + bool(status))


def test_a_confirmation_needs_a_terminal(lab: Lab) -> None:
    status, said = lab.doit("--clock-is-right", days=400)
    assert (status, "the clock must be confirmed at a terminal" in said) == (3, True), said
