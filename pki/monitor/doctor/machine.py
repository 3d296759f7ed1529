"""Programs, clock, encoding, umask, home folder and free ports of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from pki.common.remedies import as_started
from pki.monitor.check_result import Level
from pki.monitor.doctor.observation import MachineObservation, first_line
from pki.project.clock_guard import AGREEMENT, kernel_time

SYSTEMD = Path("/run/systemd/system")  # exists while systemd is running: sd_booted(3)
LISTENS = "0A"  # the state TCP_LISTEN in /proc/net/tcp
WEB_PORTS = (80, 443)


def observe_programs() -> Iterator[MachineObservation]:
    """Yield the programs that some commands start, or that hints name; none of them is needed by every project."""
    for command, arguments, use, package in (
        ("openssl", ("version",), "commands in hints", "openssl"),
        ("git", ("--version",), "the history of pki.yaml and templates/", "git"),
        ("ssh", ("-V",), "hosts with deliver: ssh", "openssh-client"),
    ):
        line = first_line(command, *arguments)
        if line is not None:
            yield MachineObservation(command, line)
        else:
            text = "cannot be started" if shutil.which(command) else "not found"
            yield MachineObservation(command, f"{text}; needed for {use}", Level.NOTICE, f"apt install {package}")


def observe_scheduler() -> MachineObservation:
    """Return what can run doit every day: systemd, or cron."""
    available = [
        name
        for name, is_present in (("systemd", SYSTEMD.is_dir()), ("crontab", bool(shutil.which("crontab"))))
        if is_present
    ]
    if available:
        return MachineObservation(
            "scheduler", f"{' and '.join(available)}: can run doit every day ({as_started('./run invoke schedule')})"
        )
    text = "systemd is not running, and there is no crontab: nothing renews certificates by itself"
    return MachineObservation("scheduler", text, Level.WARNING, "apt install cron")


def observe_clock(now: datetime) -> MachineObservation:
    """Return the time, and whether the kernel reports that its clock is synchronised."""
    shown = f"{now:%Y-%m-%d %H:%M} UTC, local time {now.astimezone():%H:%M %Z}"
    kernel = kernel_time()
    if kernel is None:
        text = f"{shown}; not synchronised, as far as the kernel reports (in a container it never does)"
        return MachineObservation("clock", text, Level.NOTICE, "timedatectl set-ntp true")
    if abs(kernel - now) > AGREEMENT + timedelta(minutes=1):  # a slow start is no fault
        return MachineObservation(
            "clock", f"{shown}; the kernel has {kernel:%Y-%m-%d %H:%M} UTC", Level.CRITICAL, "timedatectl status"
        )
    return MachineObservation("clock", f"{shown}; synchronised")


def observe_encoding() -> MachineObservation:
    """Return the encodings of file names and of output; everything that is printed and written is UTF-8."""
    names, output = sys.getfilesystemencoding(), sys.stdout.encoding or "none"
    value = f"file names {names}, output {output}, LANG={os.environ.get('LC_ALL') or os.environ.get('LANG') or ''}"
    is_utf8 = all(encoding.lower().replace("-", "") == "utf8" for encoding in (names, output))
    return MachineObservation(
        "encoding", value, Level.OK if is_utf8 else Level.WARNING, "" if is_utf8 else "export LC_ALL=C.UTF-8"
    )


def observe_umask() -> MachineObservation:
    """Return the umask of this process, from which the program removed the right of others to write."""
    mask = os.umask(0o077)
    os.umask(mask)
    value = f"{mask:04o}: new files are {0o666 & ~mask:04o}; secrets are always 0600"
    if mask & 0o700:
        return MachineObservation(
            "umask", f"{mask:04o}: you could not read or write your own new files", Level.CRITICAL, "umask 022"
        )
    return MachineObservation("umask", value)


def observe_home() -> MachineObservation:
    """Return whether the account has a home folder that it can write: ssh and badkeys keep files there."""
    home = os.environ.get("HOME", "")
    if not home:
        return MachineObservation(
            "HOME", "is not set", Level.WARNING, "export HOME=$(getent passwd $(id -un) | cut -d: -f6)"
        )
    if not os.path.isdir(home):
        return MachineObservation(
            "HOME", f"{home}: is no folder", Level.WARNING, f"sudo install -d -o $(id -un) {home}"
        )
    if not os.access(home, os.W_OK | os.X_OK):
        text = f"{home}: this account cannot write to it: ssh cannot record new host keys"
        return MachineObservation("HOME", text, Level.WARNING, f"sudo chown $(id -un) {home}")
    return MachineObservation("HOME", f"{home}, writable")


def observe_ports() -> MachineObservation:
    """Return which of the ports 80 and 443 a program of this machine listens on, where a proxy would."""
    listening = _listening_ports()
    if listening is None:
        return MachineObservation("ports", "not checked: /proc/net/tcp cannot be read")
    value = ", ".join(f"{port} {'in use' if port in listening else 'free'}" for port in WEB_PORTS)
    return MachineObservation("ports", f"{value}; needed only where this machine is a host with a proxy")


def _listening_ports() -> set[int] | None:
    """Return the TCP ports on which this network namespace accepts connections; None if that cannot be read."""
    ports = set()
    try:
        for name in ("tcp", "tcp6"):
            table = Path("/proc/net", name)
            for line in table.read_text().splitlines()[1:] if table.exists() else ():
                fields = line.split()
                if fields[3] == LISTENS:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    except (OSError, ValueError, IndexError):
        return None
    return ports
