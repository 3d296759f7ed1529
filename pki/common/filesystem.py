"""Read files without blocking, write them atomically and durably, and keep their owner."""

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
    """Return the content of a file, or None if it does not exist. Never blocks on a pipe or a device.

    Raises PkiError if it is not a file, or cannot be read.
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
    """Return the content of a file that is not essential, such as a cache, or None if it cannot be read."""
    try:
        return read(path)
    except PkiError:
        return None


def require_file(path: Path | str) -> None:
    """Raise PkiError if the path exists and is not a file."""
    if _kind(path):
        raise _not_a_file(path)


def require_folder(path: Path) -> None:
    """Raise PkiError if the path is something other than a folder or a file.

    A file instead of a folder is reported when something is created in it.
    """
    what = "" if path.is_dir() else _kind(path)
    if what:
        shown = shlex.quote(str(path))
        raise PkiError(f"{path}: is {what}, not a folder", f"ls -ld {shown}; then: mv {shown} {shown}.odd")


def _not_a_file(path: Path | str) -> PkiError:
    shown = shlex.quote(os.fspath(path))
    return PkiError(f"{path}: is {_kind(path)}, not a file", f"ls -ld {shown}; then: mv {shown} {shown}.odd")


def _kind(path: Path | str) -> str:
    """Return what the path is, as a phrase, or "" for a file and for nothing."""
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except OSError as error:
        if not os.path.islink(path) or isinstance(error, PermissionError):
            return ""
        target = os.readlink(path)
        return (
            f"a link to {target}, which does not exist" if isinstance(error, FileNotFoundError) else "a link to itself"
        )


# -- names ------------------------------------------------------------------------------------------------------------

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # renameat2(2)


def exchange_names(first: Path, second: Path) -> bool:
    """Exchange two paths atomically (renameat2(2)). Returns False, without a change, if that is not supported."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0)


# -- owners -----------------------------------------------------------------------------------------------------------


def give_to_folder_owner(file: int | Path, folder: Path) -> None:
    """Give a file or folder that root created to the owner of its folder.

    Otherwise one run as root would lock out the account that normally runs doit. `file` is an open descriptor, or a path
    that is not a link. Does nothing on a file system without owners.
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
    """Do the same for everything in a folder that another program wrote as root."""
    if os.geteuid() != 0:
        return
    give_to_folder_owner(folder, folder.parent)
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            give_to_folder_owner(Path(root, name), folder)


SECRET, PUBLIC = 0o600, 0o644


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write a file atomically and durably; its mode is set before the first byte is written."""
    write_all({path: (data, mode)})


def write_all(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write several files with their modes; all are on disk before the first one is renamed.

    Raises PkiError with the name of the file; files that are not renamed yet are unchanged then.
    """
    with StagedFiles(files) as staged:
        staged.flush()
        staged.place()


def append(path: Path, data: bytes) -> None:
    """Append to a file, on a new line if a killed run left an incomplete one. Raises PkiError with its name."""
    require_file(path)
    with _named_errors(path), path.open("a+b") as file:
        give_to_folder_owner(file.fileno(), path.parent)
        if end := file.tell():
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        file.write(data)


def replace_bytes(path: Path, offset: int, data: bytes) -> None:
    """Replace bytes of an existing file in place. The reader sees the old or the new ones if they are a few."""
    with _named_errors(path), path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def temporary_path(path: Path) -> Path:
    """Return the temporary path for the new content of a file, in the same folder."""
    return path.with_name(f".{path.name}.new")


def final_name(name: str) -> str:
    """Return the name that a file gets: the inverse of `temporary_path` for names; others are returned unchanged."""
    is_temporary = name.startswith(".") and name.endswith(".new")
    return name[1:].removesuffix(".new") if is_temporary else name


class StagedFiles:
    """Files under temporary names: on disk after `flush`, renamed by `place`, removed at the end otherwise.

    `flush_meanwhile` flushes them in a thread, while the caller writes the ledger; `place` waits for it.
    """

    def __init__(self, files: Mapping[Path, tuple[bytes, int]]) -> None:
        self._files = files
        self._temporary_paths: dict[Path, Path] = {}  # of the files that are not renamed yet
        self._handles: dict[Path, int] = {}
        self._thread: threading.Thread | None = None
        self._fault: PkiError | None = None

    def __enter__(self) -> Self:
        self._temporary_paths = {path: temporary_path(path) for path in self._files}
        try:
            for path, (data, mode) in self._files.items():
                with _named_errors(path):
                    handle = self._handles[path] = _open_new(self._temporary_paths[path], mode)
                    give_to_folder_owner(handle, path.parent)
                    # a public file may be on a file system without modes: vfat refuses to set them
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
        for temporary in self._temporary_paths.values():
            with suppress(OSError):
                temporary.unlink()

    def flush(self) -> None:
        """Flush the files to disk. Raises PkiError for the first one that fails."""
        if errors := flushing.flush_all(self._handles):
            path, error = next(iter(errors.items()))
            raise from_os_error(error, path, "cannot be written")

    def flush_meanwhile(self) -> None:
        """Start to flush the files in a thread; `place` raises its error."""

        def flush() -> None:
            try:
                self.flush()
            except PkiError as fault:
                self._fault = fault

        self._thread = flushing.begin(flush)

    def place(self) -> None:
        """Rename the files to their final names, in the given order."""
        if self._thread:
            self._thread.join()
        if self._fault:
            raise self._fault
        for path, temporary in list(self._temporary_paths.items()):
            with _named_errors(path):
                os.replace(temporary, path)
            del self._temporary_paths[path]


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
    """Create a file and missing folders, and return its descriptor; replaces a file that a killed run left."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(path, flags, mode)
    except FileNotFoundError:
        make_folder(path.parent)
    except FileExistsError:
        path.unlink()
    return os.open(path, flags, mode)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Create a folder and its missing parents with `mode`, regardless of the umask. Raises PkiError with its name."""
    if not path.parent.is_dir():
        make_folder(path.parent)
    try:
        path.mkdir(mode)
        path.chmod(mode)
        give_to_folder_owner(path, path.parent)
    except FileExistsError:
        require_folder(path)
    except OSError as error:
        raise from_os_error(error, path, "cannot be created") from None


def invalidate_cached(path: Path | str) -> None:
    """Change the modification time of a file, so that no process uses a cached finding about it."""
    with suppress(OSError):
        os.utime(path)


def changed_files(files: Mapping[Path, tuple[bytes, int]]) -> dict[Path, tuple[bytes, int]]:
    """Return the files that are not on disk with this content and mode."""
    return {path: (data, mode) for path, (data, mode) in files.items() if read(path) != data or mode_of(path) != mode}


def mode_of(path: Path | str) -> int | None:
    """Return the permission bits of a file, or None if it does not exist."""
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        return None


def size_of(path: Path | str) -> int:
    """Return the size of a file in bytes, 0 if it does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
