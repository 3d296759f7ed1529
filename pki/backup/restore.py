"""A project put back from a backup: looked at as a whole before anything of it is written, then all or nothing."""

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
from pki.authority.recover_revocations import KnownCa
from pki.backup.archive_format import Archive, Kept, ledger_head, unpack
from pki.backup.place_files import Placement
from pki.common import age, filesystem, sealed_records, yaml_text
from pki.common.errors import PkiError
from pki.config import loader
from pki.config.identifiers import AUTHORITIES
from pki.config.model import Inventory
from pki.ledger.last_seen import LAST_BACKUP
from pki.project import external_ca
from pki.project.layout import BEFORE_RESTORE, Store
from pki.project.project import Project
from pki.x509 import canonical, pkcs8

LEDGER = "ca/ledger.db"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place and what stayed although it differs; what was moved `aside`, and the older ledgers there.

    `recovered` are the serial numbers that these ledgers listed as revoked, `unread` says which of them tell nothing.
    """

    placed: list[str]
    kept: list[str]
    moved: list[str]
    aside: Path
    recovered: list[int]
    unread: list[PkiError]


def check_target(target: Path) -> None:
    """Raise PkiError when nothing can be restored into `target`, before anybody is asked for a passphrase."""
    if target.exists() and not target.is_dir():
        raise PkiError(f"{target}: is not a folder", "name another one: --to DIR")


@dataclass
class Restore:
    """A backup that is about to be put into `target`: read and found sound by `read`, nothing written yet."""

    archive: Archive
    target: Path
    name: str
    now: datetime
    said: Inventory = field(repr=False)  # pki.yaml of the backup

    @classmethod
    def read(cls, sealed: bytes, passphrase: str, name: str, target: Path, now: datetime) -> Restore:
        """Open a backup and look at the whole of it. Raises PkiError where it is damaged, or another project's."""
        check_target(target)
        archive = unpack(age.unseal(sealed, passphrase, name), name)
        if ledger := archive.files.get(LEDGER):
            head = ledger_head(ledger.data, f"{name}: its ledger")
            if head != archive.about["ledger"]:
                raise PkiError(f"{name}: its ledger is not the one that its manifest names", "take another copy of it")
        said = loader.parse_valid(yaml_text.load(archive.files["pki.yaml"].data.decode(), f"{name}: pki.yaml"))
        if said is None:
            raise PkiError(
                f"{name}: its pki.yaml is of another version of this program", "use the program that wrote it"
            )
        found = cls(archive, target, Path(name).name, now, said)
        if found._present and found._present.get("organisation") != said.organisation:
            raise PkiError(
                f"{target}/pki.yaml: is another project's (the backup is of {archive.about['organisation']})",
                "restore into a folder of its own: --to DIR",
            )
        return found

    @property
    def at(self) -> str:
        """When the backup was made."""
        return str(self.archive.about["at"])

    @property
    def ledger(self) -> Mapping[str, Any] | None:
        """Head of the ledger in the backup; None where there is none in it."""
        found: Mapping[str, Any] | None = self.archive.about["ledger"]
        return found

    # -- what is there already --

    @cached_property
    def _present(self) -> dict[str, Any]:
        """The tree of the pki.yaml that is there; empty where there is none, or it cannot be read."""
        with suppress(PkiError, UnicodeDecodeError):
            tree = yaml_text.load((_read(self.target / "pki.yaml") or b"").decode(), "pki.yaml")
            return tree if isinstance(tree, dict) else {}
        return {}

    def what_is_whole(self) -> str:
        """What a restore would replace although nothing of it is lost, as a phrase; empty where something is lost."""
        ledger = self.target / LEDGER
        with suppress(PkiError):  # pki.yaml is wrong: that says nothing about ca/
            if Project.open(self.target, self.now).missing_roots:
                return ""
        try:
            if not self._holds_all_secrets():
                return ""
            if self.ledger is None:
                return "nothing is missing from ca/"
            head = ledger_head(_ledger_bytes(ledger), LEDGER) if ledger.is_file() else {"events": 0}
        except PkiError:
            return ""
        if head["events"] < self.ledger["events"]:
            return ""
        return f"nothing is missing from ca/: its ledger has {head['events']} events, that of the backup {self.ledger['events']}"

    def _holds_all_secrets(self) -> bool:
        """Whether every CA certificate and key of the backup is there, and every passphrase."""
        for path, kept in self.archive.files.items():
            present = _read(self.target / path)
            if _is_certificate_of_ours(path):
                if present != kept.data:
                    return False
            elif path.startswith("ca/") and path.endswith("key.pem") and not pkcs8.is_whole(present or b""):
                return False
        return not any(self._is_in_the_way(path) or _read(self.target / path) is None for path in self._secrets)

    @property
    def _secrets(self) -> list[str]:
        """Files with passphrases, and those of adopted CAs outside ca/: each is restored by itself."""
        folders = [f"{rule.adopt}/" for rule in self.said.authorities.adopted.values()]
        adopted = [path for path in self.archive.files if any(path.startswith(folder) for folder in folders)]
        named = [name for name in self.archive.about.get("secrets", ()) if name in self.archive.files]
        return sorted({path for path in [*named, *adopted] if not path.startswith("ca/")})

    def _is_in_the_way(self, path: str) -> bool:
        """Whether something else is where a file goes. A secrets file may hold more than that of the backup."""
        place = self.target / path
        if not os.path.lexists(place):
            return False
        present, wanted = _read(place), self.archive.files[path].data
        return present is None or not (present == wanted or _covers(present, wanted))

    def _moved(self) -> Iterator[str]:
        if os.path.lexists(self.target / "ca"):
            yield "ca"
        place = self.target / "pki.yaml"
        said = loader.parse_valid(self._present) if self._present else None
        if os.path.lexists(place) and (not self._present or (said and said.sandbox != self.said.sandbox)):
            yield "pki.yaml"
        yield from (path for path in self._secrets if self._is_in_the_way(path))

    # -- putting it back --

    def carry_out(self) -> Restored:
        """Put the project into `target`. What is in its way is moved aside, what else is there stays.

        Raises PkiError, and then all is as it was, when something cannot be written. Killed anywhere, it can be begun
        again.
        """
        moved = list(self._moved())
        parts = {path.partition("/")[0] for path in self.archive.files}
        absent = {part for part in parts if part in moved or not os.path.lexists(self.target / part)}
        secrets = [path for path in self._secrets if path in moved or not os.path.lexists(self.target / path)]
        placed = [*sorted(absent - {"ca"}), *(path for path in secrets if path.partition("/")[0] not in absent)]
        placed += ["ca"] if "ca" in parts else []
        aside = self.target / f"{BEFORE_RESTORE}{self.now:%Y%m%dT%H%M%SZ}"
        while os.path.lexists(aside):
            aside = aside.with_name(f"{aside.name}-more")
        placement = Placement(self.target, aside, moved, placed)
        with ExitStack() as held:
            if (self.target / "ca").is_dir():
                held.enter_context(Store(self.target).lock())
            placement.fill(self._files(placed))
            try:
                recovered, unread = self._complete_ledger(placement.stage / "ca")
            except BaseException:
                placement.clear()
                raise
            held.enter_context(Store(placement.stage).lock())  # who finds the new ca/ waits until all is in place
            placement.carry_out()
        kept = [path for path in self.archive.files if not _is_below(path, placed)]
        differ = [path for path in kept if _read(self.target / path) != self.archive.files[path].data]
        return Restored(placed, differ, moved, aside, recovered, unread)

    def _files(self, placed: list[str]) -> dict[str, tuple[bytes, int]]:
        """What is put in place, with modes; the note of the last backup is of this one."""
        files = {path: kept for path, kept in self.archive.files.items() if _is_below(path, placed)}
        found = {path: (kept.data, _mode(self.archive, path, kept)) for path, kept in files.items()}
        note = {"at": self.at, "file": self.name, "ledger": self.ledger}
        return {**found, f"ca/{LAST_BACKUP}": (sealed_records.sealed(note), filesystem.SECRET)}

    def _complete_ledger(self, folder: Path) -> tuple[list[int], list[PkiError]]:
        """Record in the ledger of the stage what older ones know of revocations, and that it was restored."""
        if self.ledger is None:
            return [], []
        older = [self.target / LEDGER, *sorted(self.target.glob(f"{BEFORE_RESTORE}*/{LEDGER}"))]
        there = [path for path in older if os.path.lexists(path)]
        unread: list[PkiError] = []
        recovered, ledgers = recover_revocations.complete(
            folder, dict(self._cas(unread)), there, f"backup of {self.at}", self.now
        )
        return recovered, [*unread, *ledgers]

    def _cas(self, unread: list[PkiError]) -> Iterator[tuple[str, KnownCa]]:
        """Yield the CAs of the backup, by name, as far as their certificates are in it; `unread` gets those that are damaged."""
        paths = {path.split("/")[2]: path for path in self.archive.files if _is_certificate_of_ours(path)}
        for name, rule in self.said.authorities.adopted.items():
            found = [
                path for layout, _ in external_ca.LAYOUTS if (path := f"{rule.adopt}/{layout}") in self.archive.files
            ]
            paths |= {name: found[0]} if found else {}
        for name, path in paths.items():
            certificate = canonical.read_foreign_certificate(self.archive.files[path].data)
            if certificate is None:
                unread.append(PkiError(f"{path}: is damaged in this backup", "./run invoke ledger.recover --all"))
                continue
            yield name, KnownCa(certificate, path if name in self.said.authorities.adopted else "")


def _is_certificate_of_ours(path: str) -> bool:
    return path.startswith(("ca/root/", "ca/server/", "ca/client/")) and path.endswith("/cert.pem")


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _read(path: Path) -> bytes | None:
    return filesystem.read(path) if path.is_file() else None


def _ledger_bytes(path: Path) -> bytes:
    with recover_revocations.copied(path) as folder:
        return (folder / "ledger.db").read_bytes()


def _covers(present: bytes, wanted: bytes) -> bool:
    with suppress(PkiError, UnicodeDecodeError):
        here, there = yaml_text.load(present.decode(), "") or {}, yaml_text.load(wanted.decode(), "") or {}
        if isinstance(here, dict) and isinstance(there, dict):
            return there.items() <= here.items()
    return False


def _mode(archive: Archive, path: str, kept: Kept) -> int:
    """As it was, but never looser than its content bears."""
    secret = path in archive.about.get("secrets", ()) or path == LEDGER or b"PRIVATE KEY-----" in kept.data
    return filesystem.SECRET if secret else kept.mode & 0o755 | 0o600


# -- what a ledger that is older than build/ does not know -------------------------------------------------------------


def unknown_leaves(project: Project) -> list[str]:
    """Names of certificates in build/ that the ledger does not know."""
    known = {one.serial for one in project.ledger.certificates()} if project.has_ledger else set()
    found = set()
    for path in sorted((project.store.build / "certs").glob("*/cert.pem")):
        with suppress(ValueError):
            if x509.load_pem_x509_certificate(path.read_bytes()).serial_number not in known:
                found.add(path.parent.name)
    return sorted(found)


def carry_revocations(project: Project) -> tuple[list[str], list[str]]:
    """Record what the CRLs in build/ revoke and the ledger has not recorded: a revocation never goes back.

    Returns the generations whose CRL is newer than the ledger's newest, and the serial numbers that were recorded.
    """
    newer, carried = [], []
    ours = [one for name in AUTHORITIES for one in project.store.generations(name)]
    for generation in [*ours, *project.inventory.authorities.adopted]:
        data = filesystem.read(project.store.crl(generation))
        with suppress(ValueError):
            told = recover_revocations.take_in(project, x509.load_der_x509_crl(data), "build/") if data else None
            if told and told.generation == generation:
                newer += [generation] if told.is_newer else []
                carried += [f"{serial:x}" for serial in told.serials]
    return newer, carried
