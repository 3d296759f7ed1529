"""Find the drive of a folder, from the kernel's lists of mounts and block devices.

A vault must be a mounted drive, and never the memory of a live system.
"""

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
LAYERED = frozenset({"overlay", "aufs", "unionfs", "squashfs", "iso9660", "erofs"})  # live systems and containers
WITHOUT_MODES = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk"})
RAM_DISKS = re.compile(r"z?ram[0-9]+")
IGNORED_FILES = re.compile(r"lost\+found|System Volume Information|\.Trash-[0-9]+|\.room|\.vault\.yaml\.new")
EXCHANGE_FILES = re.compile(r"\.?doit-pki-kit(\.new)?|request-[0-9]{4}\.yaml|\.?response-[0-9]{4}(\.new)?")
WHICH_DRIVE = "find the right drive: lsblk -o NAME,SIZE,LABEL,FSTYPE,MOUNTPOINTS"
MAX_DEPTH = 8  # levels of devices and of loop files


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: `device` is the kernel's number (8:17), `kind` such as ext4, `source` such as /dev/sdb1."""

    point: Path
    device: str
    kind: str
    source: str

    def __str__(self) -> str:
        return f"{self.source}, {self.kind}"


def mount_of(folder: Path) -> Mount:
    """Return the mount that contains a folder. Raises PkiError without /proc.

    If two file systems are mounted on one folder, the later one hides the earlier one.
    """
    real_path = Path(os.path.realpath(folder))
    candidates = [mount for mount in mounts() if real_path.is_relative_to(mount.point)]
    if not candidates:
        raise PkiError(f"{folder}: {MOUNTS} does not list its file system", "mount -t proc proc /proc")
    longest = max(len(mount.point.parts) for mount in candidates)
    return [mount for mount in candidates if len(mount.point.parts) == longest][-1]


def mounts() -> Iterator[Mount]:
    """Yield all mounts in the order of the kernel."""
    with suppress(OSError):
        for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
            left, _, right = line.partition(" - ")  # the left part has a variable number of fields
            mount_fields, source_fields = left.split(" "), right.split(" ")
            if len(mount_fields) >= 6 and len(source_fields) >= 2:
                point, device = Path(_unescaped(mount_fields[4])), mount_fields[2]
                yield Mount(point, device, kind=source_fields[0], source=_unescaped(source_fields[1]))


def vault_fault(folder: Path) -> PkiError | None:
    """Return why a folder cannot be a vault, with a hint; None when it is a mounted drive."""
    mount, real_path = mount_of(folder), Path(os.path.realpath(folder))
    hint_to_mount = mount_hint(folder)
    if real_path != mount.point and (mount.point == Path("/") or is_in_ram(mount)):
        text = f"{folder}: no drive is mounted there: files would stay on this machine"
        return PkiError(f"{text}, and be lost when it is switched off" if is_in_ram(mount) else text, hint_to_mount)
    if real_path != mount.point:
        return PkiError(f"{folder}: is a folder on the drive {mount.point}, not a drive", f"--vault {mount.point}")
    if is_in_ram(mount):
        return PkiError(f"{folder}: is in the memory of this machine ({mount.kind}), not on a drive", hint_to_mount)
    if mount.device == mount_of(Path("/")).device:
        return PkiError(f"{folder}: is on the file system that this machine runs from, not on a drive", hint_to_mount)
    if mount.kind in WITHOUT_MODES:
        hint = f"format an empty drive (all data on it is lost): mkfs.ext4 -L vault {mount.source}"
        return PkiError(
            f"{folder}: is {mount.kind}, which has no file permissions: other users could read the key", hint
        )
    return exchange_fault(folder)


def mount_hint(folder: Path) -> str:
    """Return the hint how to mount a drive at a folder. The printed steps give each drive the label of its folder."""
    return f"{WHICH_DRIVE}\nthen, for example: mount LABEL={shlex.quote(folder.name)} {shlex.quote(str(folder))}\nand repeat the command"


def exchange_fault(folder: Path) -> PkiError | None:
    """Return an error when a folder is on the exchange drive or another partition of that drive, else None."""
    for mount in mounts():
        if is_same_drive(mount_of(folder), mount) and (names := exchange_names(mount.point)):
            where = "" if mount.point == Path(os.path.realpath(folder)) else f", as {mount.point} is"
            return PkiError(
                f"{folder}: is the exchange drive{where}: {', '.join(names)}",
                f"{WHICH_DRIVE}\numount {folder}, and mount the right drive",
            )
    return None


def exchange_names(folder: Path) -> list[str]:
    """Return the file names that identify a folder as the exchange drive."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if EXCHANGE_FILES.fullmatch(name))
    return []


def contents(folder: Path) -> list[str]:
    """Return the file names on a drive, without those that file systems and desktops create on an empty one."""
    return sorted(name for name in os.listdir(folder) if not IGNORED_FILES.fullmatch(name))


def is_same_drive(first: Mount, second: Mount) -> bool:
    """Return whether two file systems are on the same drive, also in two partitions or through layers such as LUKS."""
    return first.device == second.device or not _disks(first).isdisjoint(_disks(second))


def is_in_ram(mount: Mount, depth: int = 0) -> bool:
    """Return whether files on a file system are lost without power. In doubt (layered file systems) returns True."""
    if mount.kind in IN_RAM | LAYERED or depth > MAX_DEPTH:
        return True
    for disk in _disks(mount):
        with suppress(OSError):  # not a loop device, which would be as durable as its file
            file = (BLOCKS / disk / "loop/backing_file").read_text().rstrip("\n")
            if is_in_ram(mount_of(Path(file)), depth + 1):
                return True
        if RAM_DISKS.fullmatch(Path(os.path.realpath(BLOCKS / disk)).name):
            return True
    return False


def _disks(mount: Mount) -> frozenset[str]:
    """Return the device numbers of the drives below a file system; its own number when the kernel lists none."""
    device = mount.device
    if device.startswith("0:") and mount.source.startswith("/dev/"):  # btrfs numbers its file systems itself
        with suppress(OSError):
            number = os.stat(mount.source).st_rdev
            device = f"{os.major(number)}:{os.minor(number)}"
    return frozenset(_whole_disks(device))


def _whole_disks(device: str, depth: int = 0) -> Iterator[str]:
    """Yield the numbers of the drives that a partition or layered device is on."""
    folder = Path(os.path.realpath(BLOCKS / device))
    lower_devices = list(folder.glob("slaves/*/dev"))
    if lower_devices and depth < MAX_DEPTH:
        for path in lower_devices:
            yield from _whole_disks(path.read_text().strip(), depth + 1)
    elif (folder / "partition").exists():
        yield (folder.parent / "dev").read_text().strip()
    else:
        yield device


def _unescaped(text: str) -> str:
    """Return a field of mountinfo with its octal escapes decoded (proc_pid_mountinfo(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
