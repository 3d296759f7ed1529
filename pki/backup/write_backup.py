"""Write a backup of everything that cannot be created again, as one encrypted file.

The file is read back before it gets its name.
"""

from __future__ import annotations

import fnmatch
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pki.backup.archive_format import BackupFile, is_restorable, ledger_head, pack, unpack
from pki.common import age, filesystem, sealed_records
from pki.common.cache import file_state
from pki.common.errors import PkiError
from pki.common.timestamps import instant
from pki.config import upstreams
from pki.config.model import Inventory
from pki.ledger.last_seen import LAST_BACKUP, LEDGER_HEAD
from pki.project.layout import ALERTS, Store
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from pki.project.secrets import Passphrases

EXCLUDED = (".*.new", ".*.lock", "ledger.db", "ledger.db-*", "ledger-copy.db*", LAST_BACKUP, LEDGER_HEAD, ALERTS)
LEDGER_COPY = "ca/ledger-copy.db"  # of a ledger in another database; ledger.restore reads it
OTHER_FILES = ("README.md", ".gitignore", "templates", "requests")
TRIES = 3


def check_target(inventory: Inventory, store: Store, ledger_view: LedgerView, target: Path) -> None:
    """Raise PkiError when no backup can be written to `target`, before the passphrase is asked for.

    The files that pki.yaml names may have names that no restore writes.
    """
    if not store.ca.is_dir():
        raise PkiError("there is nothing to back up: ca/ is missing", "if it is lost: ./run invoke restore FILE")
    ledger_view.check()  # a backup without the ledger would be useless, but count as the newest backup
    if target.exists():
        raise PkiError(f"{target}: exists already", "name another file; a backup is never overwritten")
    if not target.parent.is_dir():
        raise PkiError(f"{target.parent}: is not a folder", "name a file in a folder that exists")
    for folder in (store.ca, store.build):
        if target.resolve().is_relative_to(folder.resolve()):
            raise PkiError(f"{target}: is in {folder.name}/ and would be lost with it", "name a file elsewhere")
    for name in sorted(str(path.relative_to(store.home)) for path in _paths(inventory, store)):
        if not is_restorable(name):
            raise PkiError(
                f"{name}: a backup contains no hidden file and nothing of build/ or offline/",
                "move it to a folder such as requests/, write its new path in pki.yaml, then: ./run invoke backup",
            )


def common_loss(store: Store, target: Path) -> str:
    """Return why a backup is lost together with its project: same folder or same disk; "" otherwise."""
    home = store.home.resolve()
    if target.resolve().is_relative_to(home):
        return f"{target} is in the project's folder: both are lost together"
    if target.stat().st_dev == store.ca.stat().st_dev:
        return f"{target} is on the disk of the project: both are lost together"
    return ""


@dataclass(frozen=True, slots=True)
class BackupWriter:
    """What a backup contains, and how it is written."""

    project: Project

    def write(self, target: Path, passphrase: str) -> list[str]:
        """Write a backup to `target`; return what the user should know about its content.

        Raises PkiError, with no file left, when it cannot be written or does not read back as it was written.
        """
        check_target(self.project.inventory, self.project.store, self.project.ledger_view, target)
        files = self.snapshot()
        name = "ca/ledger.db" if "ca/ledger.db" in files else LEDGER_COPY
        ledger = files.get(name)
        head = ledger_head(ledger.data, name) if ledger else None
        about = {
            "at": instant(self.project.now),
            "organisation": self.project.inventory.organisation,
            "ledger": head if name == "ca/ledger.db" else None,  # a restore completes only a ledger in ca/ledger.db
        }
        secrets = _secret_files(self.project.inventory, self.project.store)
        encrypted_archive = age.encrypt(pack(files, {**about, "secrets": secrets}, self.project.now), passphrase)
        with filesystem.StagedFiles({target: (encrypted_archive, filesystem.SECRET)}) as staged:
            staged.flush()
            written_data = filesystem.read(filesystem.temporary_path(target)) or b""
            read_back = unpack(age.decrypt(written_data, passphrase, str(target)), str(target)).files
            is_ledger_intact = ledger is None or ledger_head(read_back[name].data, str(target)) == head
            if read_back != files or not is_ledger_intact:
                raise PkiError(f"{target}: does not read back as it was written", "check the disk that it is on")
            if target.exists():
                raise PkiError(f"{target}: exists already", "name another file; a backup is never overwritten")
            staged.place()
        record = {"at": about["at"], "file": target.name, **_head_to_record(self.project.ledger_view, head)}
        filesystem.write(self.project.store.ca / LAST_BACKUP, sealed_records.encode_sealed(record), filesystem.SECRET)
        return list(_notes(self.project.inventory, self.project.store, self.project.passphrases, files))

    def snapshot(self) -> dict[str, BackupFile]:
        """Return every file of a backup as of one moment.

        Reads without the lock of the project, so that a backup does not wait for a run. If files change meanwhile, reads
        again, and in the end under the lock.
        """
        for _ in range(TRIES):
            paths = self._sorted_paths()
            state = file_state(map(str, paths))
            files = self.read_now(paths)
            is_unchanged = state == file_state(map(str, paths)) and paths == self._sorted_paths()
            if state and is_unchanged:
                return files
        with self.project.store.lock():
            return self.read_now(self._sorted_paths())

    def _sorted_paths(self) -> list[Path]:
        return sorted(_paths(self.project.inventory, self.project.store))

    def read_now(self, paths: list[Path]) -> dict[str, BackupFile]:
        """Return the content of the files and of the ledger.

        The ledger is read last, so that it contains every certificate and CRL among the files.
        """
        files = {}
        for path in paths:
            if (data := filesystem.read(path)) is not None:
                files[str(path.relative_to(self.project.store.home))] = BackupFile(
                    data, (filesystem.mode_of(path) or 0) & 0o777
                )
        if self.project.inventory.ledger == "sqlite" and (path := self.project.store.ca / "ledger.db").exists():
            files["ca/ledger.db"] = BackupFile(_ledger_copy(path), filesystem.SECRET)
        if self.project.inventory.ledger != "sqlite" and self.project.ledger_view.has_ledger:
            with tempfile.TemporaryDirectory() as scratch:
                self.project.ledger.copy_to(Path(scratch))
                files[LEDGER_COPY] = BackupFile((Path(scratch) / "ledger.db").read_bytes(), filesystem.SECRET)
        return files


def _head_to_record(ledger_view: LedgerView, head: Mapping[str, object] | None) -> Mapping[str, object]:
    """Return the head of the ledger for the record of the last backup, so that an older ledger is noticed."""
    if not ledger_view.has_ledger:
        return {"ledger": head}
    return {"ledger": head, "revocations": ledger_view.ledger.counts().revocations}


def _notes(inventory: Inventory, store: Store, passphrases: Passphrases, files: dict[str, BackupFile]) -> Iterator[str]:
    yield f"{len(files)} files, {sum(len(file.data) for file in files.values()) // 1024} KiB"
    if LEDGER_COPY in files:
        yield f"with a copy of its ledger: {LEDGER_COPY}, for ./run invoke ledger.restore"
    elif "ca/ledger.db" not in files:
        yield "ca/ contains no ledger yet"
    for folder in _adopted(inventory):
        if not (store.home / folder).is_relative_to(store.home):
            yield f"{folder} is outside the project and NOT in this file: it contains the key of an adopted CA"
    generations = [name for authority in store.authorities() for name in store.generations(authority)]
    signing = [name for name in generations if not (name.is_root or name.is_external)]
    if any(passphrases.is_elsewhere(name) for name in (*signing, *inventory.authorities.adopted)):
        yield "passphrases from sources other than files are not in it"


# -- files of a backup ----------------------------------------------------------------------------------------------------


def _paths(inventory: Inventory, store: Store) -> Iterator[Path]:
    home, config = store.home, inventory
    requests = [
        entry.request for section in (config.hosts, config.clients) for entry in section.values() if entry.request
    ]
    ssh = [config.deploy.ssh_config] if config.deploy.ssh_config else []
    adopted = [folder for folder in _adopted(inventory) if (home / folder).is_relative_to(home)]
    authorities = [file for host in config.hosts.values() for file in upstreams.ca_files(config, host).values()]
    authorities += [rule.external for rule in config.authorities.externals.values()]
    single = {"pki.yaml", *OTHER_FILES, *ssh, *requests, *authorities, *_secret_files(inventory, store), *adopted}
    yield from {path for name in single for path in _below(home / name) if not path.is_relative_to(store.ca)}
    yield from (path for path in _below(store.ca) if not any(fnmatch.fnmatch(path.name, entry) for entry in EXCLUDED))


def _adopted(inventory: Inventory) -> list[str]:
    """Return the folders of adopted CAs, as pki.yaml names them."""
    return [rule.adopt for rule in inventory.authorities.adopted.values()]


def _below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if name != ".git"]
        yield from (file for name in names if (file := Path(folder, name)).is_file() and not name.endswith(".new"))


def _secret_files(inventory: Inventory, store: Store) -> list[str]:
    """Return the secrets file and every other file of the project that contains a passphrase, by relative path."""
    return sorted(name for name in inventory.secrets.files() if (store.home / name).is_file())


def _ledger_copy(path: Path) -> bytes:
    """Return a consistent copy of the database, also while it is written to."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "ledger.db"
        try:
            with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise PkiError(f"ca/ledger.db: {error}", "./run invoke ledger.verify") from None
        return copy.read_bytes()
