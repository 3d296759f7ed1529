"""Whether this machine is fit for a ceremony: no network, no swap, and a clock that can be right."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pki import store

SWAPS = Path("/proc/swaps")
EARLY = timedelta(hours=1)
LATE = timedelta(days=90)
SIOCGIFFLAGS = 0x8913  # <linux/sockios.h>
IFF_UP, IFF_LOOPBACK = 0x1, 0x8  # <linux/if.h>
REQUEST = "16sH22x"  # struct ifreq, with its flags


Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` is what to type when it is not `ok`, empty otherwise."""

    check: str
    text: str
    ok: bool
    remedy: str = ""


def interfaces_up() -> list[str]:
    """The network interfaces that are up, loopback aside, in the network namespace of this process.

    Asked of the kernel by socket: /sys may still be mounted from another namespace (network_namespaces(7)).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        flags = {name: _flags(asker, name) for _, name in socket.if_nameindex()}
    return sorted(name for name, bits in flags.items() if bits & IFF_UP and not bits & IFF_LOOPBACK)


def findings(
    now: datetime,
    prepared: datetime,
    last: datetime | None,
    *,
    swaps: Path = SWAPS,
    interfaces: Callable[[], Sequence[str]] = interfaces_up,
) -> list[Finding]:
    """Everything that was looked at, fit or not.

    `prepared` is when the request was, `last` the newest moment that the vault knows, None when it knows none.
    """
    return [*_network(interfaces()), _swap(swaps), *_clock(now, prepared, last)]


def _flags(asker: socket.socket, name: str) -> int:
    try:
        answer = fcntl.ioctl(asker, SIOCGIFFLAGS, struct.pack(REQUEST, name.encode(), 0))
    except OSError:  # it went away since it was listed
        return 0
    return int(struct.unpack(REQUEST, answer)[1])


def _network(names: Sequence[str]) -> Iterator[Finding]:
    if not names:
        yield Finding("network", "no network interface is up", ok=True)
    for name in names:
        yield Finding("network", f"the network interface {name} is up", False, f"ip link set {name} down")


def _swap(swaps: Path) -> Finding:
    lines = (store.read(swaps) or b"").decode(errors="replace").splitlines()
    areas = [line.split()[0] for line in lines[1:] if line.strip()]
    if areas:
        return Finding("swap", f"swap is on: {', '.join(areas)}; keys could be written there", False, "swapoff -a")
    return Finding("swap", "swap is off", ok=True)


def _clock(now: datetime, prepared: datetime, last: datetime | None) -> Iterator[Finding]:
    clock = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
    fault, earliest = "", max(prepared, last or prepared)
    if now < prepared - EARLY:
        fault = f"before the request was prepared, {prepared:%Y-%m-%d %H:%M}"
    elif now > prepared + LATE:
        fault = f"more than {LATE.days} days after the request was prepared, {prepared:%Y-%m-%d %H:%M}"
    if fault:
        yield Finding("clock", f"{clock}, {fault}", False, _setting(earliest))
    if last and now < last - EARLY:
        yield Finding("clock", f"{clock}, before the newest record, {last:%Y-%m-%d %H:%M}", False, _setting(earliest))
    elif not fault:
        yield Finding("clock", clock, ok=True)


def _setting(example: datetime) -> str:
    """What sets the clock, with the earliest moment that can be right; a person puts the present one."""
    return f'date -u -s "{example:%Y-%m-%d %H:%M}"'
