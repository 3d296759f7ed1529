"""Which drive a folder is on, as the kernel says: a vault is a drive of its own, and never the memory of a live system."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pki.common.errors import PkiError

MOUNTS = Path("/proc/self/mountinfo")  # proc_pid_mountinfo(5)
BLOCKS = Path("/sys/dev/block")
IN_RAM = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs", "hugetlbfs"})
LAYERED = frozenset({"overlay", "aufs", "unionfs", "squashfs", "iso9660", "erofs"})  # of live systems and containers
WITHOUT_MODES = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk"})
RAM_DISKS = re.compile(r"z?ram[0-9]+")
LOST_AND_FOUND = re.compile(r"lost\+found|System Volume Information|\.Trash-[0-9]+|\.room|\.vault\.yaml\.new")
OF_EXCHANGE = re.compile(r"\.?doit-pki-kit(\.new)?|request-[0-9]{4}\.yaml|\.?response-[0-9]{4}(\.new)?")
WHICH = "look which drive is which: lsblk -o NAME,SIZE,LABEL,FSTYPE,MOUNTPOINTS"
DEEPEST = 8  # devices below devices, and files below those


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system: `device` as the kernel numbers it (8:17), `kind` such as ext4, `source` such as /dev/sdb1."""

    point: Path
    device: str
    kind: str
    source: str

    def __str__(self) -> str:
        return f"{self.source}, {self.kind}"


def mount_of(folder: Path) -> Mount:
    """The file system that a folder is on; of two that are mounted on one folder, the later one is seen."""
    place = Path(os.path.realpath(folder))
    above = [mount for mount in mounts() if place.is_relative_to(mount.point)]
    if not above:
        raise PkiError(f"{folder}: {MOUNTS} does not say what it is on", "mount -t proc proc /proc")
    longest = max(len(mount.point.parts) for mount in above)
    return [mount for mount in above if len(mount.point.parts) == longest][-1]


def mounts() -> Iterator[Mount]:
    """Everything that is mounted, in the order of the kernel."""
    with suppress(OSError):
        for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            fields, rest = before.split(" "), after.split(" ")
            if len(fields) >= 6 and len(rest) >= 2:
                yield Mount(Path(_plain(fields[4])), fields[2], rest[0], _plain(rest[1]))


def vault_fault(folder: Path) -> PkiError | None:
    """Why a folder cannot be a vault, with what to type; None when it is a drive of its own."""
    mount, place = mount_of(folder), Path(os.path.realpath(folder))
    again = mounting(folder)
    if place != mount.point and (mount.point == Path("/") or is_in_ram(mount)):
        text = f"{folder}: no drive is mounted there: what is written there stays in this machine"
        return PkiError(f"{text}, and is lost when it is switched off" if is_in_ram(mount) else text, again)
    if place != mount.point:
        return PkiError(f"{folder}: is a folder on the drive {mount.point}, not a drive", f"--vault {mount.point}")
    if is_in_ram(mount):
        return PkiError(f"{folder}: is in the memory of this machine ({mount.kind}), not on a drive", again)
    if mount.device == mount_of(Path("/")).device:
        return PkiError(f"{folder}: is on the file system that this machine runs from, not on a drive", again)
    if mount.kind in WITHOUT_MODES:
        hint = f"format a fresh drive, which destroys what is on it: mkfs.ext4 -L vault {mount.source}"
        return PkiError(f"{folder}: is {mount.kind}, which keeps no secret from other users", hint)
    return exchange_fault(folder)


def mounting(folder: Path) -> str:
    """What to type where a drive is to be mounted at a folder; the page labels each drive as its folder is called."""
    return f"{WHICH}\nthen, for example: mount LABEL={shlex.quote(folder.name)} {shlex.quote(str(folder))}\nand the same line again"


def exchange_fault(folder: Path) -> PkiError | None:
    """Why a folder is on the exchange drive; None when it is not: neither it nor another partition of its drive."""
    for mount in mounts():
        if together(mount_of(folder), mount) and (names := exchange_names(mount.point)):
            where = "" if mount.point == Path(os.path.realpath(folder)) else f", as {mount.point} is"
            return PkiError(
                f"{folder}: is the exchange drive{where}: {', '.join(names)}",
                f"{WHICH}\numount {folder}, and mount the drive that is to be named",
            )
    return None


def exchange_names(folder: Path) -> list[str]:
    """What shows that a folder belongs to the exchange drive."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if OF_EXCHANGE.fullmatch(name))
    return []


def contents(folder: Path) -> list[str]:
    """What is on a drive, without what a file system or a desktop puts on an empty one."""
    return sorted(name for name in os.listdir(folder) if not LOST_AND_FOUND.fullmatch(name))


def together(one: Mount, other: Mount) -> bool:
    """Whether two file systems are on one drive, be it in two partitions or through layers such as LUKS."""
    return one.device == other.device or not _disks(one).isdisjoint(_disks(other))


def is_in_ram(mount: Mount, depth: int = 0) -> bool:
    """Whether what is written to a file system is lost without power, or may be: so it is with every layered one."""
    if mount.kind in IN_RAM | LAYERED or depth > DEEPEST:
        return True
    for disk in _disks(mount):
        with suppress(OSError):
            file = (BLOCKS / disk / "loop/backing_file").read_text().rstrip("\n")
            if is_in_ram(mount_of(Path(file)), depth + 1):
                return True
        if RAM_DISKS.fullmatch(Path(os.path.realpath(BLOCKS / disk)).name):
            return True
    return False


def _disks(mount: Mount) -> frozenset[str]:
    """The numbers of the whole drives below a file system; its own where nothing is known of it."""
    device = mount.device
    if device.startswith("0:") and mount.source.startswith("/dev/"):  # btrfs numbers its file systems itself
        with suppress(OSError):
            number = os.stat(mount.source).st_rdev
            device = f"{os.major(number)}:{os.minor(number)}"
    return frozenset(_whole(device))


def _whole(device: str, depth: int = 0) -> Iterator[str]:
    place = Path(os.path.realpath(BLOCKS / device))
    below = list(place.glob("slaves/*/dev"))
    if below and depth < DEEPEST:
        for path in below:
            yield from _whole(path.read_text().strip(), depth + 1)
    elif (place / "partition").exists():
        yield (place.parent / "dev").read_text().strip()
    else:
        yield device


def _plain(text: str) -> str:
    """A field of mountinfo without its octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
