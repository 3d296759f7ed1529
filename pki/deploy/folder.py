"""Delivery into a folder that takes the place of a host's root directory.

A delivery sets the modes of files, but not their owners, and runs no command. The file `.HOST.files` beside the folder
lists what was delivered, because a receipt can be damaged. On a host, pki-apply writes such a list.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.common.reasons import Reason, Why
from pki.common.timestamps import instant
from pki.deploy.payload import Payload
from pki.deploy.protocol import link_target_text
from pki.deploy.receipt import Receipt, file_record
from pki.deploy.record_shape import is_file_record


class FolderTransport:
    """The transport of `deliver: folder`; `root` takes the place of `/`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._list = root.with_name(f".{root.name}.files")

    def drift(self, receipt: Receipt) -> list[Reason]:
        """Return how the folder differs from the receipt: files, modes of folders, and the list of files."""
        is_list_intact = self._paths_in_list() == [file["path"] for file in receipt.files]
        reasons = [] if is_list_intact else [Why.LIST_DAMAGED()]
        reasons += [Why.FOLDER_OPEN(folder=name, mode=f"{mode:04o}") for name, mode in self._open_folders(receipt)]
        for file in receipt.files:
            path = self._root / file["path"].lstrip("/")
            content, mode = filesystem.read(path), filesystem.mode_of(path)
            if path.is_symlink():
                reasons.append(Why.FILE_LINK(file=file["path"], to=link_target_text(os.readlink(path))))
            elif content is None:
                reasons.append(Why.DELETED(file=file["path"]))
            elif hashlib.sha256(content).hexdigest() != file["sha256"]:
                reasons.append(Why.EDITED(file=file["path"]))
            elif mode != int(file["mode"], 8):
                reasons.append(Why.FILE_MODE(file=file["path"], mode=f"{mode or 0:04o}", expected=file["mode"]))
        return reasons

    def _open_folders(self, receipt: Receipt) -> Iterator[tuple[str, int]]:
        """Yield the folders above the files that everybody can write, each with its mode."""
        for folder in self._folders(receipt):
            mode = filesystem.mode_of(folder)
            if mode is not None and mode & stat.S_IWOTH:
                yield f"/{folder.relative_to(self._root)}", mode

    def _folders(self, receipt: Receipt) -> list[Path]:
        names = set[str]()
        for file in receipt.files:
            name = posixpath.dirname(file["path"].lstrip("/"))
            while name and name not in names:
                names.add(name)
                name = posixpath.dirname(name)
        return [self._root / name for name in sorted(names)]

    def watched_paths(self, receipt: Receipt) -> list[str]:
        """Return the paths on which `drift` depends."""
        folders = map(str, self._folders(receipt))
        return [str(self._list), *folders, *(str(self._root / file["path"].lstrip("/")) for file in receipt.files)]

    def delivered_paths(self, previous: Receipt | None) -> set[str] | None:
        """Return the paths of all delivered files in the receipt and in the list; None if both are lost."""
        in_list = self._paths_in_list()
        if previous is None and in_list is None and os.path.lexists(self._root):
            return None
        return {*(file["path"] for file in (previous.files if previous else ())), *(in_list or ())}

    def _paths_in_list(self) -> list[str] | None:
        """Return the paths in the list beside the folder, None if there is none or it is damaged."""
        record = sealed_records.decode_sealed(filesystem.read_if_possible(self._list)) or {}
        paths = record.get("files")
        is_list = isinstance(paths, list) and all(is_file_record(path, "0644") for path in paths)
        return paths if is_list else None

    def deliver(self, payload: Payload, previous: Receipt | None, now: datetime) -> Receipt:
        """Make the folder hold the release, and remove other files that were delivered before."""
        release = payload.release
        files = {file.below(self._root): (payload.content(file), int(file.mode, 8)) for file in release.files}
        # a link is always replaced: `changed_files` reads its target
        links = {path: content for path, content in files.items() if path.is_symlink()}
        filesystem.write_all({**filesystem.changed_files(files), **links})
        for name, mode in self._open_folders(previous) if previous else ():
            (self._root / name.lstrip("/")).chmod(mode & ~0o022)
        paths = [file.path for file in release.files]
        for obsolete in (self.delivered_paths(previous) or set()).difference(paths):
            self._remove(obsolete)
        record = sealed_records.encode_sealed({"files": paths})
        if filesystem.read_if_possible(self._list) != record:
            filesystem.write(self._list, record)
        commands = sorted({command for file in release.files for command in (file.validate, file.reload) if command})
        not_done = ["owners were not set: the files belong to the account that runs doit"]
        not_done += [f"not run: {command}" for command in commands]
        return Receipt(
            host=release.host,
            release=release.digest,
            delivered_at=instant(now),
            transport="folder",
            files=tuple(file_record(file) for file in release.files),
            not_done=tuple(not_done),
        )

    def withdraw(self, receipt: Receipt | None) -> None:
        """Remove everything that was delivered."""
        for path in self.delivered_paths(receipt) or ():
            self._remove(path)
        self._list.unlink(missing_ok=True)

    def _remove(self, path: str) -> None:
        target = self._root / path.lstrip("/")
        target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == self._root.parent:
                break
            with suppress(OSError):  # a folder that still contains files stays
                parent.rmdir()
