"""Delivery into a folder that stands for a host's root directory: modes are set, owners are not, commands do not run."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pki import store
from pki.deploy.parcel import Parcel
from pki.deploy.receipt import Receipt, instant, taken


class FolderTransport:
    """The transport of `deliver: folder`; `root` stands for `/`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def drift(self, receipt: Receipt) -> list[str]:
        found = []
        for file in receipt.files:
            path = self._root / file["path"].lstrip("/")
            content, mode = store.read(path), store.mode_of(path)
            if content is None:
                found.append(f"{file['path']} was deleted")
            elif hashlib.sha256(content).hexdigest() != file["sha256"]:
                found.append(f"{file['path']} was edited")
            elif mode != int(file["mode"], 8):
                found.append(f"{file['path']} has mode {mode or 0:04o}, expected {file['mode']}")
        return found

    def watched(self, receipt: Receipt) -> list[str]:
        return [str(self._root / file["path"].lstrip("/")) for file in receipt.files]

    def deliver(self, parcel: Parcel, previous: Receipt | None, now: datetime) -> Receipt:
        """Make the folder hold the release, and nothing that `previous` lists beyond it."""
        release = parcel.release
        wanted = {file.below(self._root): (parcel.content(file), int(file.mode, 8)) for file in release.files}
        store.write_all(store.differing(wanted))
        kept = {file.path for file in release.files}
        for gone in previous.files if previous else ():
            if gone["path"] not in kept:
                self._remove(gone["path"])
        commands = sorted({command for file in release.files for command in (file.validate, file.reload) if command})
        not_done = ["owners were not set: a folder host is written as whoever runs doit"]
        not_done += [f"not run: {command}" for command in commands]
        return Receipt(
            host=release.host,
            release=release.digest,
            delivered_at=instant(now),
            transport="folder",
            files=tuple(taken(file) for file in release.files),
            not_done=tuple(not_done),
        )

    def withdraw(self, receipt: Receipt) -> None:
        """Take away everything that a receipt lists."""
        for file in receipt.files:
            self._remove(file["path"])

    def _remove(self, path: str) -> None:
        target = self._root / path.lstrip("/")
        target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == self._root.parent:
                break
            with suppress(OSError):
                parent.rmdir()
