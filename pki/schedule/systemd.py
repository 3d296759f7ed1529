"""The job as systemd units: a confined service and a timer.

docs/how-to/schedule.md explains each setting; `systemd-analyze security` rates them together.
"""

from __future__ import annotations

import re
from pathlib import Path

from pki.common import filesystem
from pki.schedule.job import Job

UNITS = Path("/etc/systemd/system")
SEALED, OPEN = Path("/etc/credstore.encrypted"), Path("/etc/credstore")

# For every run, also for one that changes its own machine.
ALWAYS = (
    "UMask=0077",
    "LimitCORE=0",  # a core would hold keys and passphrases
    "LockPersonality=yes",
    "CapabilityBoundingSet=~CAP_SYS_TIME CAP_WAKE_ALARM",  # ProtectClock= would also forbid reading whether NTP is synchronised
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
)

# For a run that writes only into its own folder and connects to other machines.
CONFINED = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallFilter=adjtimex clock_adjtime",  # they read the NTP state; without a capability they set nothing
    "SystemCallErrorNumber=EPERM",
)


def units(job: Job) -> dict[str, str]:
    """Return the content of both units, by file name."""
    return {f"{job.name}.service": _service(job), f"{job.name}.timer": _timer(job)}


def _service(job: Job) -> str:
    lines = [
        "[Unit]",
        f"Description=doit-pki for {_plain(job.home)}: bring certificates, CRLs and hosts up to date",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=oneshot",
        f"User={job.user}",
        f"Environment={_quoted(f'PKI_HOME={job.home}')}",
        f"WorkingDirectory={_plain(job.home)}",
        f"ExecStart={_quoted(job.program)} doit",
        "TimeoutStartSec=6h",
        *(_credential(name) for name in job.credentials),
        "",
        *ALWAYS,
        *(() if job.is_local else _confinement(job)),
    ]
    return "\n".join(lines) + "\n"


def _confinement(job: Job) -> list[str]:
    lines = [*CONFINED, f"ReadWritePaths={_quoted(job.home)}"]
    if folder := job.metrics:
        lines.append(f"ReadWritePaths={_quoted(f'-{folder}')}")  # "-": it may not exist yet
    lines += ["ProtectHome=read-only" if job.needs_homes else "ProtectHome=yes"]
    return lines if job.is_in_temporary_folder else [*lines, "PrivateTmp=yes"]


def _credential(name: str) -> str:
    """Return the line for a credential: encrypted by systemd-creds, unless only a plain file exists."""
    if not (SEALED / name).exists() and (OPEN / name).exists():
        return f"LoadCredential={name}:{OPEN / name}"
    return f"LoadCredentialEncrypted={name}:{SEALED / name}"


def _timer(job: Job) -> str:
    delay = int(job.delay.total_seconds())
    lines = [
        "[Unit]",
        f"Description=starts doit-pki for {_plain(job.home)}",
        "",
        "[Timer]",
        *(f"OnCalendar=*-*-* {start}:00" for start in job.times),
        *((f"RandomizedDelaySec={delay}", "FixedRandomDelay=true") if delay else ("AccuracySec=1s",)),
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")


def _quoted(value: object) -> str:
    text = _plain(value)
    return f'"{text}"' if re.search(r"[^A-Za-z0-9/=._%:@+,-]", text) else text


def installed(job: Job, folder: Path = UNITS) -> tuple[str, ...] | None:
    """Return the times of the installed timer; None when there is none, or it cannot be read."""
    data = filesystem.read(folder / f"{job.name}.timer")
    if data is None:
        return None
    return tuple(
        re.findall(r"^OnCalendar=\*-\*-\* ([0-9]{2}:[0-9]{2}):00$", data.decode(errors="replace"), re.MULTILINE)
    )
