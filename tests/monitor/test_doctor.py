"""`doctor`: what it reports of a machine and of a project's needs, and that it leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from pki.monitor.check_result import Level
from pki.monitor.doctor import machine, packages, project_folder, project_needs
from pki.monitor.doctor.observation import MachineObservation
from tests.support.commands import said_by
from tests.support.projects import PROJECT

EXAMPLE = (PROJECT / "pki.yaml").read_text()
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def faults(observations: list[MachineObservation]) -> dict[str, Level]:
    return {one.checked: one.level for one in observations if one.level}


def needs(home: Path, more: str) -> dict[str, MachineObservation]:
    (home / "pki.yaml").write_text(EXAMPLE + more)
    return {one.checked: one for one in project_needs.observe_project(home)}


# -- the command ------------------------------------------------------------------------------------------------------


def test_it_works_outside_of_any_project_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKI_CALLED_FROM", str(tmp_path))
    said = said_by(capsys, "doctor", "--json", pki_home="")
    report = json.loads(said.out)
    assert (report["project"], list(tmp_path.iterdir())) == ("", [])
    assert {"Python", "packages", "clock", "disk", "file system", "umask"} <= {
        one["checked"] for one in report["checks"]
    }
    assert all(one["remedy"] for one in report["checks"] if one["level"] != "ok")
    assert said.status == {"ok": 0, "notice": 2, "warning": 3, "critical": 4}[report["worst"]]


def test_a_missing_program_has_a_command_to_type(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKI_CALLED_FROM", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    said = said_by(capsys, "doctor", pki_home="")
    assert "notice    ssh                      not found; needed for hosts with deliver: ssh\n" in said.out
    assert "→ apt install openssh-client\n" in said.out
    assert said.status >= 2


# -- the machine ------------------------------------------------------------------------------------------------------


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "invoke==0.0.1 ; python_version > '3' \\\n    --hash=sha256:00\nno-such-package==1.0 \\\n    --hash=sha256:00\n"
    )
    missing, other, count = packages.observe_packages(lock)
    assert (missing.seen, missing.level) == ("not installed: no-such-package", Level.CRITICAL)
    assert other.seen.startswith("at another version than requirements.lock: invoke ")
    assert (other.level, count.seen) == (Level.WARNING, "0 of 2 at the version of requirements.lock")


def test_other_versions_of_packages_are_one_line_without_a_remedy_in_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "IS_INSTALLED", True)
    lock = tmp_path / "requirements.lock"
    lock.write_text("invoke==0.0.1 \\\n    --hash=sha256:00\n")
    (line,) = packages.observe_packages(lock)
    assert line.seen.startswith("0 of 1 at the version of requirements.lock; at another version: invoke ")
    assert (line.level, line.remedy) == (Level.OK, "")


def test_a_clock_that_is_not_the_one_of_the_kernel_is_critical(monkeypatch: pytest.MonkeyPatch) -> None:
    for kernel, level in ((NOW, Level.OK), (None, Level.NOTICE), (NOW.replace(hour=9), Level.CRITICAL)):
        monkeypatch.setattr(machine, "kernel_time", lambda at=kernel: at)
        assert machine.observe_clock(NOW).level is level


def test_a_umask_that_hides_files_from_their_owner_is_critical() -> None:
    before = os.umask(0o777)
    try:
        assert machine.observe_umask().level is Level.CRITICAL
        os.umask(0o077)
        assert machine.observe_umask() == MachineObservation(
            "umask", "0077: new files are 0600; secrets are always 0600"
        )
    finally:
        os.umask(before)


@pytest.mark.parametrize("home", ["", "/nonexistent", "/dev/null"])
def test_a_home_that_is_no_folder_is_reported(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert machine.observe_home().level is Level.WARNING


def test_output_that_is_not_utf_8_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", SimpleNamespace(encoding="ANSI_X3.4-1968"))
    assert machine.observe_encoding().remedy == "export LC_ALL=C.UTF-8"


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setattr(machine, "WEB_PORTS", (server.getsockname()[1],))
        assert " in use;" in machine.observe_ports().seen
    assert " free;" in machine.observe_ports().seen


# -- the folder -------------------------------------------------------------------------------------------------------


def test_a_file_system_that_works_is_left_empty(tmp_path: Path) -> None:
    assert faults(list(project_folder.observe_file_system(tmp_path))) == {}
    assert list(tmp_path.iterdir()) == []


def test_locks_that_exclude_nobody_and_a_failing_fsync_are_critical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(os, "fsync", fails)
    seen = [(one.seen.partition(": ")[2], one.level) for one in project_folder.observe_file_system(tmp_path)]
    assert seen == [
        ("fsync fails (Input/output error): a power failure could lose a recorded certificate", Level.CRITICAL),
        ("locks do not exclude other processes: two runs could disturb each other", Level.CRITICAL),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_critical() -> None:
    [one] = project_folder.observe_file_system(Path("/proc"))
    assert (one.checked, one.level) == ("file system", Level.CRITICAL)
    assert "/proc: no file can be written there" in one.seen


# -- the needs of a project -------------------------------------------------------------------------------------------


def test_a_project_needs_what_its_pki_yaml_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.util, "find_spec", lambda _: None)
    monkeypatch.setattr(project_needs, "SYSTEMD", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    text = EXAMPLE.replace("ledger: sqlite", "ledger: postgresql+psycopg://pki@db.lab.internal/pki")
    text = text.replace("secrets: secrets.yaml", "secrets: {server: {command: pass show pki/server}}")
    text = text.replace("    network: av\n", "    network: av\n    deliver: ssh\n")
    text = text.replace("smtp: outbox}", "smtp: outbox}\n  notify: notify")
    (tmp_path / "pki.yaml").write_text(f"{text}schedule: 06:00\ndeploy: {{engine: ansible}}\n")
    observations = list(project_needs.observe_project(tmp_path))
    assert faults(observations) == dict.fromkeys(
        ("deliver: ssh", "deploy.engine: ansible", "extra notify", "extra postgresql", "secrets.server", "schedule"),
        Level.CRITICAL,
    )
    assert all(one.remedy for one in observations if one.level)


def test_a_token_needs_its_module_and_the_extra(tmp_path: Path) -> None:
    token = "pkcs11:token=x?module-path=/nonexistent/module.so"
    (tmp_path / "pki.yaml").write_text(
        EXAMPLE.replace("  server: {lifetime: 2y,", f'  server: {{token: "{token}", lifetime: 2y,')
    )
    seen = {one.checked: one for one in project_needs.observe_project(tmp_path)}
    assert seen["authorities.server.token"].seen == "/nonexistent/module.so: does not exist"
    assert "pki.yaml needs it for keys in PKCS#11 tokens" in seen["extra hsm"].seen


def test_a_mail_server_is_contacted_and_sent_nothing(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        text = EXAMPLE.replace("smtp: outbox", f"smtp: 'smtp://127.0.0.1:{port}'")
        (tmp_path / "pki.yaml").write_text(text)
        [mail] = [one for one in project_needs.observe_project(tmp_path) if one.checked == "alerts.email"]
        assert mail == MachineObservation("alerts.email", f"127.0.0.1:{port} accepts connections; no mail was sent")
    [mail] = [one for one in project_needs.observe_project(tmp_path) if one.checked == "alerts.email"]
    assert (mail.level, mail.seen) == (Level.WARNING, f"127.0.0.1:{port}: Connection refused: no mail can be sent")


def test_an_invalid_pki_yaml_is_one_line_with_the_command_that_shows_all(tmp_path: Path) -> None:
    [one] = needs(tmp_path, "unknown: 1\n").values()
    assert (one.level, one.remedy) == (Level.CRITICAL, "./run invoke plan")
    assert one.seen.startswith("1 faults, the first one: pki.yaml:")


def test_a_project_that_everybody_can_write_is_not_read(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "pki.yaml", tmp_path)
    tmp_path.chmod(0o777)
    [one] = project_needs.observe_project(tmp_path)
    assert "can be written by every user of this machine" in one.seen
