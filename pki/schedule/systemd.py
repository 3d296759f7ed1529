"""The errand as systemd knows it: a service that may do little, and a timer.

What each setting keeps out is said in docs/schedule.md; `systemd-analyze security` judges the sum.
"""

from __future__ import annotations

import re
from pathlib import Path

from pki.common import filesystem
from pki.schedule.job import Errand

UNITS = Path("/etc/systemd/system")
SEALED, OPEN = Path("/etc/credstore.encrypted"), Path("/etc/credstore")

# What every run can do without, one that changes its own machine too.
ALWAYS = (
    "UMask=0077",
    "LimitCORE=0",  # a core would hold keys and passphrases
    "LockPersonality=yes",
    "CapabilityBoundingSet=~CAP_SYS_TIME CAP_WAKE_ALARM",  # ProtectClock= would forbid to ask whether NTP is in step, too
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
)

# What a run does not need that writes into its own folder alone, and speaks with other machines.
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
    "SystemCallFilter=adjtimex clock_adjtime",  # which set nothing without a capability, and tell whether NTP is in step
    "SystemCallErrorNumber=EPERM",
)


def units(errand: Errand) -> dict[str, str]:
    """The content of both units, by file name."""
    return {f"{errand.name}.service": _service(errand), f"{errand.name}.timer": _timer(errand)}


def _service(errand: Errand) -> str:
    lines = [
        "[Unit]",
        f"Description=doit-pki for {_plain(errand.home)}: bring certificates, CRLs and hosts up to date",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=oneshot",
        f"User={errand.user}",
        f"Environment={_quoted(f'PKI_HOME={errand.home}')}",
        f"WorkingDirectory={_plain(errand.home)}",
        f"ExecStart={_quoted(errand.program)} doit",
        "TimeoutStartSec=6h",
        *(_credential(name) for name in errand.credentials),
        "",
        *ALWAYS,
        *(() if errand.is_local else _confinement(errand)),
    ]
    return "\n".join(lines) + "\n"


def _confinement(errand: Errand) -> list[str]:
    lines = [*CONFINED, f"ReadWritePaths={_quoted(errand.home)}"]
    if folder := errand.metrics:
        lines.append(f"ReadWritePaths={_quoted(f'-{folder}')}")  # it may come later
    lines += ["ProtectHome=read-only" if errand.needs_homes else "ProtectHome=yes"]
    return lines if errand.is_in_passing else [*lines, "PrivateTmp=yes"]


def _credential(name: str) -> str:
    """Sealed to this machine by systemd-creds, unless only a plain one is there."""
    if not (SEALED / name).exists() and (OPEN / name).exists():
        return f"LoadCredential={name}:{OPEN / name}"
    return f"LoadCredentialEncrypted={name}:{SEALED / name}"


def _timer(errand: Errand) -> str:
    delay = int(errand.delay.total_seconds())
    lines = [
        "[Unit]",
        f"Description=when doit-pki runs for {_plain(errand.home)}",
        "",
        "[Timer]",
        *(f"OnCalendar=*-*-* {one}:00" for one in errand.times),
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


def installed(errand: Errand, folder: Path = UNITS) -> tuple[str, ...] | None:
    """The times that the timer on this machine says; None when there is none, or it cannot be read."""
    data = filesystem.read(folder / f"{errand.name}.timer")
    if data is None:
        return None
    return tuple(
        re.findall(r"^OnCalendar=\*-\*-\* ([0-9]{2}:[0-9]{2}):00$", data.decode(errors="replace"), re.MULTILINE)
    )
