"""The command schedule: a timer of systemd or lines of a crontab that run doit."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from pathlib import Path

from invoke.context import Context

from pki.cli.decorator import command, project_as_it_is, project_of
from pki.cli.prompt import is_yes
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.program_files import executable
from pki.common.terminal import Screen
from pki.config.model import Inventory
from pki.project.layout import Store
from pki.schedule import cron, systemd
from pki.schedule.job import Job
from pki.schedule.schedule_notices import notices

RUNNING = Path("/run/systemd/system")  # exists if systemd is the init system: sd_booted(3)


@command
def schedule(
    context: Context,
    install: bool = False,
    remove: bool = False,
    systemd: bool = False,
    cron: bool = False,
    yes: bool = False,
) -> None:
    """Show the timer or crontab that runs doit at the times in pki.yaml; --install writes it, --remove removes it.

    --systemd is a service and a timer, --cron lines of a crontab; the default is what the machine has. What is to be
    written is shown first, and confirmed unless --yes is given.
    """
    project = project_of(context) if install else project_as_it_is(context)
    job = _job(project.inventory, project.store)
    if systemd and cron:
        raise PkiError(
            "--systemd and --cron exclude each other", "give one of them; without --install nothing is written"
        )
    screen, by_systemd = Screen(), systemd or (not cron and _has_systemd())
    if remove:
        _remove(job, screen, yes=yes)
        return
    text = _units(job) if by_systemd else _crontab(job)
    screen.line(text, is_verbatim=True)
    if install:
        _confirm("write this", yes=yes)
        if by_systemd:
            _install_units(job, screen)
        else:
            _install_lines(job, screen)
    for note in notices(job, _present_times(job), by_systemd=by_systemd):
        screen.note(note.subject, note.text, note.remedy)


def _job(inventory: Inventory, store: Store) -> Job:
    owner = store.home.stat().st_uid
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        raise PkiError(
            f"{store.home}: is owned by {owner}, which is not an account of this machine",
            f"chown -R ACCOUNT: {shlex.quote(str(store.home))}",
        ) from None
    job = Job(inventory, executable(), store.home.resolve(), user)
    job.check()
    return job


def _has_systemd() -> bool:
    if RUNNING.is_dir():
        return True
    if not shutil.which("crontab"):
        raise PkiError(
            "this machine has neither systemd nor cron", "--systemd or --cron shows the files for another machine"
        )
    return False


def _confirm(what: str, *, yes: bool) -> None:
    if not yes and not is_yes(f"{what}?"):
        raise PkiError("cancelled; nothing was written")


def _present_times(job: Job) -> dict[str, tuple[str, ...] | None]:
    """Return the times at which systemd and cron run doit; None if they do not."""
    return {"systemd": systemd.installed(job, systemd.UNITS), "cron": cron.installed(_read_crontab(job), job)}


# -- systemd ----------------------------------------------------------------------------------------------------------


def _units(job: Job) -> str:
    return "\n".join(f"# {systemd.UNITS / name}\n{text}" for name, text in systemd.units(job).items())


def _install_units(job: Job, screen: Screen) -> None:
    _require_root("only root can write units of systemd", "sudo ./run invoke schedule --install, or --cron")
    for name, text in systemd.units(job).items():
        filesystem.write(systemd.UNITS / name, text.encode())
    if RUNNING.is_dir():
        _call("systemctl", "daemon-reload")
    _call("systemctl", "enable", f"{job.name}.timer")
    if RUNNING.is_dir():
        _call("systemctl", "restart", f"{job.name}.timer")
    screen.done("installed", "schedule", f"{job.name}.timer runs doit as {job.user} at {', '.join(job.times)}")


def _remove_units(job: Job) -> list[str]:
    units = [systemd.UNITS / name for name in systemd.units(job) if (systemd.UNITS / name).exists()]
    if units:
        _require_root("only root can remove units of systemd", "sudo ./run invoke schedule --remove")
        _call("systemctl", "disable", *(("--now",) if RUNNING.is_dir() else ()), f"{job.name}.timer")
        for path in units:
            path.unlink()
        if RUNNING.is_dir():
            _call("systemctl", "daemon-reload")
    return [str(path) for path in units]


def _require_root(what: str, remedy: str) -> None:
    if os.geteuid():
        raise PkiError(what, remedy)


# -- cron -------------------------------------------------------------------------------------------------------------


def _crontab(job: Job) -> str:
    return "\n".join([f"# the crontab of {job.user}", *cron.lines(job)])


def _read_crontab(job: Job) -> str:
    """Return the present crontab, or "" if there is none or it cannot be read."""
    if not shutil.which("crontab"):
        return ""
    done = subprocess.run([*_crontab_of(job), "-l"], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _crontab_of(job: Job) -> list[str]:
    """Return the command for the crontab of the project's owner; only root can change that of another account."""
    if pwd.getpwuid(os.geteuid()).pw_name == job.user:
        return ["crontab"]
    return ["crontab", "-u", job.user]


def _install_lines(job: Job, screen: Screen) -> None:
    if not shutil.which("crontab"):
        raise PkiError("crontab is not installed on this machine", "install cron, or: --systemd")
    present = _read_crontab(job)
    _write_crontab(job, [*cron.without(present, job), *cron.lines(job)])
    screen.done("installed", "schedule", f"cron runs doit as {job.user} at {', '.join(job.times)}")


def _write_crontab(job: Job, lines: list[str]) -> None:
    _call(*_crontab_of(job), "-", stdin="".join(f"{line}\n" for line in lines))


def _remove(job: Job, screen: Screen, *, yes: bool) -> None:
    present = [scheduler for scheduler, times in _present_times(job).items() if times is not None]
    if not present:
        screen.line("neither systemd nor cron runs doit for this project")
        return
    _confirm(f"remove doit from {' and '.join(present)}", yes=yes)
    for path in _remove_units(job):
        screen.done("removed", "schedule", str(path))
    if "cron" in present:
        _write_crontab(job, cron.without(_read_crontab(job), job))
        screen.done("removed", "schedule", f"the lines in the crontab of {job.user}")


def _call(*words: str, stdin: str | None = None) -> None:
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PkiError(
            f"{words[0]} is not installed on this machine", "./run invoke schedule shows what it would do"
        ) from None
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())
        raise PkiError(f"{' '.join(words)} failed: {output}", "./run invoke schedule shows what was to be written")
