"""Check the offline machine before a ceremony: no network, no swap, and a plausible clock."""

from __future__ import annotations

import fcntl
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pki.common import filesystem

SWAPS = Path("/proc/swaps")
MAX_CLOCK_DELAY = timedelta(hours=1)  # of the offline machine's clock behind an earlier record or request
MAX_REQUEST_AGE = timedelta(days=90)
MAX_WATCH_DIFFERENCE, HALF_A_DAY = 10, 720  # minutes
SET_CLOCK = 'set it to the true time, in UTC and not in local time, from a watch: date -u -s "YYYY-MM-DD HH:MM"'
SIOCGIFFLAGS = 0x8913  # <linux/sockios.h>
IFF_UP, IFF_LOOPBACK = 0x1, 0x8  # <linux/if.h>
IFREQ = "16sH22x"  # struct ifreq, with its flags


Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """One check; `remedy` is the command to type when it is not `ok`, else ""."""

    check: str
    text: str
    ok: bool
    remedy: str = ""


def interfaces_up() -> list[str]:
    """Return the network interfaces that are up, except loopback, in the network namespace of this process.

    Uses a socket and not /sys, which may be mounted from another namespace (network_namespaces(7)).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        flags = {name: _flags(connection, name) for _, name in socket.if_nameindex()}
    return sorted(name for name, bits in flags.items() if bits & IFF_UP and not bits & IFF_LOOPBACK)


def check_machine(
    now: datetime,
    prepared: datetime,
    last: datetime | None,
    *,
    swaps: Path = SWAPS,
    interfaces: Callable[[], Sequence[str]] = interfaces_up,
) -> list[MachineCheck]:
    """Return all checks of this machine, passed or not.

    `prepared` is the time of the request, `last` the time of the newest record in the vault (None without records).
    """
    return [*_network(interfaces()), _swap(swaps), *_clock(now, prepared, last)]


def _flags(connection: socket.socket, name: str) -> int:
    try:
        answer = fcntl.ioctl(connection, SIOCGIFFLAGS, struct.pack(IFREQ, name.encode(), 0))
    except OSError:  # it disappeared after it was listed
        return 0
    return int(struct.unpack(IFREQ, answer)[1])


def _network(names: Sequence[str]) -> Iterator[MachineCheck]:
    if not names:
        yield MachineCheck("network", "no network interface is up", ok=True)
    for name in names:
        yield MachineCheck("network", f"the network interface {name} is up", False, f"ip link set {name} down")


def _swap(swaps: Path) -> MachineCheck:
    lines = (filesystem.read(swaps) or b"").decode(errors="replace").splitlines()
    areas = [line.split()[0] for line in lines[1:] if line.strip()]
    if areas:
        return MachineCheck("swap", f"swap is on: {', '.join(areas)}; keys could be written there", False, "swapoff -a")
    return MachineCheck("swap", "swap is off", ok=True)


def _clock(now: datetime, prepared: datetime, last: datetime | None) -> Iterator[MachineCheck]:
    clock = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
    fault = ""
    if now < prepared - MAX_CLOCK_DELAY:
        fault = f"before the request was prepared, {prepared:%Y-%m-%d %H:%M} UTC"
    elif now > prepared + MAX_REQUEST_AGE:
        fault = f"more than {MAX_REQUEST_AGE.days} days after the request was prepared, {prepared:%Y-%m-%d %H:%M} UTC"
    if fault:
        yield MachineCheck("clock", f"{clock}, {fault}", False, SET_CLOCK)
    if last and now < last - MAX_CLOCK_DELAY:
        yield MachineCheck("clock", f"{clock}, before the newest record, {last:%Y-%m-%d %H:%M} UTC", False, SET_CLOCK)
    elif not fault:
        yield MachineCheck("clock", clock, ok=True)


def watch_fault(at: datetime, watch: str) -> str:
    """Return how a watch (HH:MM in UTC) and the machine's clock differ, or "" when they agree within MAX_WATCH_DIFFERENCE."""
    match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", watch)
    if not match:
        return f"'{watch}' is not a time as HH:MM"
    ahead = int(match[1]) * 60 + int(match[2]) - at.hour * 60 - at.minute
    difference = abs((ahead + HALF_A_DAY) % (2 * HALF_A_DAY) - HALF_A_DAY)  # 23:55 and 00:05 are ten minutes apart
    if difference <= MAX_WATCH_DIFFERENCE:
        return ""
    text = f"the clock of this machine says {at:%H:%M} UTC and the watch {watch}: {_duration(difference)} apart"
    # The offset of a time zone is a multiple of half an hour.
    is_like_time_zone = min(difference % 30, -difference % 30) <= MAX_WATCH_DIFFERENCE
    return f"{text}; is one of the two local time, not UTC?" if is_like_time_zone else text


def _duration(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    parts = [
        f"{count} {name}{'' if count == 1 else 's'}" for count, name in ((hours, "hour"), (rest, "minute")) if count
    ]
    return " and ".join(parts)
