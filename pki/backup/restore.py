"""Restore a project from a backup.

The whole backup is checked before anything is written; then all of its files are placed, or none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509

from pki.authority import recover_revocations
from pki.authority.recover_revocations import BackupCa
from pki.backup.archive_format import Archive, BackupFile, ledger_head, unpack
from pki.backup.place_files import Placement
from pki.common import age, filesystem, sealed_records, state_format, yaml_text
from pki.common.errors import PkiError
from pki.common.timestamps import COMPACT
from pki.config import loader
from pki.config.identifiers import ALL_AUTHORITIES
from pki.config.model import Inventory
from pki.ledger.last_seen import LAST_BACKUP
from pki.project import adopted_ca
from pki.project.layout import BEFORE_RESTORE, Store
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from pki.x509 import canonical, pkcs8

LEDGER = "ca/ledger.db"


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The result of a restore: the paths that were placed, `left` although they differ, and moved to the folder `aside`.

    `recovered` are the serial numbers of revocations from older ledgers that were in the way. `unread` has an error for
    each of these ledgers that cannot be read.
    """

    placed: list[str]
    left: list[str]
    moved: list[str]
    aside: Path
    recovered: list[int]
    unread: list[PkiError]


def check_target(target: Path) -> None:
    """Raise PkiError when nothing can be restored into `target`, before the passphrase is asked for."""
    if target.exists() and not target.is_dir():
        raise PkiError(f"{target}: is not a folder", "name another one: --to DIR")


@dataclass
class Restore:
    """A backup that is about to be restored into `target`. `read` has checked it; nothing is written yet."""

    archive: Archive
    target: Path
    name: str
    now: datetime
    config: Inventory = field(repr=False)  # pki.yaml of the backup

    @classmethod
    def read(cls, sealed: bytes, passphrase: str, name: str, target: Path, now: datetime) -> Restore:
        """Decrypt a backup and check all of it. Raises PkiError where it is damaged or of another project.

        `sealed` are the bytes of the file, `name` its name in messages.
        """
        check_target(target)
        archive = unpack(age.decrypt(sealed, passphrase, name), name)
        if ledger := archive.files.get(LEDGER):
            head = ledger_head(ledger.data, f"{name}: its ledger")
            if head != archive.about["ledger"]:
                raise PkiError(
                    f"{name}: its ledger is not the one that its manifest names", "use another copy of the backup"
                )
        _require_known_format(archive, name, target)
        config = loader.parse_valid(yaml_text.load(archive.files["pki.yaml"].data.decode(), f"{name}: pki.yaml"))
        if config is None:
            raise PkiError(
                f"{name}: its pki.yaml was written by another version of this program", "use the program that wrote it"
            )
        restore = cls(archive, target, Path(name).name, now, config)
        if restore._present and restore._present.get("organisation") != config.organisation:
            raise PkiError(
                f"{target}/pki.yaml: belongs to another project (the backup is of {archive.about['organisation']})",
                "restore into another folder: --to DIR",
            )
        return restore

    @property
    def at(self) -> str:
        """Return the time of the backup."""
        return str(self.archive.about["at"])

    @property
    def ledger(self) -> Mapping[str, Any] | None:
        """Return the head of the ledger in the backup; None where it contains none."""
        head: Mapping[str, Any] | None = self.archive.about["ledger"]
        return head

    # -- existing files --

    @cached_property
    def _present(self) -> dict[str, Any]:
        """Return the tree of the present pki.yaml; empty where there is none, or it cannot be read."""
        with suppress(PkiError, UnicodeDecodeError):
            tree = yaml_text.load((_read(self.target / "pki.yaml") or b"").decode(), "pki.yaml")
            return tree if isinstance(tree, dict) else {}
        return {}

    def nothing_lost(self) -> str:
        """Return a phrase if the restore would replace files although nothing is lost; "" if something is lost."""
        ledger = self.target / LEDGER
        with suppress(PkiError):  # for an invalid pki.yaml, which says nothing about ca/
            if Project.open(self.target, self.now).roots.missing:
                return ""
        try:
            if not self._has_all_secrets():
                return ""
            if self.ledger is None:
                return "nothing is missing from ca/"
            head = ledger_head(_ledger_bytes(ledger), LEDGER) if ledger.is_file() else {"events": 0}
        except PkiError:  # a file that cannot be read counts as lost
            return ""
        if head["events"] < self.ledger["events"]:
            return ""
        return f"nothing is missing from ca/: its ledger has {head['events']} events, that of the backup {self.ledger['events']}"

    def _has_all_secrets(self) -> bool:
        """Return whether every CA certificate, key and passphrase of the backup is in the project."""
        for path, file in self.archive.files.items():
            present_content = _read(self.target / path)
            if _is_certificate_of_ours(path):
                if present_content != file.data:
                    return False
            elif path.startswith("ca/") and path.endswith("key.pem") and not pkcs8.is_whole(present_content or b""):
                return False
        return not any(self._is_in_the_way(path) or _read(self.target / path) is None for path in self._secrets)

    @property
    def _secrets(self) -> list[str]:
        """Return the files with passphrases, and those of adopted CAs outside ca/: each is restored separately."""
        folders = [f"{rule.adopt}/" for rule in self.config.authorities.adopted.values()]
        adopted = [path for path in self.archive.files if any(path.startswith(folder) for folder in folders)]
        listed_names = [name for name in self.archive.about.get("secrets", ()) if name in self.archive.files]
        return sorted({path for path in [*listed_names, *adopted] if not path.startswith("ca/")})

    def _is_in_the_way(self, path: str) -> bool:
        """Return whether another file is at the place of a file of the backup.

        A secrets file that contains all entries of the backup, and more, stays.
        """
        place = self.target / path
        if not os.path.lexists(place):
            return False
        present_content, content = _read(place), self.archive.files[path].data
        return present_content is None or not (present_content == content or _covers(present_content, content))

    def _moved(self) -> Iterator[str]:
        """Yield the paths that are moved aside."""
        if os.path.lexists(self.target / "ca"):
            yield "ca"
        place = self.target / "pki.yaml"
        present_config = loader.parse_valid(self._present) if self._present else None
        is_other_kind = present_config is not None and present_config.sandbox != self.config.sandbox
        if os.path.lexists(place) and (not self._present or is_other_kind):  # a valid pki.yaml of the project stays
            yield "pki.yaml"
        yield from (path for path in self._secrets if self._is_in_the_way(path))

    # -- restoring --

    def carry_out(self) -> RestoreResult:
        """Restore the project into `target`. Files in its way are moved aside; other files stay.

        Raises PkiError, with everything unchanged, if something cannot be written. It can be repeated after it was killed.
        """
        moved_paths = list(self._moved())
        parts = {path.partition("/")[0] for path in self.archive.files}
        absent = {part for part in parts if part in moved_paths or not os.path.lexists(self.target / part)}
        secrets = [path for path in self._secrets if path in moved_paths or not os.path.lexists(self.target / path)]
        placed_paths = [*sorted(absent - {"ca"}), *(path for path in secrets if path.partition("/")[0] not in absent)]
        placed_paths += ["ca"] if "ca" in parts else []
        aside = self.target / f"{BEFORE_RESTORE}{self.now:{COMPACT}}"
        while os.path.lexists(aside):
            aside = aside.with_name(f"{aside.name}-more")
        placement = Placement(self.target, aside, moved_paths, placed_paths)
        with ExitStack() as locks:
            if (self.target / "ca").is_dir():
                locks.enter_context(Store(self.target).lock())
            placement.fill(self._files(placed_paths))
            try:
                recovered, unread = self._complete_ledger(placement.stage / "ca")
            except BaseException:
                placement.clear()
                raise
            # A run that starts meanwhile and finds the new ca/ waits for this lock, until everything is in place.
            locks.enter_context(Store(placement.stage).lock())
            placement.carry_out()
        left_paths = [path for path in self.archive.files if not _is_below(path, placed_paths)]
        differ = [path for path in left_paths if _read(self.target / path) != self.archive.files[path].data]
        return RestoreResult(placed_paths, differ, moved_paths, aside, recovered, unread)

    def _files(self, placed: list[str]) -> dict[str, tuple[bytes, int]]:
        """Return the files to place, with their modes, and a record of the last backup that names this backup."""
        files = {path: file for path, file in self.archive.files.items() if _is_below(path, placed)}
        contents = {path: (file.data, _mode(self.archive, path, file)) for path, file in files.items()}
        note = {"at": self.at, "file": self.name, "ledger": self.ledger}
        return {**contents, f"ca/{LAST_BACKUP}": (sealed_records.encode_sealed(note), filesystem.SECRET)}

    def _complete_ledger(self, folder: Path) -> tuple[list[int], list[PkiError]]:
        """Record in the ledger of the stage the revocations of older ledgers, and the restore."""
        if self.ledger is None:
            return [], []
        other_ledgers = [self.target / LEDGER, *sorted(self.target.glob(f"{BEFORE_RESTORE}*/{LEDGER}"))]
        existing_ledgers = [path for path in other_ledgers if os.path.lexists(path)]
        unread: list[PkiError] = []
        recovered, unread_ledgers = recover_revocations.recover_from_ledgers(
            folder, dict(self._cas(unread)), existing_ledgers, f"backup of {self.at}", self.now
        )
        return recovered, [*unread, *unread_ledgers]

    def _cas(self, unread: list[PkiError]) -> Iterator[tuple[str, BackupCa]]:
        """Yield the CAs whose certificate is in the backup, by name; adds an error to `unread` for each damaged one."""
        paths = {path.split("/")[2]: path for path in self.archive.files if _is_certificate_of_ours(path)}
        for name, rule in self.config.authorities.adopted.items():
            certificates = [
                path for layout, _ in adopted_ca.LAYOUTS if (path := f"{rule.adopt}/{layout}") in self.archive.files
            ]
            paths |= {name: certificates[0]} if certificates else {}
        for name, path in paths.items():
            certificate = canonical.read_foreign_certificate(self.archive.files[path].data)
            if certificate is None:
                unread.append(PkiError(f"{path}: is damaged in this backup", "./run invoke ledger.recover --all"))
                continue
            yield name, BackupCa(certificate, path if name in self.config.authorities.adopted else "")


def _require_known_format(archive: Archive, name: str, target: Path) -> None:
    """Raise PkiError if the backup, or `ca/` in its way, has a format that this program does not know.

    A damaged record in the backup is refused too; one in the target is moved aside with `ca/`.
    """
    if record := archive.files.get(state_format.SHOWN):
        state_format.require_known(
            state_format.parse(record.data, f"{name}: {state_format.SHOWN}", "use another backup"), f"{name}: its ca/"
        )
    state_in_target = None
    with suppress(PkiError):
        state_in_target = state_format.read(target / "ca")
    if state_in_target:
        state_format.require_known(state_in_target, f"{target}/ca")


def _is_certificate_of_ours(path: str) -> bool:
    folders = tuple(f"ca/{authority}/" for authority in ALL_AUTHORITIES)
    return path.startswith(folders) and path.endswith("/cert.pem")


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _read(path: Path) -> bytes | None:
    return filesystem.read(path) if path.is_file() else None


def _ledger_bytes(path: Path) -> bytes:
    with recover_revocations.copied_ledger(path) as folder:
        return (folder / "ledger.db").read_bytes()


def _covers(present: bytes, content: bytes) -> bool:
    """Return whether the present secrets file contains every entry of that in the backup."""
    with suppress(PkiError, UnicodeDecodeError):
        present_tree, tree = yaml_text.load(present.decode(), "") or {}, yaml_text.load(content.decode(), "") or {}
        if isinstance(present_tree, dict) and isinstance(tree, dict):
            return tree.items() <= present_tree.items()
    return False


def _mode(archive: Archive, path: str, file: BackupFile) -> int:
    """Return the mode of a restored file: as in the backup, and 0600 for secrets."""
    secret = path in archive.about.get("secrets", ()) or path == LEDGER or b"PRIVATE KEY-----" in file.data
    return filesystem.SECRET if secret else file.mode & 0o755 | 0o600


# -- what a ledger that is older than build/ lacks -------------------------------------------------------------


def unknown_leaves(store: Store, ledger_view: LedgerView) -> list[str]:
    """Return the names of certificates in build/ that the ledger lacks."""
    recorded_artifacts = (
        {certificate.serial for certificate in ledger_view.ledger.certificates()} if ledger_view.has_ledger else set()
    )
    unknown = set()
    for path in sorted((store.build / "certs").glob("*/cert.pem")):
        with suppress(ValueError):
            if x509.load_pem_x509_certificate(path.read_bytes()).serial_number not in recorded_artifacts:
                unknown.add(path.parent.name)
    return sorted(unknown)


def recover_from_published_crls(project: Project) -> tuple[list[str], list[str]]:
    """Record the revocations that CRLs in build/ list and the ledger lacks: a revocation is never undone.

    Returns the generations whose CRL is newer than the newest CRL in the ledger, and the serial numbers that were
    recorded.
    """
    newer, serials = [], []
    generations = [generation_name for name in ALL_AUTHORITIES for generation_name in project.store.generations(name)]
    for generation in [*generations, *project.inventory.authorities.adopted]:
        data = filesystem.read(project.store.crl(generation))
        if data is None:
            continue
        with suppress(ValueError):  # a damaged CRL
            recovered = recover_revocations.recover_from_crl(project, x509.load_der_x509_crl(data), "build/")
            if recovered and recovered.generation == generation:
                newer += [generation] if recovered.is_newer else []
                serials += [f"{serial:x}" for serial in recovered.serials]
    return newer, serials
