"""A backup: what cannot be made again, in one encrypted file, read back before it gets its name."""

from __future__ import annotations

import fnmatch
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from pki.backup.archive_format import Kept, ledger_head, pack, unpack
from pki.common import age, filesystem, sealed_records
from pki.common.cache import signature
from pki.common.errors import PkiError
from pki.config import upstreams
from pki.ledger.last_seen import LAST_BACKUP, LEDGER_HEAD
from pki.project.layout import ALERTS
from pki.project.project import Project

LEFT_OUT = (".*.new", ".*.lock", "ledger.db", "ledger.db-*", LAST_BACKUP, LEDGER_HEAD, ALERTS)
OTHERS = ("README.md", ".gitignore", "templates", "requests")
TRIES = 3


def check_target(project: Project, target: Path) -> None:
    """Raise PkiError when no backup can be put at `target`, before anybody is asked for a passphrase."""
    if not project.store.ca.is_dir():
        raise PkiError("there is nothing to back up: ca/ is not there", "if it is lost: ./run invoke restore FILE")
    project.check_ledger()  # a backup without it is none, and would be taken for the newest
    if target.exists():
        raise PkiError(f"{target}: is there already", "name another file; a backup is never overwritten")
    if not target.parent.is_dir():
        raise PkiError(f"{target.parent}: is not a folder", "name a file in a folder that is there")
    for folder in (project.store.ca, project.store.build):
        if target.resolve().is_relative_to(folder.resolve()):
            raise PkiError(f"{target}: lies in {folder.name}/, and would be lost with it", "name a file elsewhere")


def shared_fate(project: Project, target: Path) -> str:
    """Why a backup is lost together with what it is of: it lies in the project's folder, or on its disk; else empty."""
    home = project.store.home.resolve()
    if target.resolve().is_relative_to(home):
        return f"{target} lies in the project's own folder: what destroys that destroys its backup"
    if target.stat().st_dev == project.store.ca.stat().st_dev:
        return f"{target} is on the disk of the project: when it fails, both are lost"
    return ""


def backup(project: Project, target: Path, passphrase: str) -> list[str]:
    """Write a backup to `target`; returns what is in it that a person should know.

    Raises PkiError, and then there is no file, when it cannot be written or does not read back as it was.
    """
    check_target(project, target)
    files = snapshot(project)
    ledger = files.get("ca/ledger.db")
    head = ledger_head(ledger.data, "ca/ledger.db") if ledger else None
    about = {"at": f"{project.now:%Y-%m-%dT%H:%M:%SZ}", "organisation": project.inventory.organisation, "ledger": head}
    sealed = age.seal(pack(files, {**about, "secrets": _secret_files(project)}, project.now), passphrase)
    with filesystem.Beside({target: (sealed, filesystem.SECRET)}) as waiting:
        waiting.flush()
        read = unpack(
            age.unseal(filesystem.read(filesystem.beside(target)) or b"", passphrase, str(target)), str(target)
        )
        if read.files != files or (ledger and ledger_head(read.files["ca/ledger.db"].data, str(target)) != head):
            raise PkiError(f"{target}: does not read back as it was written", "look at the disk that it is on")
        if target.exists():
            raise PkiError(f"{target}: is there already", "name another file; a backup is never overwritten")
        waiting.place()
    record = {"at": about["at"], "file": target.name, **_noted(project, head)}
    filesystem.write(project.store.ca / LAST_BACKUP, sealed_records.sealed(record), filesystem.SECRET)
    return list(_notes(project, files))


def _noted(project: Project, head: Mapping[str, object] | None) -> Mapping[str, object]:
    """How far the ledger is, so that an older one is noticed; of one in another database its head at this moment."""
    if not project.has_ledger:
        return {"ledger": head}
    if head is None:
        found = project.ledger.head()
        head = {"events": found.seq, "head": found.hash}
    return {"ledger": head, "revocations": project.ledger.counts()[1]}


def _notes(project: Project, files: dict[str, Kept]) -> Iterator[str]:
    yield f"{len(files)} files, {sum(len(kept.data) for kept in files.values()) // 1024} KiB"
    if project.inventory.ledger != "sqlite":
        yield "the ledger is in a database of its own and NOT in this file: dump it with that database's own tool"
    elif "ca/ledger.db" not in files:
        yield "there is no ledger in ca/ yet"
    for folder in _adopted(project):
        if not (project.store.home / folder).is_relative_to(project.store.home):
            yield f"{folder} lies outside the project and is NOT in this file: it holds the key of an adopted authority"
    if any(
        project.passphrases.is_elsewhere(name)
        for name in ("server-1", "client-1", *project.inventory.authorities.adopted)
    ):
        yield "passphrases from sources besides files are not in it"


# -- what there is ----------------------------------------------------------------------------------------------------


def snapshot(project: Project) -> dict[str, Kept]:
    """Every file of a backup as it was at one moment; where runs change them again and again, between two runs."""
    for _ in range(TRIES):
        paths = sorted(_paths(project))
        before = signature(map(str, paths))
        files = read_now(project, paths)
        if before and before == signature(map(str, paths)) and paths == sorted(_paths(project)):
            return files
    with project.store.lock():
        return read_now(project, sorted(_paths(project)))


def read_now(project: Project, paths: list[Path]) -> dict[str, Kept]:
    """The files, then the ledger: it knows of everything that they show."""
    files = {}
    for path in paths:
        if (data := filesystem.read(path)) is not None:
            files[str(path.relative_to(project.store.home))] = Kept(data, (filesystem.mode_of(path) or 0) & 0o777)
    if project.inventory.ledger == "sqlite" and (path := project.store.ca / "ledger.db").exists():
        files["ca/ledger.db"] = Kept(_ledger_copy(path), filesystem.SECRET)
    return files


def _paths(project: Project) -> Iterator[Path]:
    home, said = project.store.home, project.inventory
    requests = [one.request for section in (said.hosts, said.clients) for one in section.values() if one.request]
    ssh = [said.deploy.ssh_config] if said.deploy.ssh_config else []
    adopted = [folder for folder in _adopted(project) if (home / folder).is_relative_to(home)]
    authorities = [file for host in said.hosts.values() for file in upstreams.ca_files(host).values()]
    single = {"pki.yaml", *OTHERS, *ssh, *requests, *authorities, *_secret_files(project), *adopted}
    yield from {path for name in single for path in _below(home / name) if not path.is_relative_to(project.store.ca)}
    yield from (
        path for path in _below(project.store.ca) if not any(fnmatch.fnmatch(path.name, one) for one in LEFT_OUT)
    )


def _adopted(project: Project) -> list[str]:
    """Folders of adopted authorities, as pki.yaml names them."""
    return [rule.adopt for rule in project.inventory.authorities.adopted.values()]


def _below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if name != ".git"]
        yield from (found for name in names if (found := Path(folder, name)).is_file() and not name.endswith(".new"))


def _secret_files(project: Project) -> list[str]:
    """The secrets file, and every other file below the project that holds a passphrase, by path below it."""
    return sorted(name for name in project.inventory.secrets.files() if (project.store.home / name).is_file())


def _ledger_copy(path: Path) -> bytes:
    """The database at one moment, whoever writes to it."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "ledger.db"
        try:
            with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            raise PkiError(f"ca/ledger.db: {error}", "./run invoke ledger.verify") from None
        return copy.read_bytes()
