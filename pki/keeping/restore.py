"""A house put back from a backup: looked at as a whole before anything of it is written, then all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pki import documents, sealing, store
from pki.errors import PkiError
from pki.house import House
from pki.keeping import recovering
from pki.keeping.archive import Archive, Kept, ledger_head, unpack
from pki.store import AUTHORITIES

STAGE = ".restore.new"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place, what was there already and is different, and when the backup was made."""

    placed: list[str]
    kept: list[str]
    at: str
    ledger: Mapping[str, object] | None


def check_target(target: Path) -> None:
    """Raise PkiError when nothing can be restored into `target`, before anybody is asked for a passphrase."""
    if (target / "ca").exists():
        raise PkiError(
            f"{target}/ca: is there already", f"move it out of the house first: mv {target}/ca {target}.ca.old"
        )
    if target.exists() and not target.is_dir():
        raise PkiError(f"{target}: is not a folder", "name another one: --to DIR")


def restore(sealed: bytes, passphrase: str, name: str, target: Path) -> Restored:
    """Put a house into `target`. What is there already stays; ca/ must not be.

    Raises PkiError, and then nothing has appeared, when the backup is not whole or cannot be written.
    """
    check_target(target)
    archive = unpack(sealing.unseal(sealed, passphrase, name), name)
    if ledger := archive.files.get("ca/ledger.db"):
        head = ledger_head(ledger.data, f"{name}: its ledger")
        if head != archive.about["ledger"]:
            raise PkiError(f"{name}: its ledger is not the one that its manifest names", "take another copy of it")
    _check_same_house(archive, target)
    parts = sorted({path.partition("/")[0] for path in archive.files}, key=lambda part: (part == "ca", part))
    present = {part for part in parts if (target / part).exists()}
    _put(archive, target, [part for part in parts if part not in present])
    kept = [path for path, one in archive.files.items() if path.partition("/")[0] in present]
    differ = [path for path in kept if _read(target / path) != archive.files[path].data]
    return Restored(
        [part for part in parts if part not in present], differ, archive.about["at"], archive.about["ledger"]
    )


def _read(path: Path) -> bytes | None:
    return store.read(path) if path.is_file() else None


def _check_same_house(archive: Archive, target: Path) -> None:
    """What is in the target already belongs to the house that is restored, or it could not work there."""
    here, there = _read(target / "pki.yaml"), archive.files["pki.yaml"].data
    if here is not None and here != there and _identity(here) != _identity(there):
        raise PkiError(
            f"{target}/pki.yaml: is another house's (the backup is of {archive.about['organisation']})",
            "restore into a folder of its own: --to DIR",
        )
    for name in archive.about.get("secrets", ()):
        present = _read(target / name)
        if present is not None and name in archive.files and not _covers(present, archive.files[name].data):
            raise PkiError(
                f"{target}/{name}: is there already and lacks passphrases that the backup has",
                f"move it out of the house first: mv {target}/{name} {target}.secrets.old",
            )


def _identity(text: bytes) -> tuple[object, ...]:
    with suppress(PkiError, UnicodeDecodeError):
        tree = documents.load(text.decode(), "pki.yaml")
        if isinstance(tree, dict):
            return tree.get("organisation"), tree.get("sandbox", "false")
    return (text,)


def _covers(present: bytes, wanted: bytes) -> bool:
    with suppress(PkiError, UnicodeDecodeError):
        here, there = documents.load(present.decode(), "") or {}, documents.load(wanted.decode(), "") or {}
        if isinstance(here, dict) and isinstance(there, dict):
            return there.items() <= here.items()
    return present == wanted


def _put(archive: Archive, target: Path, parts: list[str]) -> None:
    """All parts are on disk in a folder beside before the first one gets its name; ca/ gets its own last."""
    made = next((one for one in (*reversed(target.parents), target) if not one.exists()), None)
    stage, placed = target / STAGE, list[Path]()
    try:
        shutil.rmtree(stage, ignore_errors=True)
        store.make_folder(target)
        store.make_folder(stage, 0o700)
        if "ca" in parts:
            store.make_folder(stage / "ca", 0o700)
        store.write_all(
            {
                stage / path: (kept.data, _mode(archive, path, kept))
                for path, kept in archive.files.items()
                if path.partition("/")[0] in parts
            }
        )
        for part in parts:
            (stage / part).rename(target / part)
            placed.append(target / part)
        stage.rmdir()
    except BaseException as error:
        for path in (stage, *placed, *([made] if made else [])):
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise PkiError(f"{target}: cannot be written: {error.strerror}", "name another folder: --to DIR") from None
        raise


def _mode(archive: Archive, path: str, kept: Kept) -> int:
    """As it was, but never looser than its content bears."""
    secret = path in archive.about.get("secrets", ()) or path == "ca/ledger.db" or b"PRIVATE KEY-----" in kept.data
    return store.SECRET if secret else kept.mode & 0o755 | 0o600


# -- what a ledger that is older than build/ does not know -------------------------------------------------------------


def unknown_leaves(house: House) -> list[str]:
    """Names of certificates in build/ that the ledger does not know."""
    known = {one.serial for one in house.ledger.certificates()} if house.has_ledger else set()
    found = set()
    for path in sorted((house.store.build / "certs").glob("*/cert.pem")):
        with suppress(ValueError):
            if x509.load_pem_x509_certificate(path.read_bytes()).serial_number not in known:
                found.add(path.parent.name)
    return sorted(found)


def carry_revocations(house: House) -> tuple[list[str], list[str]]:
    """Record what the CRLs in build/ revoke and the ledger has not recorded: a revocation never goes back.

    Returns the generations whose CRL is newer than the ledger's newest, and the serial numbers that were recorded.
    """
    newer, carried = [], []
    ours = [one for name in AUTHORITIES for one in house.store.generations(name)]
    for generation in [*ours, *house.inventory.authorities.adopted]:
        data = store.read(house.store.crl(generation))
        with suppress(ValueError):
            told = recovering.take_in(house, x509.load_der_x509_crl(data), "build/") if data else None
            if told and told.generation == generation:
                newer += [generation] if told.is_newer else []
                carried += [f"{serial:x}" for serial in told.serials]
    return newer, carried
