"""Files as the operating system gives them: read without waiting, and left to the owner of their folder."""

from __future__ import annotations

import ctypes
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from pki.errors import PkiError, of_system

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read(path: Path | str) -> bytes | None:
    """Return the content of a file, None when nothing has this name. Never waits for a pipe or a device.

    Raises PkiError that names what is there instead of a file, or why the file cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise _no_file(path) from None
        return None
    except OSError as error:
        raise _no_file(path) if _kind(path) else of_system(error, path, "cannot be read") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _no_file(path)
        parts = [os.read(handle, 65536)]
        while len(parts[-1]) >= 65536:
            parts.append(os.read(handle, 1 << 20))
    except OSError as error:
        raise of_system(error, path, "cannot be read") from None
    finally:
        os.close(handle)
    return b"".join(parts)


def read_if_possible(path: Path | str) -> bytes | None:
    """Return the content of a file that only saves time or tells of the past, None when it cannot be read."""
    try:
        return read(path)
    except PkiError:
        return None


def insist_on_file(path: Path | str) -> None:
    """Raise PkiError that names it when something other than a file has this name."""
    if _kind(path):
        raise _no_file(path)


def insist_on_folder(path: Path) -> None:
    """Raise PkiError that names it when something other than a folder or a file has this name.

    A file in place of a folder is named by what is to be made below it.
    """
    if not path.is_dir() and (what := _kind(path)):
        shown = shlex.quote(str(path))
        raise PkiError(f"{path}: is {what}, and no folder", f"ls -ld {shown}; then: mv {shown} {shown}.odd")


def _no_file(path: Path | str) -> PkiError:
    shown = shlex.quote(os.fspath(path))
    return PkiError(f"{path}: is {_kind(path)}, and no file", f"ls -ld {shown}; then: mv {shown} {shown}.odd")


def _kind(path: Path | str) -> str:
    """Return what has this name instead of a file, as a phrase; empty for a file, and where there is nothing."""
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except OSError as error:
        if not os.path.islink(path) or isinstance(error, PermissionError):
            return ""
        target = os.readlink(path)
        return f"a link to {target}, which is not there" if isinstance(error, FileNotFoundError) else "a link to itself"


# -- names ------------------------------------------------------------------------------------------------------------

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # renameat2(2)


def exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False, and nothing is changed, where that cannot be done."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


# -- owners -----------------------------------------------------------------------------------------------------------


def leave_to_owner(file: int | Path, folder: Path) -> None:
    """Give a file or folder that root made to the owner of the folder that holds it.

    One run as root must not shut out the account that runs doit otherwise. `file` is an open descriptor, or a path
    whose last part is no link. Where the file system knows no owners, nothing happens.
    """
    if os.geteuid() != 0:
        return
    with suppress(OSError):
        owner = os.stat(folder)
        if owner.st_uid != 0:
            if isinstance(file, int):
                os.fchown(file, owner.st_uid, owner.st_gid)
            else:
                os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)


def leave_all_to_owner(folder: Path) -> None:
    """Do the same for everything below a folder that a program of others wrote as root."""
    if os.geteuid() != 0:
        return
    leave_to_owner(folder, folder.parent)
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            leave_to_owner(Path(root, name), folder)
