"""What a host was sent, and when: the last releases, kept for going back, and a line for every delivery.

`build/history/<host>/<release>/` holds a release as it was delivered, `log.jsonl` a line for each attempt that
changed something, and `seen/` CRLs that `ledger.recover` saw there. That a host is pinned to one of these releases is a
decision in the ledger.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pki.common import filesystem, sealed_records
from pki.common.errors import PkiError
from pki.common.visible import shorten
from pki.deploy import release as releases
from pki.deploy.payload import Payload
from pki.deploy.receipt import instant

RELEASES_KEPT = 4
LOG_LINES, LOG_BYTES = 2000, 1 << 20  # what the log of a host may have; half of it is kept then
MIN_LINE_BYTES = 80  # bytes that a line has at least
TEXT_LENGTH = 2000  # characters of one text in it


@dataclass(frozen=True, slots=True)
class History:
    """The history of one host below `folder`."""

    folder: Path

    # -- releases --

    def keep_release(self, payload: Payload, pinned: str = "") -> None:
        """Keep a delivered release with its newest CRLs, and forget the oldest ones, but for the one that is pinned."""
        before = [path.stat().st_mtime_ns for path in self.releases()]
        place = self.folder / payload.release.digest
        _write(place, payload)
        if (newest := max(before, default=0)) >= place.stat().st_mtime_ns:  # delivered under a clock that was ahead
            os.utime(place, ns=(newest + 1, newest + 1))
        for old in self.releases()[:-RELEASES_KEPT]:
            if old.name != pinned:
                shutil.rmtree(old)

    def releases(self) -> list[Path]:
        """The folders of the releases that are kept, the one that was delivered last at the end."""
        found = [path for path in self.folder.glob("*/manifest.json") if not path.parent.name.startswith("held")]
        return sorted((path.parent for path in found), key=lambda path: path.stat().st_mtime_ns)

    def payload(self, release: str) -> Payload | None:
        """A kept release, None where it is not kept, or is not as it was delivered any more."""
        return None if self.is_damaged(release) else Payload.of(self.folder / release)

    def is_damaged(self, release: str) -> bool:
        """Whether a release is kept, and not as it was delivered any more."""
        return bool(releases.damage_text(self.folder / release))

    @property
    def newest(self) -> Payload | None:
        """The release that was delivered last."""
        found = self.releases()
        return self.payload(found[-1].name) if found else None

    def find_release(self, host: str, release: str, present: str) -> Payload:
        """A kept release by the beginning of its name; without one, that before the present one."""
        names = [path.name for path in self.releases()]
        others = [name for name in names if name != present]
        found = [name for name in names if name.startswith(release)] if release else others[-1:]
        payload = self.payload(found[0]) if len(found) == 1 else None
        if payload is None:
            what = f"{host}: there is no release {release or 'before this one'}"
            if len(found) == 1:
                what = f"{host}: the kept release {found[0][:12]} is damaged"
            raise PkiError(what, f"kept are: {', '.join(name[:12] for name in names) or 'none'}")
        return payload

    # -- CRLs --

    def crls(self) -> dict[str, Path]:
        """Every CRL file that the host was sent, or seen with by `saw`: where its content lies, by its SHA-256."""
        found = {path.name: path for path in self.folder.glob("seen/*")}
        for folder in self.releases():
            if release := releases.load(folder):
                found |= {file.sha256: file.below(folder / "files") for file in release.files if file.crl}
        return found

    def crl(self, digest: str) -> bytes | None:
        path = self.crls().get(digest)
        return filesystem.read(path) if path else None

    def record_installed_crls(self, contents: Iterable[bytes]) -> None:
        """Remember the CRL files that the host was seen with, in place of those of the last time."""
        place = self.folder / "seen"
        shutil.rmtree(place, ignore_errors=True)
        filesystem.write_all({place / hashlib.sha256(one).hexdigest(): (one, filesystem.PUBLIC) for one in contents})

    # -- the log --

    def add_log_entry(self, now: datetime, release: str, what: str, **more: object) -> None:
        """Add a line to the log; of one that has become too long the last half is kept. `more` are texts and numbers."""
        filesystem.make_folder(self.folder, 0o700)
        more = {key: shorten(value, TEXT_LENGTH) if isinstance(value, str) else value for key, value in more.items()}
        path = self.folder / "log.jsonl"
        filesystem.append(path, sealed_records.sealed({"at": instant(now), "release": release, "what": what, **more}))
        size = filesystem.size_of(path)
        if size > LOG_BYTES or (size > LOG_LINES * MIN_LINE_BYTES and len(_lines(path)) > LOG_LINES):
            filesystem.write(path, b"".join(_last_half(_lines(path))))

    def log_entries(self) -> list[Mapping[str, Any]]:
        """The lines of the log that are as they were written: a killed run cuts one short, a disk changes one."""
        return [
            note for line in _lines(self.folder / "log.jsonl") if (note := sealed_records.unsealed(line)) is not None
        ]


def _lines(path: Path) -> list[bytes]:
    return (filesystem.read_if_possible(path) or b"").splitlines(keepends=True)


def _last_half(lines: list[bytes]) -> list[bytes]:
    """The last lines, half of what the log may have in number and in bytes."""
    kept, size = list[bytes](), 0
    for line in reversed(lines[-LOG_LINES // 2 :]):
        size += len(line)
        if size > LOG_BYTES // 2 and kept:
            break
        kept.append(line)
    return kept[::-1]


def _write(folder: Path, payload: Payload) -> None:
    """A release's files, linked to those in its own folder (which are only ever replaced), its manifest last."""
    shutil.rmtree(folder, ignore_errors=True)
    filesystem.make_folder(folder, 0o700)
    for file in payload.release.files:
        target = file.below(folder / "files")
        filesystem.make_folder(target.parent)
        os.link(file.below(payload.folders[file.path] / "files"), target)
    filesystem.write(folder / "manifest.json", payload.release.manifest())
