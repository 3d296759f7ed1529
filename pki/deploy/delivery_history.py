"""The history of a host: the last releases, kept for a rollback, and a log of deliveries.

`build/history/<host>/` contains a folder for each release, with its files as they were delivered. `log.jsonl` has a line
for each attempt that changed something, and `seen/` has the CRLs that `ledger.recover` found on the host. The ledger
records to which release a host is pinned.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pki.common import filesystem, sealed_records
from pki.common.errors import PkiError
from pki.common.timestamps import instant
from pki.common.visible import shorten
from pki.deploy import release as releases
from pki.deploy.payload import Payload

RELEASES_KEPT = 4
LOG_LINES, LOG_BYTES = 2000, 1 << 20  # of a host's log; when it is larger, its last half is kept
MIN_LINE_BYTES = 80
TEXT_LENGTH = 2000  # characters of a text in the log


@dataclass(frozen=True, slots=True)
class History:
    """The history of one host below `folder`."""

    folder: Path

    # -- releases --

    def keep_release(self, payload: Payload, pinned: str = "") -> None:
        """Keep a delivered release with its newest CRLs, and remove the oldest ones except the pinned one."""
        times = [path.stat().st_mtime_ns for path in self.releases()]
        folder = self.folder / payload.release.digest
        _write(folder, payload)
        newest = max(times, default=0)
        if newest >= folder.stat().st_mtime_ns:  # an earlier delivery was dated in the future: `releases` sorts by time
            os.utime(folder, ns=(newest + 1, newest + 1))
        for old_release in self.releases()[:-RELEASES_KEPT]:
            if old_release.name != pinned:
                shutil.rmtree(old_release)

    def releases(self) -> list[Path]:
        """Return the folders of the kept releases, the last delivered one at the end."""
        # programs before ledger schema 3 stored the release of a pinned host in `held`
        manifests = [path for path in self.folder.glob("*/manifest.json") if not path.parent.name.startswith("held")]
        return sorted((path.parent for path in manifests), key=lambda path: path.stat().st_mtime_ns)

    def payload(self, release: str) -> Payload | None:
        """Return a kept release, None if it is not kept or its files are damaged."""
        return None if self.is_damaged(release) else Payload.of(self.folder / release)

    def is_damaged(self, release: str) -> bool:
        """Return whether a release is kept but its files are damaged."""
        return bool(releases.damage_text(self.folder / release))

    @property
    def newest(self) -> Payload | None:
        """The release that was delivered last."""
        folders = self.releases()
        return self.payload(folders[-1].name) if folders else None

    def find_release(self, host: str, release: str, present: str) -> Payload:
        """Return the kept release whose name begins with `release`, or the one before the present one for "".

        Raises PkiError when there is none, several, or it is damaged.
        """
        names = [path.name for path in self.releases()]
        other_releases = [name for name in names if name != present]
        matches = [name for name in names if name.startswith(release)] if release else other_releases[-1:]
        payload = self.payload(matches[0]) if len(matches) == 1 else None
        if payload is None:
            if len(matches) == 1:
                message = f"{host}: the kept release {matches[0][:12]} is damaged"
            elif release:
                message = f"{host}: no kept release {release}"
            else:
                message = f"{host}: no release before this one is kept"
            raise PkiError(message, f"kept releases: {', '.join(name[:12] for name in names) or 'none'}")
        return payload

    # -- CRLs --

    def crls(self) -> dict[str, Path]:
        """Return the paths of all stored CRLs of the host, by SHA-256: those that were sent, and those that were found there."""
        paths = {path.name: path for path in self.folder.glob("seen/*")}
        for folder in self.releases():
            if release := releases.load(folder):
                paths |= {file.sha256: file.below(folder / "files") for file in release.files if file.crl}
        return paths

    def crl(self, digest: str) -> bytes | None:
        """Return a CRL by its SHA-256, None if it is not stored."""
        path = self.crls().get(digest)
        return filesystem.read(path) if path else None

    def record_installed_crls(self, contents: Iterable[bytes]) -> None:
        """Store the CRL files that were found on the host, in place of those of the last time."""
        folder = self.folder / "seen"
        shutil.rmtree(folder, ignore_errors=True)
        filesystem.write_all(
            {folder / hashlib.sha256(content).hexdigest(): (content, filesystem.PUBLIC) for content in contents}
        )

    # -- the log --

    def add_log_entry(self, now: datetime, release: str, what: str, **more: object) -> None:
        """Add a line to the log; `more` are texts and numbers. A log that is too long loses its first half."""
        filesystem.make_folder(self.folder, 0o700)
        more = {key: shorten(value, TEXT_LENGTH) if isinstance(value, str) else value for key, value in more.items()}
        path = self.folder / "log.jsonl"
        filesystem.append(
            path, sealed_records.encode_sealed({"at": instant(now), "release": release, "what": what, **more})
        )
        size = filesystem.size_of(path)
        if size > LOG_BYTES or (size > LOG_LINES * MIN_LINE_BYTES and len(_lines(path)) > LOG_LINES):
            filesystem.write(path, b"".join(_last_half(_lines(path))))

    def log_entries(self) -> list[Mapping[str, Any]]:
        """Return the intact lines of the log. A killed run may leave half a line, a disk may damage one."""
        entries = map(sealed_records.decode_sealed, _lines(self.folder / "log.jsonl"))
        return [entry for entry in entries if entry is not None]


def _lines(path: Path) -> list[bytes]:
    return (filesystem.read_if_possible(path) or b"").splitlines(keepends=True)


def _last_half(lines: list[bytes]) -> list[bytes]:
    """Return the last lines, with half of the number and size that the log may have."""
    last_lines, size = list[bytes](), 0
    for line in reversed(lines[-LOG_LINES // 2 :]):
        size += len(line)
        if size > LOG_BYTES // 2 and last_lines:
            break
        last_lines.append(line)
    return last_lines[::-1]


def _write(folder: Path, payload: Payload) -> None:
    """Write a release as hard links to the files of its own folder (which are only replaced), the manifest last."""
    shutil.rmtree(folder, ignore_errors=True)
    filesystem.make_folder(folder, 0o700)
    for file in payload.release.files:
        target = file.below(folder / "files")
        filesystem.make_folder(target.parent)
        os.link(file.below(payload.folders[file.path] / "files"), target)
    filesystem.write(folder / "manifest.json", payload.release.manifest())


class PinnedRelease(Protocol):
    """The release at which a host stays, by digest ("" if unknown), and since when."""

    @property
    def release(self) -> str: ...

    @property
    def since(self) -> datetime: ...
