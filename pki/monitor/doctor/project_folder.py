"""The folder of a project, or where one would be: free space, and what its file system can do."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pki.monitor.check_result import Level
from pki.monitor.checks.disk_space import DiskSpace
from pki.monitor.doctor.observation import MachineObservation

ELSEWHERE = "use a folder on a local disk, such as ext4, xfs or btrfs"


def observe_space(folder: Path) -> MachineObservation:
    """Return the free space and inodes below `folder`, judged as by `health`."""
    space = DiskSpace.of(folder)
    value = f"{folder}: {space.free_megabytes} of {space.megabytes} MB and {space.free_inodes} inodes free"
    if space.is_read_only:
        return MachineObservation("disk", f"{folder}: mounted read-only", Level.CRITICAL, space.remount(folder))
    return MachineObservation("disk", value, space.level, space.make_room(folder) if space.level else "")


def observe_file_system(folder: Path) -> Iterator[MachineObservation]:
    """Yield whether a file in `folder` can be flushed, renamed, locked and made private. The file is removed again."""
    kind = _kind_of(folder)
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place,
            (Path(place) / "file").open("wb") as file,
        ):
            faults = list(_faults(file.fileno(), Path(file.name)))
    except OSError as error:
        remedy = f"sudo chown $(id -un) {folder}" if isinstance(error, PermissionError) else ELSEWHERE
        text = f"{folder}: no file can be written there: {error.strerror}"
        yield MachineObservation("file system", text, Level.CRITICAL, remedy)
        return
    if not faults:
        yield MachineObservation("file system", f"{folder} is {kind}: fsync, rename, locks and mode 0600 work")
    for fault in faults:
        yield MachineObservation("file system", f"{folder} is {kind}: {fault}", Level.CRITICAL, ELSEWHERE)


def _faults(handle: int, path: Path) -> Iterator[str]:
    """Yield what the file system of a new, open file cannot do. Raises OSError where even a write fails."""
    os.write(handle, b"x")
    try:
        os.fsync(handle)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        yield f"fsync fails ({error.strerror}): a power failure could lose a recorded certificate"
    os.fchmod(handle, 0o600)
    if stat.S_IMODE(os.fstat(handle).st_mode) != 0o600:
        yield "modes are not stored: others could read keys"
    if not _locks(handle, path):
        yield "locks do not exclude other processes: two runs could disturb each other"
    try:
        path.rename(path.with_name("renamed"))
    except OSError as error:
        yield f"rename fails ({error.strerror})"


def _locks(handle: int, path: Path) -> bool:
    """Return whether an exclusive flock(2) of one open file excludes another one."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        second = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(second)
    return False


def _kind_of(folder: Path) -> str:
    """Return the type of the file system that `folder` is on, such as ext4; "unknown" if it cannot be read."""
    device = f"{os.major(folder.stat().st_dev)}:{os.minor(folder.stat().st_dev)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2] == device]
    return kinds[-1] if kinds else "unknown"
