"""Delivery into a folder that stands for a host's root directory: modes are set, owners are not, commands do not run.

Beside it, `.HOST.files` lists what was delivered there, as pki-apply does on a host: a receipt can be damaged.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pki.common import filesystem, sealed_records
from pki.common.reasons import Reason, Why
from pki.deploy.payload import Payload
from pki.deploy.protocol import link_target_text
from pki.deploy.receipt import Receipt, file_record, instant


class FolderTransport:
    """The transport of `deliver: folder`; `root` stands for `/`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._list = root.with_name(f".{root.name}.files")

    def drift(self, receipt: Receipt) -> list[Reason]:
        """What is not as it was delivered: files, the folders that they lie in, and the list of them."""
        found = [] if self._listed() == [file["path"] for file in receipt.files] else [Why.LIST_DAMAGED()]
        found += [Why.FOLDER_OPEN(folder=name, mode=f"{mode:04o}") for name, mode in self._open_folders(receipt)]
        for file in receipt.files:
            path = self._root / file["path"].lstrip("/")
            content, mode = filesystem.read(path), filesystem.mode_of(path)
            if path.is_symlink():
                found.append(Why.FILE_LINK(file=file["path"], to=link_target_text(os.readlink(path))))
            elif content is None:
                found.append(Why.DELETED(file=file["path"]))
            elif hashlib.sha256(content).hexdigest() != file["sha256"]:
                found.append(Why.EDITED(file=file["path"]))
            elif mode != int(file["mode"], 8):
                found.append(Why.FILE_MODE(file=file["path"], mode=f"{mode or 0:04o}", expected=file["mode"]))
        return found

    def _open_folders(self, receipt: Receipt) -> Iterator[tuple[str, int]]:
        """The folders on the way to the files that everybody can write, each with its mode."""
        for folder in self._folders(receipt):
            mode = filesystem.mode_of(folder)
            if mode is not None and mode & stat.S_IWOTH:
                yield f"/{folder.relative_to(self._root)}", mode

    def _folders(self, receipt: Receipt) -> list[Path]:
        ways = (self._root.joinpath(file["path"].lstrip("/")).parents for file in receipt.files)
        return sorted({one for way in ways for one in way if one != self._root and one.is_relative_to(self._root)})

    def watched_paths(self, receipt: Receipt) -> list[str]:
        folders = map(str, self._folders(receipt))
        return [str(self._list), *folders, *(str(self._root / file["path"].lstrip("/")) for file in receipt.files)]

    def delivered(self, previous: Receipt | None) -> set[str] | None:
        """Paths of all that was delivered, by the receipt and by the list beside the folder; None where nobody knows."""
        listed = self._listed()
        if previous is None and listed is None and os.path.lexists(self._root):
            return None
        return {*(file["path"] for file in (previous.files if previous else ())), *(listed or ())}

    def _listed(self) -> list[str] | None:
        """The list beside the folder, None where there is none or it is damaged."""
        record = sealed_records.unsealed(filesystem.read_if_possible(self._list))
        return None if record is None else list(record["files"])

    def deliver(self, payload: Payload, previous: Receipt | None, now: datetime) -> Receipt:
        """Make the folder hold the release, and nothing beyond it of what was delivered before."""
        release = payload.release
        wanted = {file.below(self._root): (payload.content(file), int(file.mode, 8)) for file in release.files}
        filesystem.write_all(
            {**filesystem.differing(wanted), **{path: one for path, one in wanted.items() if path.is_symlink()}}
        )
        for name, mode in self._open_folders(previous) if previous else ():
            (self._root / name.lstrip("/")).chmod(mode & ~0o022)
        kept = [file.path for file in release.files]
        for gone in (self.delivered(previous) or set()).difference(kept):
            self._remove(gone)
        files = sealed_records.sealed({"files": kept})
        if filesystem.read_if_possible(self._list) != files:
            filesystem.write(self._list, files)
        commands = sorted({command for file in release.files for command in (file.validate, file.reload) if command})
        not_done = ["owners were not set: a folder host is written as whoever runs doit"]
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
        """Take away everything that was delivered."""
        for path in self.delivered(receipt) or ():
            self._remove(path)
        self._list.unlink(missing_ok=True)

    def _remove(self, path: str) -> None:
        target = self._root / path.lstrip("/")
        target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == self._root.parent:
                break
            with suppress(OSError):
                parent.rmdir()
