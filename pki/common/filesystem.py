"""Files as the operating system gives them: read without waiting, and left to the owner of their folder."""

from __future__ import annotations

import ctypes
import os
import shlex
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self

from pki.common import flushing
from pki.common.errors import PkiError, from_os_error

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
            raise _not_a_file(path) from None
        return None
    except OSError as error:
        raise _not_a_file(path) if _kind(path) else from_os_error(error, path, "cannot be read") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _not_a_file(path)
        parts = [os.read(handle, 65536)]
        while len(parts[-1]) >= 65536:
            parts.append(os.read(handle, 1 << 20))
    except OSError as error:
        raise from_os_error(error, path, "cannot be read") from None
    finally:
        os.close(handle)
    return b"".join(parts)


def read_if_possible(path: Path | str) -> bytes | None:
    """Return the content of a file that only saves time or tells of the past, None when it cannot be read."""
    try:
        return read(path)
    except PkiError:
        return None


def require_file(path: Path | str) -> None:
    """Raise PkiError that names it when something other than a file has this name."""
    if _kind(path):
        raise _not_a_file(path)


def require_folder(path: Path) -> None:
    """Raise PkiError that names it when something other than a folder or a file has this name.

    A file in place of a folder is named by what is to be made below it.
    """
    if not path.is_dir() and (what := _kind(path)):
        shown = shlex.quote(str(path))
        raise PkiError(f"{path}: is {what}, and no folder", f"ls -ld {shown}; then: mv {shown} {shown}.odd")


def _not_a_file(path: Path | str) -> PkiError:
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


def exchange_names(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False, and nothing is changed, where that cannot be done."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


# -- owners -----------------------------------------------------------------------------------------------------------


def give_to_folder_owner(file: int | Path, folder: Path) -> None:
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


def give_all_to_folder_owner(folder: Path) -> None:
    """Do the same for everything below a folder that a program of others wrote as root."""
    if os.geteuid() != 0:
        return
    give_to_folder_owner(folder, folder.parent)
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            give_to_folder_owner(Path(root, name), folder)


SECRET, PUBLIC = 0o600, 0o644


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Put `data` at `path` atomically and durably; the mode holds from the first byte."""
    write_all({path: (data, mode)})


def write_all(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Put several files in place, each with its mode: all are on disk before the first one is renamed.

    Raises PkiError that names the file; then none of those not yet renamed has changed.
    """
    with StagedFiles(files) as waiting:
        waiting.flush()
        waiting.place()


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file; a line that a killed run cut short is ended first. Raises PkiError that names it."""
    require_file(path)
    with _named_errors(path), path.open("a+b") as file:
        give_to_folder_owner(file.fileno(), path.parent)
        if end := file.tell():
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        file.write(data)


def temporary_path(path: Path) -> Path:
    """Where the new content of a file waits for its name."""
    return path.with_name(f".{path.name}.new")


class StagedFiles:
    """Files written beside their places: on disk after `flush`, visible after `place`, gone again otherwise.

    `flush_meanwhile` flushes them in a thread, so that a ledger can be written at the same time; `place` waits for it.
    """

    def __init__(self, files: Mapping[Path, tuple[bytes, int]]) -> None:
        self._files = files
        self._waiting: dict[Path, Path] = {}
        self._handles: dict[Path, int] = {}
        self._thread: threading.Thread | None = None
        self._fault: PkiError | None = None

    def __enter__(self) -> Self:
        self._waiting = {path: temporary_path(path) for path in self._files}
        try:
            for path, (data, mode) in self._files.items():
                with _named_errors(path):
                    handle = self._handles[path] = _open_new(self._waiting[path], mode)
                    give_to_folder_owner(handle, path.parent)
                    # what is public may lie on a medium whose file system knows no modes (vfat refuses to set them)
                    with suppress(PermissionError) if mode == PUBLIC else nullcontext():
                        os.fchmod(handle, mode)
                    _write_completely(handle, data)
        except PkiError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self._thread.join()
        for handle in self._handles.values():
            os.close(handle)
        for waiting in self._waiting.values():
            with suppress(OSError):
                waiting.unlink()

    def flush(self) -> None:
        if errors := flushing.flush_all(self._handles):
            path, error = next(iter(errors.items()))
            raise from_os_error(error, path, "cannot be written")

    def flush_meanwhile(self) -> None:
        def flush() -> None:
            try:
                self.flush()
            except PkiError as fault:
                self._fault = fault

        self._thread = flushing.begin(flush)

    def place(self) -> None:
        """Rename the files to their places, in the order in which they were given."""
        if self._thread:
            self._thread.join()
        if self._fault:
            raise self._fault
        for path, waiting in list(self._waiting.items()):
            with _named_errors(path):
                os.replace(waiting, path)
            del self._waiting[path]


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, path, "cannot be written") from None


def _write_completely(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _open_new(path: Path, mode: int) -> int:
    """A new file, in folders that only their owner can write to; one that a killed run left in its place goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags, mode)
    except FileNotFoundError:
        make_folder(path.parent)
    except FileExistsError:
        path.unlink()
    return os.open(path, flags, mode)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """A folder and those above it that are missing, whatever the umask. Raises PkiError that names it."""
    if not path.parent.is_dir():
        make_folder(path.parent)
    try:
        path.mkdir(mode)
        path.chmod(mode)
        give_to_folder_owner(path, path.parent)
    except FileExistsError:
        require_folder(path)
    except OSError as error:
        raise from_os_error(error, path, "cannot be made") from None


def invalidate_cached(path: Path | str) -> None:
    """Change the time of a file, so that nothing that was found of it before is believed in any process."""
    with suppress(OSError):
        os.utime(path)


def changed_files(files: Mapping[Path, tuple[bytes, int]]) -> dict[Path, tuple[bytes, int]]:
    """Those of some files that are not on disk with this content and mode."""
    return {path: (data, mode) for path, (data, mode) in files.items() if read(path) != data or mode_of(path) != mode}


def mode_of(path: Path | str) -> int | None:
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        return None


def size_of(path: Path | str) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
