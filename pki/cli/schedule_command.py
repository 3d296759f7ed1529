"""Letting a machine's clock run doit."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path

from invoke.context import Context

from pki.cli.decorator import command, project_as_it_is, project_of
from pki.cli.prompt import typed
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.program_files import PROGRAM
from pki.common.terminal import Screen
from pki.project.project import Project
from pki.schedule import cron, systemd
from pki.schedule.job import Job
from pki.schedule.schedule_notices import notices

RUN = PROGRAM / "run"
RUNNING = Path("/run/systemd/system")  # is there when systemd is what started this machine: sd_booted(3)


@command
def schedule(
    context: Context,
    install: bool = False,
    remove: bool = False,
    systemd: bool = False,
    cron: bool = False,
    yes: bool = False,
) -> None:
    """Show what lets this machine's clock run doit at the times of pki.yaml; --install writes it, --remove takes it away.

    --systemd is a service and a timer, --cron lines of a crontab; without either, what the machine has. What is to be
    written is shown first, and asked about; --yes has asked already.
    """
    job = _job(project_of(context) if install else project_as_it_is(context))
    if systemd and cron:
        raise PkiError(
            "--systemd and --cron exclude each other", "give one of them; without --install nothing is written"
        )
    screen, by_systemd = Screen(), systemd or (not cron and _has_systemd())
    if remove:
        _remove(job, screen, yes=yes)
        return
    text = _units(job) if by_systemd else _crontab(job)
    screen.line(text)
    if install:
        _agreed("write this", yes=yes)
        _install_units(job, screen) if by_systemd else _install_lines(job, screen)
    for note in notices(job, _present(job), by_systemd=by_systemd):
        screen.note(note.subject, note.text, note.remedy)


def _job(project: Project) -> Job:
    owner = project.store.home.stat().st_uid
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        raise PkiError(
            f"{project.store.home}: belongs to {owner}, and there is no such account",
            f"chown -R ACCOUNT: {shlex.quote(str(project.store.home))}",
        ) from None
    job = Job(project.inventory, RUN, project.store.home.resolve(), user)
    job.check()
    return job


def _has_systemd() -> bool:
    if RUNNING.is_dir():
        return True
    if not shutil.which("crontab"):
        raise PkiError("this machine has neither systemd nor cron", "--systemd or --cron shows what another would take")
    return False


def _agreed(what: str, *, yes: bool) -> None:
    if not yes and typed(f"{what}? yes or no (--yes answers): ").strip().lower() not in {"y", "yes"}:
        raise PkiError("stopped; nothing was written")


def _present(job: Job) -> dict[str, tuple[str, ...] | None]:
    return {"systemd": systemd.installed(job, systemd.UNITS), "cron": cron.installed(_read_crontab(job), job)}


# -- systemd ----------------------------------------------------------------------------------------------------------


def _units(job: Job) -> str:
    return "\n".join(f"# {systemd.UNITS / name}\n{text}" for name, text in systemd.units(job).items())


def _install_units(job: Job, screen: Screen) -> None:
    _as_root("units of systemd are root's to write", "sudo ./run invoke schedule --install, or --cron")
    for name, text in systemd.units(job).items():
        filesystem.write(systemd.UNITS / name, text.encode())
    if RUNNING.is_dir():
        _call("systemctl", "daemon-reload")
    _call("systemctl", "enable", f"{job.name}.timer")
    if RUNNING.is_dir():
        _call("systemctl", "restart", f"{job.name}.timer")
    screen.made("schedule", f"{job.name}.timer runs doit as {job.user} at {', '.join(job.times)}")


def _remove_units(job: Job) -> list[str]:
    found = [systemd.UNITS / name for name in systemd.units(job) if (systemd.UNITS / name).exists()]
    if found:
        _as_root("units of systemd are root's to take away", "sudo ./run invoke schedule --remove")
        _call("systemctl", "disable", *(("--now",) if RUNNING.is_dir() else ()), f"{job.name}.timer")
        for path in found:
            path.unlink()
        if RUNNING.is_dir():
            _call("systemctl", "daemon-reload")
    return [str(path) for path in found]


def _as_root(what: str, remedy: str) -> None:
    if os.geteuid():
        raise PkiError(what, remedy)


# -- cron -------------------------------------------------------------------------------------------------------------


def _crontab(job: Job) -> str:
    return "\n".join([f"# the crontab of {job.user}", *cron.lines(job)])


def _read_crontab(job: Job) -> str:
    """The crontab as it is: empty where there is none, or nobody may read it."""
    if not shutil.which("crontab"):
        return ""
    found = subprocess.run([*_crontab_of(job), "-l"], capture_output=True, text=True, check=False)
    return found.stdout if found.returncode == 0 else ""


def _crontab_of(job: Job) -> list[str]:
    """The program that keeps the crontab of whoever owns the project; another account's is root's to change."""
    if pwd.getpwuid(os.geteuid()).pw_name == job.user:
        return ["crontab"]
    return ["crontab", "-u", job.user]


def _install_lines(job: Job, screen: Screen) -> None:
    if not shutil.which("crontab"):
        raise PkiError("there is no crontab on this machine", "install cron, or: --systemd")
    before = _read_crontab(job)
    _write_crontab(job, [*cron.without(before, job), *cron.lines(job)])
    screen.made("schedule", f"cron runs doit as {job.user} at {', '.join(job.times)}")


def _write_crontab(job: Job, lines: list[str]) -> None:
    _call(*_crontab_of(job), "-", given="".join(f"{line}\n" for line in lines))


def _remove(job: Job, screen: Screen, *, yes: bool) -> None:
    present = [way for way, times in _present(job).items() if times is not None]
    if not present:
        screen.line("nothing on this machine runs doit for this project")
        return
    _agreed(f"take away what lets {' and '.join(present)} run doit", yes=yes)
    for path in _remove_units(job):
        screen.made("schedule", f"{path} is gone")
    if "cron" in present:
        _write_crontab(job, cron.without(_read_crontab(job), job))
        screen.made("schedule", f"the crontab of {job.user} runs doit no more")


def _call(*words: str, given: str | None = None) -> None:
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PkiError(
            f"there is no {words[0]} on this machine", "./run invoke schedule shows what it would do"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise PkiError(f"{' '.join(words)} failed: {said}", "./run invoke schedule shows what was to be written")
