"""Letting a machine's clock run doit: what is shown, what is written, and what is said about it."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pki.cli import schedule_command as command
from pki.common.errors import PkiError
from pki.config import loader
from pki.schedule import cron, systemd
from pki.schedule.job import Job
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import PROJECT, START, Home

USER = getpass.getuser()


@dataclass(frozen=True)
class Machine:
    """Folders in place of those of systemd, and a crontab and a systemctl of our own, which note what they are told."""

    path: Path

    @property
    def units(self) -> Path:
        return self.path / "units"

    @property
    def crontab(self) -> Path:
        return self.path / "crontab"

    @property
    def told(self) -> list[str]:
        log = self.path / "log"
        return log.read_text().splitlines() if log.exists() else []

    def program(self, name: str, body: str) -> None:
        path = self.path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)


CRONTAB = """\
[ "$1" != -u ] || shift 2
case $1 in
-l) [ -e {file} ] || {{ echo "no crontab" >&2; exit 1; }}; while read -r line; do printf '%s\\n' "$line"; done < {file} ;;
-) : > {file}; while read -r line; do printf '%s\\n' "$line" >> {file}; done ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path / "machine")
    found.units.mkdir(parents=True)
    found.program("systemctl", f'printf "%s\\n" "systemctl $*" >> {found.path}/log')
    found.program("crontab", CRONTAB.format(file=shlex.quote(str(found.crontab))))
    monkeypatch.setenv("PATH", str(found.path / "bin"))
    monkeypatch.setattr(systemd, "UNITS", found.units)
    monkeypatch.setattr(systemd, "SEALED", found.path / "sealed")
    monkeypatch.setattr(systemd, "OPEN", found.path / "open")
    monkeypatch.setattr(command, "RUNNING", found.path / "running")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwuid", lambda _: type("Entry", (), {"pw_name": USER}))
    return found


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    def call(home: Home, *arguments: str) -> Said:
        return said_by(capsys, "schedule", *arguments, pki_home=str(home.path), pki_now=START)

    return call


def at(home: Home, times: str) -> None:
    home.edit("ledger: sqlite", f"schedule: {times}\nledger: sqlite")


def errand(home: Home, program: Path = PROJECT / "run") -> Job:
    return Job(loader.load(home.path / "pki.yaml"), program, home.path, USER)


def unit(home: Home, kind: str = "service") -> list[str]:
    found = errand(home)
    return systemd.units(found)[f"{found.name}.{kind}"].splitlines()


def setting(lines: list[str], name: str) -> list[str]:
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


# -- showing ----------------------------------------------------------------------------------------------------------


def test_nothing_is_written_where_nobody_said_install(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    for way in ("--systemd", "--cron"):
        assert invoke(fresh, way).status == 0
    assert list(machine.units.iterdir()) == []
    assert not machine.crontab.exists()
    assert machine.told == []


def test_what_the_machine_has_is_what_is_shown(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    assert invoke(fresh).out.startswith("# the crontab of ")
    (machine.path / "running").mkdir()
    assert invoke(fresh).out.startswith(f"# {machine.units}/doit-pki-")
    (machine.path / "running").rmdir()
    (machine.path / "bin" / "crontab").unlink()
    assert invoke(fresh).error.startswith("this machine has neither systemd nor cron\n→ --systemd or --cron ")


def test_both_ways_at_once_are_refused(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    said = invoke(fresh, "--systemd", "--cron")
    assert (said.status, said.error.splitlines()[0]) == (1, "--systemd and --cron exclude each other")
    assert machine.told == []


def test_runs_come_at_the_times_of_pki_yaml(fresh: Home) -> None:
    assert setting(unit(fresh, "timer"), "OnCalendar") == ["*-*-* 06:00:00"]
    at(fresh, "[22:30, 05:07]")
    assert setting(unit(fresh, "timer"), "OnCalendar") == ["*-*-* 05:07:00", "*-*-* 22:30:00"]
    assert setting(unit(fresh, "timer"), "Persistent") == ["true"]
    assert [line[: line.index("PKI")] for line in cron.lines(errand(fresh))] == ["7 5 * * * ", "30 22 * * * "]


def test_delay_never_carries_a_run_out_of_the_window_of_a_host(fresh: Home) -> None:
    fresh.edit("    network: av\n", "    network: av\n    window: 01:00-02:10\n")
    for time, delay in (("01:00", "900"), ("02:00", "300"), ("02:06", "60")):
        text = (fresh.path / "pki.yaml").read_text()
        fresh.write("pki.yaml", re.sub(r"(?m)^schedule: .*\n", "", text))
        at(fresh, f"[{time}]")
        assert setting(unit(fresh, "timer"), "RandomizedDelaySec") == [delay]
    fresh.edit("02:06", "02:09")
    assert setting(unit(fresh, "timer"), "RandomizedDelaySec") == []
    assert setting(unit(fresh, "timer"), "AccuracySec") == ["1s"]


def test_service_runs_as_the_owner_of_the_project_and_writes_nowhere_else(fresh: Home) -> None:
    lines = unit(fresh)
    assert setting(lines, "User") == [USER]
    assert setting(lines, "ReadWritePaths") == [str(fresh.path)]
    assert setting(lines, "Environment") == [f"PKI_HOME={fresh.path}"]
    assert setting(lines, "ExecStart") == [f"{PROJECT}/run doit"]
    assert {
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "UMask=0077",
        "LimitCORE=0",
    } <= set(lines)


def test_service_may_ask_the_kernel_whether_its_clock_is_synchronised_and_cannot_set_it(fresh: Home) -> None:
    """`ProtectClock=` forbids both."""
    lines = unit(fresh)
    assert setting(lines, "ProtectClock") == []
    assert setting(lines, "SystemCallFilter")[-1] == "adjtimex clock_adjtime"
    assert setting(lines, "CapabilityBoundingSet") == ["~CAP_SYS_TIME CAP_WAKE_ALARM", ""]


def test_service_may_write_its_metrics_where_node_exporter_reads_them(fresh: Home) -> None:
    fresh.edit("ledger: sqlite", "ledger: sqlite\nmetrics: {textfile: /var/lib/node/pki.prom}")
    assert setting(unit(fresh), "ReadWritePaths") == [str(fresh.path), "-/var/lib/node"]
    fresh.edit("/var/lib/node/", "/var/lib/it's/")
    with pytest.raises(PkiError, match="it's: contains a quote"):
        errand(fresh).check()


def test_paths_with_blanks_and_percent_signs_are_written_as_systemd_reads_them(fresh: Home) -> None:
    home = Home(fresh.path.rename(fresh.path.with_name("my 100% pki")))
    assert setting(unit(home), "Environment") == [f'"PKI_HOME={home.path}"'.replace("%", "%%")]
    assert setting(unit(home), "ReadWritePaths") == [f'"{home.path}"'.replace("%", "%%")]
    assert setting(unit(home), "WorkingDirectory") == [str(home.path).replace("%", "%%")]


def test_shell_of_cron_starts_the_program_with_the_project_in_its_environment(fresh: Home, machine: Machine) -> None:
    machine.program("run", 'echo "$PKI_HOME $*"')
    home = Home(fresh.path.rename(fresh.path.with_name("my 100% pki")))
    (line,) = cron.lines(errand(home, machine.path / "bin" / "run"))
    words = line.split(" ", 5)[5]
    assert "%" not in words.replace("\\%", ""), "which cron takes for the end of the line"
    plain = words.replace("\\%", "%")
    done = subprocess.run(["/bin/sh", "-c", plain], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{home.path} doit\n"


def test_home_folders_are_closed_unless_something_in_them_is_needed(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    program = Path("/opt/doit-pki/run")

    def closed() -> list[str]:
        found = errand(fresh, program)
        return setting(systemd.units(found)[f"{found.name}.service"].splitlines(), "ProtectHome")

    assert closed() == ["yes"]
    monkeypatch.setattr(sys, "base_prefix", "/home/admin/python")
    assert closed() == ["read-only"]
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    fresh.edit("    network: av\n", "    network: av\n    deliver: ssh\n")
    assert closed() == ["read-only"], "ssh reads its configuration and its keys"


def test_each_credential_of_pki_yaml_is_loaded(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    fresh.edit(
        "secrets: secrets.yaml", "secrets: {server: {credential: pki-server}, client-1: {credential: pki-client}}"
    )
    sealed, plain = machine.path / "sealed", machine.path / "open"
    assert setting(unit(fresh), "LoadCredentialEncrypted") == [
        f"pki-client:{sealed}/pki-client",
        f"pki-server:{sealed}/pki-server",
    ]
    said = invoke(fresh, "--systemd").out
    assert said.count("will not start while the credential pki-") == 2
    assert f"systemd-creds encrypt --name=pki-client - {sealed}/pki-client" in said
    plain.mkdir()
    (plain / "pki-client").write_text("x")
    assert setting(unit(fresh), "LoadCredential") == [f"pki-client:{plain}/pki-client"]
    assert setting(unit(fresh), "LoadCredentialEncrypted") == [f"pki-server:{sealed}/pki-server"]
    assert invoke(fresh, "--cron").out.count("is available only under systemd") == 2


@pytest.mark.parametrize("source", ["{env: PKI}", "{fd: 3}", "prompt"])
def test_source_that_needs_somebody_is_named(fresh: Home, machine: Machine, invoke: Invoke, source: str) -> None:
    fresh.edit("secrets: secrets.yaml", f"secrets: {{client: {source}, backup: prompt}}")
    said = invoke(fresh, "--cron").out
    assert machine.told == []
    assert "action    secrets.client" in said
    assert "is not available in a scheduled run" in said
    assert "secrets.backup" not in said


def test_run_that_changes_its_own_machine_is_told_apart(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    fresh.edit("ledger: sqlite", "deploy: {ca: local}\nledger: sqlite")
    lines = unit(fresh)
    assert machine.told == []
    assert "UMask=0077" in lines
    assert not {"NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="} & set(lines), "sudo pki-apply"
    assert "deploys files on this machine (local)" in invoke(fresh, "--systemd").out


# -- installing -------------------------------------------------------------------------------------------------------


def test_units_are_written_enabled_and_taken_away_again(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    said = invoke(fresh, "--install", "--systemd", "--yes")
    name = errand(fresh).name
    assert said.status == 0
    assert {path.name for path in machine.units.iterdir()} == {f"{name}.service", f"{name}.timer"}
    assert (machine.units / f"{name}.service").read_text() in said.out
    assert machine.told == [f"systemctl enable {name}.timer"]
    (machine.path / "running").mkdir()
    invoke(fresh, "--install", "--systemd", "--yes")
    assert machine.told[1:] == [
        "systemctl daemon-reload",
        f"systemctl enable {name}.timer",
        f"systemctl restart {name}.timer",
    ]
    assert invoke(fresh, "--remove", "--yes").status == 0
    assert list(machine.units.iterdir()) == []
    assert machine.told[4:] == [f"systemctl disable --now {name}.timer", "systemctl daemon-reload"]
    assert invoke(fresh, "--remove", "--yes").out == "neither systemd nor cron runs doit for this project\n"


def test_nothing_is_written_without_consent(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    for way in ("--systemd", "--cron"):
        said = invoke(fresh, "--install", way)
        assert (said.status, said.error.splitlines()[0]) == (
            1,
            "there is no terminal to ask: write this? (yes or no)",
        )
    assert list(machine.units.iterdir()) == []
    assert not machine.crontab.exists()


def test_units_are_roots_to_write(
    fresh: Home, machine: Machine, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = invoke(fresh, "--install", "--systemd", "--yes")
    assert (said.status, said.error.splitlines()) == (
        1,
        ["only root can write units of systemd", "→ sudo ./run invoke schedule --install, or --cron"],
    )
    assert list(machine.units.iterdir()) == []


def test_other_lines_of_a_crontab_stay_and_ours_come_once(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    others = "MAILTO=me@lab.internal\n5 4 * * * /usr/bin/other # doit-pki\n"
    machine.crontab.write_text(others)
    at(fresh, "[06:00, 18:00]")
    for _ in range(2):
        assert invoke(fresh, "--install", "--cron", "--yes").status == 0
    lines = machine.crontab.read_text().splitlines()
    assert lines == [*others.splitlines(), *cron.lines(errand(fresh))]
    fresh.edit("[06:00, 18:00]", "[07:30]")
    said = invoke(fresh, "--cron").out
    assert "cron runs doit at 06:00, 18:00, pki.yaml says 07:30" in said
    invoke(fresh, "--install", "--cron", "--yes")
    assert len(machine.crontab.read_text().splitlines()) == 3
    assert "pki.yaml says" not in invoke(fresh, "--cron").out
    assert invoke(fresh, "--remove", "--yes").status == 0
    assert machine.crontab.read_text() == others


def test_clock_that_goes_otherwise_than_pki_yaml_says_is_told(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    fresh.edit("    network: av\n", "    network: av\n    window: 05:00-06:30\n")
    at(fresh, "[06:00]")
    for way in ("--systemd", "--cron"):
        invoke(fresh, "--install", way, "--yes")
    (timer,) = machine.units.glob("*.timer")
    assert "both run doit" in invoke(fresh, "--systemd").out
    timer.write_text(timer.read_text().replace("06:00:00", "12:00:00"))
    said = invoke(fresh, "--systemd").out
    assert "systemd runs doit at 12:00, pki.yaml says 06:00" in said
    assert "no run of systemd starts in its window 05:00-06:30" in said


def test_project_of_root_is_told_that_an_account_of_its_own_is_enough(
    fresh: Home, machine: Machine, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda _: type("Entry", (), {"pw_name": "root"}))
    assert machine.told == []
    said = invoke(fresh, "--systemd").out
    assert "doit runs as root, because" in said
    assert f"→ chown -R ACCOUNT: {fresh.path} (" in said
    monkeypatch.setattr("pwd.getpwuid", lambda _: type("Entry", (), {"pw_name": "pki"}))
    assert "as root" not in invoke(fresh, "--systemd").out


def test_project_that_no_crontab_can_name_is_refused(fresh: Home, machine: Machine, invoke: Invoke) -> None:
    home = Home(fresh.path.rename(fresh.path.with_name('a "project"')))
    said = invoke(home, "--cron")
    assert machine.told == []
    assert (said.status, said.error.splitlines()[-1]) == (1, "→ move it")
