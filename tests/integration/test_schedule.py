"""Units, crontab lines and the calendar, judged by the programs that will read them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.config import loader
from pki.schedule import cron, systemd
from pki.schedule.job import Job
from tests.integration.conftest import run
from tests.integration.years import quick_years
from tests.support.ceremonies import RealHome, first_ceremony
from tests.support.leavings import is_idle
from tests.support.projects import PROJECT, Home, bare_home

CLOSED = 30  # of 100 parts of exposure


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = bare_home(tmp_path / "my 100% project")
    found.edit("ledger: sqlite", "schedule: [06:00, 22:30]\nledger: sqlite")
    found.edit("secrets: secrets.yaml", "secrets: {server: {credential: pki-server}}")
    return found


def errand(home: Home, user: str = "daemon") -> Job:
    return Job(loader.load(home.path / "pki.yaml"), PROJECT / "run", home.path, user)


def written(home: Home, folder: Path) -> list[Path]:
    folder.mkdir()
    found = [folder / name for name in systemd.units(errand(home))]
    for path, text in zip(found, systemd.units(errand(home)).values(), strict=True):
        path.write_text(text)
    return found


@pytest.mark.parametrize("way", ["ssh", "local"])
def test_systemd_finds_no_fault_in_the_units(home: Home, tmp_path: Path, way: str) -> None:
    home.edit("    network: av\n", f"    network: av\n    deliver: {way}\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *written(home, tmp_path / "units")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_reads_project_and_program_as_they_are_called(home: Home, tmp_path: Path) -> None:
    """A unit whose program is not there is a fault, so verify has read its name as we meant it."""
    service, _ = written(home, tmp_path / "units")
    text = service.read_text()
    service.write_text(text.replace(f"ExecStart={PROJECT}/run", "ExecStart=/nowhere/run"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", service], capture_output=True, text=True, check=False
    )
    assert "/nowhere/run is not executable" in done.stderr
    assert done.returncode


def test_systemd_calls_the_service_well_closed(home: Home, tmp_path: Path) -> None:
    home.edit("    network: av\n", "    network: av\n    deliver: ssh\n")
    service, _ = written(home, tmp_path / "units")
    judge = ("systemd-analyze", "security", "--offline=true", "--no-pager")
    said = run(*judge, f"--threshold={CLOSED}", str(service))
    found = re.search(r"Overall exposure level .*: ([0-9.]+)", said)
    assert found
    assert float(found[1]) < CLOSED / 10
    loose = service.with_name("loose.service")
    loose.write_text("\n".join(line for line in service.read_text().splitlines() if "Protect" not in line) + "\n")
    assert subprocess.run([*judge, "--threshold=15", loose], capture_output=True, check=False).returncode


def test_systemd_takes_the_times_as_pki_yaml_says_them(home: Home) -> None:
    found = errand(home)
    timer = systemd.units(found)[f"{found.name}.timer"]
    times = re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)
    said = [run("systemd-analyze", "calendar", one) for one in times]
    assert [re.findall(r"Normalized form: (.*)", one) for one in said] == [["*-*-* 06:00:00"], ["*-*-* 22:30:00"]]


def test_cron_finds_no_fault_in_the_lines(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("".join(f"{line}\n" for line in cron.lines(errand(home))))
    run("crontab", "-n", str(path))
    path.write_text("".join(f"{line[2:]}\n" for line in cron.lines(errand(home))))
    assert subprocess.run(["crontab", "-n", path], capture_output=True, check=False).returncode


def test_a_crontab_gets_the_lines_beside_those_of_others_and_loses_no_other_line(home: Home, tmp_path: Path) -> None:
    """A real crontab of the account that owns the project, in a folder of its own."""
    home.edit("secrets: {server: {credential: pki-server}}", "secrets: secrets.yaml")
    spool, script = tmp_path / "spool/crontabs", tmp_path / "script"
    spool.mkdir(parents=True)
    schedule = f"{shlex.quote(sys.executable)} -m invoke schedule --yes"
    script.write_text(
        f"""set -e
mount --bind {shlex.quote(str(spool.parent))} /var/spool/cron
echo '17 3 * * * /bin/true' | crontab -
{schedule} --install --cron >/dev/null
{schedule} --install --cron >/dev/null
crontab -l
echo removed
{schedule} --remove >/dev/null
crontab -l
"""
    )
    environment = {**os.environ, "PKI_HOME": str(home.path)}
    lines = run("unshare", "--mount", "sh", script, cwd=PROJECT, env=environment).splitlines()
    other, *ours, end, rest = lines
    assert (other, end, rest) == ("17 3 * * * /bin/true", "removed", "17 3 * * * /bin/true")
    assert [line.split()[:2] for line in ours] == [["0", "6"], ["30", "22"]]


def test_line_of_the_crontab_runs_doit_with_what_cron_gives_it(tmp_path: Path) -> None:
    home = bare_home(tmp_path / "my 100% project")
    (line,) = cron.lines(errand(home))
    words = line.split(" ", 5)[5].replace("\\%", "%")
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/", "SHELL": "/bin/sh", "LOGNAME": "root"}
    said = run("/bin/sh", "-c", words, cwd=Path("/"), env=bare)
    assert said.splitlines()[-1].startswith("SANDBOX  20 tasks: 17 changed, "), shlex.quote(said)


# -- the calendar -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHome]:
    with quick_years():
        yield first_ceremony(tmp_path_factory.mktemp("real"))


READ = """\
import json, sys
from icalendar import Calendar
found = Calendar.from_ical(open(sys.argv[1], "rb").read())
print(json.dumps([[str(one["UID"]), str(one["SUMMARY"]), str(one["DESCRIPTION"]), one.decoded("DTSTART").isoformat(),
    one.errors, [str(alarm["TRIGGER"].dt) for alarm in one.walk("VALARM")]] for one in found.walk("VEVENT")]))
"""


def test_another_parser_reads_the_calendar_as_it_was_meant(real: RealHome) -> None:
    """Debian's python3-icalendar, in Debian's own Python."""
    said = run("/usr/bin/python3", "-c", READ, str(real.path / "build/report/pki.ics"))
    found = {one[0].partition("@")[0]: one for one in json.loads(said)}
    _, title, text, day, errors, alarms = found["ceremony-client-2"]
    assert (title, day, errors) == ("root ceremony: client-2, server-2", "2028-04-10", [])
    assert text.startswith("doit requests it on 2028-03-27; perform it by 2028-05-26. This day is a proposal. ")
    assert alarms == ["-14 days, 0:00:00", "-1 day, 0:00:00"]
    assert found["end-root-1"][3] == "2036-11-20"
    assert not any(one[4] for one in found.values())
    assert len(found) == len(set(found)) > 8


CLOSED_IN = """
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /var/tmp
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- \\
    env -i PATH=/usr/bin:/bin HOME=/nonexistent "PKI_HOME=$1" "$2" doit
"""


def test_run_needs_no_capability_and_writes_below_its_project_alone(tmp_path: Path) -> None:
    """What the service closes, as far as it goes without a systemd that runs: all but the project is read-only."""
    home = bare_home(tmp_path / "my 100% project")
    within = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", CLOSED_IN, "sh")
    said = run(*within, home.path, PROJECT / "run")
    assert said.splitlines()[-1].startswith("SANDBOX  20 tasks: 17 changed, "), said
    again = run(*within, home.path, PROJECT / "run")
    assert is_idle(again), again
