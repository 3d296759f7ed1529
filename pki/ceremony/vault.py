"""The vault: the removable medium that holds root keys, the transcript, and every ceremony that was held with them.

root-1/{cert.pem,key.pem}                key.uri instead of key.pem when the key lives in a token
transcript.jsonl                         one hash chain from the first ceremony on
ceremonies/0001/{request,response}.yaml  with the pre-signed CRLs that were signed and the printable page
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.ceremony import request_response, root_key_file
from pki.ceremony.request_response import Request, Response
from pki.common import filesystem
from pki.common.errors import ErrorCode, InputError, PkiError, from_os_error
from pki.config.identifiers import GenerationName
from pki.x509 import keys, pem_encoding, pkcs11
from pki.x509.keys import PrivateKey

TRANSCRIPT = "transcript.jsonl"
ROOM = 1 << 20  # bytes: a response with its transcript takes a tenth of it


@dataclass(frozen=True, slots=True)
class Past:
    """A ceremony that was held: what was asked and answered, and the digests of both documents."""

    number: int
    folder: Path
    request: Request
    response: Response
    asked: str
    digest: str


@dataclass(frozen=True)
class Vault:
    """One medium, mounted at `folder`."""

    folder: Path

    @property
    def transcript(self) -> Path:
        return self.folder / TRANSCRIPT

    # -- roots --

    def roots(self) -> dict[str, x509.Certificate]:
        """The certificates of the roots whose keys are or were here, oldest first."""
        found: dict[str, x509.Certificate] = {}
        named = ((GenerationName.parse(path.parent.name), path) for path in self.folder.glob("root-*/cert.pem"))
        for _, path in sorted((one for one in named if one[0].number), key=lambda one: one[0].number):
            try:
                found[path.parent.name] = x509.load_pem_x509_certificate(filesystem.read(path) or b"")
            except ValueError:
                raise PkiError(f"{path}: is not a certificate", "take the other copy of the vault") from None
        return found

    def has_key(self, root: str) -> bool:
        return any((self.folder / root / name).exists() for name in ("key.pem", "key.uri"))

    def place_root(self, root: str, cert: x509.Certificate, key: Mapping[str, bytes]) -> None:
        """Put a new root here, whole or not at all; `key` is key.pem or key.uri with its content."""
        target, beside = self.folder / root, self.folder / f".{root}.new"
        if target.exists():
            raise PkiError(f"{target}: is there already", "a root is never overwritten; take another drive")
        shutil.rmtree(beside, ignore_errors=True)
        files = {"cert.pem": (pem_encoding.pem_of([cert]), filesystem.PUBLIC)}
        files |= {name: (content, filesystem.SECRET) for name, content in key.items()}
        try:
            filesystem.write_all({beside / name: file for name, file in files.items()})
            beside.rename(target)
        except OSError as error:
            raise from_os_error(error, target, "cannot be written") from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def open_key(self, root: str, passphrase: str, source: str) -> PrivateKey:
        """The key of a root, which must be that of its certificate; `passphrase` is the PIN of one in a token."""
        path = self.folder / root / "key.pem"
        key: PrivateKey | None = None
        if uri := self.token_of(root):
            key = pkcs11.open_key(uri, passphrase, source)
        elif data := filesystem.read(path):
            key = _opened(data, passphrase, path, source)
        if key is None:
            raise PkiError(f"{path}: the key of {root} is not there", "mount the drive that has it")
        if keys.public_der(key.public_key()) != keys.public_der(self.roots()[root].public_key()):
            raise PkiError(f"{path}: is not the key of {root}'s certificate", "take the other copy of the vault")
        return key

    def token_of(self, root: str) -> pkcs11.TokenUri | None:
        """Where a root's key lives when it lives in a token."""
        data = filesystem.read(self.folder / root / "key.uri")
        return pkcs11.parse(data.decode().strip()) if data is not None else None

    def destroy_key(self, root: str, passphrase: str) -> list[str]:
        """Destroy a root's key, in its token or on this medium; returns the names of what was destroyed."""
        destroyed = []
        if uri := self.token_of(root):
            pkcs11.destroy(uri, passphrase)
            destroyed.append(str(uri))
        for name in ("key.pem", "key.uri"):
            path = self.folder / root / name
            if path.exists():
                overwrite(path)
                destroyed.append(f"{root}/{name}")
        return destroyed

    def discard_root(self, root: str, passphrase: str) -> list[str]:
        """Destroy a root that signed nothing, with its certificate; returns the names of what was destroyed."""
        destroyed = self.destroy_key(root, passphrase)
        shutil.rmtree(self.folder / root)
        return destroyed

    # -- ceremonies --

    def ceremony(self, number: int) -> Path:
        return self.folder / "ceremonies" / f"{number:04}"

    def history(self) -> list[Past]:
        """Every ceremony that was held with this vault, oldest first. Raises PkiError when a record is damaged."""
        found = []
        for folder in sorted((self.folder / "ceremonies").glob("[0-9][0-9][0-9][0-9]")):
            asked, answered = (filesystem.read(folder / f"{name}.yaml") for name in ("request", "response"))
            if asked is None or answered is None:
                raise PkiError(f"{folder}: is not whole", "take the other copy of the vault")
            request = request_response.load(asked, str(folder / "request.yaml"), Request)
            response = request_response.load(answered, str(folder / "response.yaml"), Response)
            digests = request_response.digest(asked), request_response.digest(answered)
            found.append(Past(int(folder.name), folder, request, response, *digests))
        return found


def overwrite(path: Path) -> None:
    """Overwrite a file, then remove it."""
    with path.open("r+b") as handle:
        handle.write(os.urandom(path.stat().st_size))
        handle.flush()
        os.fsync(handle.fileno())
    path.unlink()


def _opened(data: bytes, passphrase: str, path: Path, source: str) -> PrivateKey:
    """The key in a file, or an error that tells a damaged file from a wrong passphrase where the file itself does."""
    whole = root_key_file.is_whole(data)
    if whole is False:
        raise PkiError(f"{path}: is damaged: it is not as it was written", "take the other drive: it has the same key")
    try:
        return keys.open_key(data, passphrase, str(path), source)
    except PkiError as error:
        if error.code is not ErrorCode.KEY_NOT_OPENED:
            raise
        if whole is None:  # of an earlier version: the file does not tell
            raise InputError(error.message, error.hint) from None
        text = f"{path}: its key cannot be opened: the passphrase from {source} is wrong; the file is whole"
        raise InputError(text, "look at the paper of this root, and type it again") from None


def probe(folder: Path) -> None:
    """Raise PkiError unless a medium is there, can be written to, and has room for a ceremony."""
    if not folder.is_dir():
        raise PkiError(f"{folder}: is not a folder", "mount the drive, then name its folder")
    file = folder / ".room"
    try:
        filesystem.write(file, os.urandom(ROOM))
    except PkiError as error:
        raise PkiError(error.message, "is the drive read-only, or full? take another one, or make room") from None
    file.unlink()


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of public files whole or not at all. Raises PkiError when it is there, or cannot be written."""
    if target.exists():
        raise PkiError(f"{target}: is there already", "nothing is ever overwritten; name another folder")
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        filesystem.write_all({beside / name: (content, filesystem.PUBLIC) for name, content in files.items()})
        beside.rename(target)
    except OSError as error:
        raise from_os_error(error, target, "cannot be written") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def fingerprint(cert: x509.Certificate) -> str:
    return cert.fingerprint(hashes.SHA256()).hex()
