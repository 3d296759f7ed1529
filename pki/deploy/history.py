"""What a host was sent, and when: the last releases, kept for going back, and a line for every delivery.

`build/history/<host>/<release>/` holds a release as it was delivered, `log.jsonl` a line for each attempt that
changed something, `held/` the release at which a person holds the host, and `seen/` CRLs that `ledger.recover` saw there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pki import store
from pki.deploy import release as releases
from pki.deploy.parcel import Parcel
from pki.deploy.receipt import instant
from pki.errors import PkiError
from pki.visible import shorten

KEPT = 4
LOG_LINES, LOG_BYTES = 2000, 1 << 20  # what the log of a host may have; half of it is kept then
SHORTEST = 80  # bytes that a line has at least
WORDS = 2000  # characters of one text in it


@dataclass(frozen=True, slots=True)
class History:
    """The history of one host below `folder`."""

    folder: Path

    # -- releases --

    def keep(self, parcel: Parcel) -> None:
        """Keep a delivered release with its newest CRLs, and forget the oldest ones."""
        place = self.folder / parcel.release.digest
        _write(place, parcel)
        releases = sorted(self.releases(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in releases[KEPT:]:
            shutil.rmtree(old)

    def releases(self) -> list[Path]:
        """The folders of the releases that are kept, the one that was delivered last at the end."""
        found = [path for path in self.folder.glob("*/manifest.json") if not path.parent.name.startswith("held")]
        return sorted((path.parent for path in found), key=lambda path: path.stat().st_mtime_ns)

    def parcel(self, release: str) -> Parcel | None:
        return Parcel.of(self.folder / release)

    def find(self, host: str, release: str, present: str) -> Parcel:
        """A kept release by the beginning of its name; without one, that before the present one."""
        names = [path.name for path in self.releases()]
        others = [name for name in names if name != present]
        found = [name for name in names if name.startswith(release)] if release else others[-1:]
        parcel = self.parcel(found[0]) if len(found) == 1 else None
        if parcel is None:
            what = (
                f"{host}: there is no release {release}" if release else f"{host}: there is no release before this one"
            )
            raise PkiError(what, f"kept are: {', '.join(name[:12] for name in names) or 'none'}")
        return parcel

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
        return store.read(path) if path else None

    def saw(self, contents: Iterable[bytes]) -> None:
        """Remember the CRL files that the host was seen with, in place of those of the last time."""
        place = self.folder / "seen"
        shutil.rmtree(place, ignore_errors=True)
        store.write_all({place / hashlib.sha256(one).hexdigest(): (one, store.PUBLIC) for one in contents})

    # -- a host that is held --

    @property
    def held(self) -> Parcel | None:
        return Parcel.of(self.folder / "held")

    @property
    def held_since(self) -> str:
        found = store.read(self.folder / "held" / "since")
        return found.decode().strip() if found else ""

    def hold(self, parcel: Parcel, now: datetime) -> None:
        self.release()
        _write(self.folder / "held", parcel)
        store.write(self.folder / "held" / "since", f"{instant(now)}\n".encode())

    @contextmanager
    def holding(self, parcel: Parcel, now: datetime) -> Iterator[None]:
        """Hold the host at a release; where what is done within fails, it is held as it was before, or not at all."""
        held, before = self.folder / "held", self.folder / "held.before"
        shutil.rmtree(before, ignore_errors=True)
        if held.exists():
            held.rename(before)
        try:
            self.hold(parcel, now)
            yield
        except BaseException:
            self.release()
            if before.exists():
                before.rename(held)
            raise
        shutil.rmtree(before, ignore_errors=True)

    def release(self) -> None:
        """Let the host follow its releases again."""
        shutil.rmtree(self.folder / "held", ignore_errors=True)

    # -- the log --

    def note(self, now: datetime, release: str, what: str, **more: object) -> None:
        """Add a line to the log; of one that has become too long the last half is kept. `more` are texts and numbers."""
        store.make_folder(self.folder, 0o700)
        more = {key: shorten(value, WORDS) if isinstance(value, str) else value for key, value in more.items()}
        line = json.dumps({"at": instant(now), "release": release, "what": what, **more})
        path = self.folder / "log.jsonl"
        with path.open("a") as log:
            log.write(line + "\n")
            size = log.tell()
        if size > LOG_BYTES or (size > LOG_LINES * SHORTEST and len(_lines(path)) > LOG_LINES):
            store.write(path, b"".join(b"%s\n" % one for one in _halved(_lines(path))))

    def notes(self) -> list[Mapping[str, Any]]:
        lines = _lines(self.folder / "log.jsonl")
        return [json.loads(line) for line in lines if line.endswith(b"}")]


def _lines(path: Path) -> list[bytes]:
    return (store.read(path) or b"").splitlines()


def _halved(lines: list[bytes]) -> list[bytes]:
    """The last lines, half of what the log may have in number and in bytes."""
    kept, size = list[bytes](), 0
    for line in reversed(lines[-LOG_LINES // 2 :]):
        size += len(line) + 1
        if size > LOG_BYTES // 2 and kept:
            break
        kept.append(line)
    return kept[::-1]


def _write(folder: Path, parcel: Parcel) -> None:
    """A release's files, linked to those in its own folder (which are only ever replaced), its manifest last."""
    shutil.rmtree(folder, ignore_errors=True)
    store.make_folder(folder, 0o700)
    for file in parcel.release.files:
        target = file.below(folder / "files")
        store.make_folder(target.parent)
        os.link(file.below(parcel.folders[file.path] / "files"), target)
    store.write(folder / "manifest.json", parcel.release.manifest())
