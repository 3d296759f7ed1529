"""The vault: the removable drive with the root keys, the transcript, and the files of every ceremony.

root-1/{cert.pem,key.pem}                key.uri instead of key.pem when the key is in a token
transcript.jsonl                         one hash chain from the first ceremony on
ceremonies/0001/{request,response}.yaml  with the pre-signed CRLs and the printable transcript
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pki.ceremony import request_response, root_key_file
from pki.ceremony.request_response import Request, Response
from pki.common import filesystem
from pki.common.errors import ErrorCode, InputError, PkiError, from_os_error
from pki.config.identifiers import GenerationName
from pki.x509 import keys, pem_encoding, pkcs11
from pki.x509.keys import PrivateKey

TRANSCRIPT = "transcript.jsonl"
MIN_FREE_BYTES = 1 << 20  # ten times the size of a response with its transcript


@dataclass(frozen=True, slots=True)
class PastCeremony:
    """A finished ceremony: request and response, and the SHA-256 of both documents."""

    number: int
    folder: Path
    request: Request
    response: Response
    request_digest: str
    response_digest: str


@dataclass(frozen=True)
class Vault:
    """A vault on a drive that is mounted at `folder`."""

    folder: Path

    @property
    def transcript(self) -> Path:
        """Return the path of the transcript."""
        return self.folder / TRANSCRIPT

    # -- roots --

    def roots(self) -> dict[str, x509.Certificate]:
        """Return the certificates of the roots whose keys are or were here, the oldest first."""
        certificates: dict[str, x509.Certificate] = {}
        paths = ((GenerationName.parse(path.parent.name), path) for path in self.folder.glob("root-*/cert.pem"))
        numbered_paths = sorted((name.number, path) for name, path in paths if name.number)
        for _, path in numbered_paths:
            try:
                certificates[path.parent.name] = x509.load_pem_x509_certificate(filesystem.read(path) or b"")
            except ValueError:
                raise PkiError(f"{path}: is not a certificate", "use the other copy of the vault") from None
        return certificates

    def has_key(self, root: str) -> bool:
        """Return whether the key of a root is here, in a file or in a token."""
        return any((self.folder / root / name).exists() for name in ("key.pem", "key.uri"))

    def place_root(self, root: str, certificate: x509.Certificate, key: Mapping[str, bytes]) -> None:
        """Write a new root completely or not at all; `key` is key.pem or key.uri with its content."""
        target, unfinished = self.folder / root, self.folder / f".{root}.new"
        if target.exists():
            raise PkiError(f"{target}: exists already", "a root is never overwritten; use another drive")
        shutil.rmtree(unfinished, ignore_errors=True)
        files = {"cert.pem": (pem_encoding.pem_of([certificate]), filesystem.PUBLIC)}
        files |= {name: (content, filesystem.SECRET) for name, content in key.items()}
        try:
            filesystem.write_all({unfinished / name: file for name, file in files.items()})
            unfinished.rename(target)
        except OSError as error:
            raise from_os_error(error, target, "cannot be written") from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def open_key(self, root: str, passphrase: str, source: str) -> PrivateKey:
        """Return the private key of a root; `passphrase` is the PIN when the key is in a token.

        Messages call the origin of the passphrase `source`. Raises PkiError when the key is missing, cannot be opened, or
        is not the key of the root's certificate; InputError when the passphrase is wrong.
        """
        path = self.folder / root / "key.pem"
        key: PrivateKey | None = None
        if uri := self.token_of(root):
            key = pkcs11.open_key(uri, passphrase, source)
        elif data := filesystem.read(path):
            key = _open_key(data, passphrase, path, source)
        if key is None:
            raise PkiError(f"{path}: the key of {root} is missing", "mount the drive that has it")
        if keys.public_der(key.public_key()) != keys.public_der(self.roots()[root].public_key()):
            raise PkiError(f"{path}: is not the key of {root}'s certificate", "use the other copy of the vault")
        return key

    def token_of(self, root: str) -> pkcs11.TokenUri | None:
        """Return the PKCS#11 URI of a root's key, or None when the key is not in a token."""
        data = filesystem.read(self.folder / root / "key.uri")
        return pkcs11.parse(data.decode().strip()) if data is not None else None

    def destroy_key(self, root: str, passphrase: str) -> list[str]:
        """Destroy a root's key, in its token or on this drive. Return the names of what was destroyed."""
        destroyed_files = []
        if uri := self.token_of(root):
            pkcs11.destroy(uri, passphrase)
            destroyed_files.append(str(uri))
        for name in ("key.pem", "key.uri"):
            path = self.folder / root / name
            if path.exists():
                overwrite(path)
                destroyed_files.append(f"{root}/{name}")
        return destroyed_files

    def discard_root(self, root: str, passphrase: str) -> list[str]:
        """Destroy a root that signed nothing, with its certificate. Return the names of what was destroyed."""
        destroyed_files = self.destroy_key(root, passphrase)
        shutil.rmtree(self.folder / root)
        return destroyed_files

    # -- ceremonies --

    def ceremony(self, number: int) -> Path:
        """Return the folder of a ceremony."""
        return self.folder / "ceremonies" / f"{number:04}"

    def history(self) -> list[PastCeremony]:
        """Return all finished ceremonies of this vault, the oldest first. Raises PkiError when a file is damaged."""
        ceremonies = []
        for folder in sorted((self.folder / "ceremonies").glob("[0-9][0-9][0-9][0-9]")):
            request_data, response_data = (filesystem.read(folder / f"{name}.yaml") for name in ("request", "response"))
            if request_data is None or response_data is None:
                raise PkiError(f"{folder}: request or response is missing", "use the other copy of the vault")
            request = request_response.load(request_data, str(folder / "request.yaml"), Request)
            response = request_response.load(response_data, str(folder / "response.yaml"), Response)
            digests = request_response.digest(request_data), request_response.digest(response_data)
            ceremonies.append(PastCeremony(int(folder.name), folder, request, response, *digests))
        return ceremonies


def overwrite(path: Path) -> None:
    """Overwrite a file with random bytes, flush it, and delete it."""
    with path.open("r+b") as handle:
        handle.write(os.urandom(path.stat().st_size))
        handle.flush()
        os.fsync(handle.fileno())
    path.unlink()


def _open_key(data: bytes, passphrase: str, path: Path, source: str) -> PrivateKey:
    """Return the key in a file. The file's digest tells a damaged file from a wrong passphrase."""
    is_intact = root_key_file.is_intact(data)
    if is_intact is False:
        raise PkiError(f"{path}: is damaged: its digest does not match", "use the other drive: it has the same key")
    try:
        return keys.open_key(data, passphrase, str(path), source)
    except PkiError as error:
        if error.code is not ErrorCode.KEY_NOT_OPENED:
            raise
        if is_intact is None:  # a file of an earlier version has no digest
            raise InputError(error.message, error.hint) from None
        text = f"{path}: its key cannot be opened: the passphrase from {source} is wrong; the file is intact"
        raise InputError(text, "compare it with the paper of this root, and type it again") from None


def check_writable(folder: Path) -> None:
    """Raise PkiError unless a folder exists, is writable, and has space for a ceremony."""
    if not folder.is_dir():
        raise PkiError(f"{folder}: is not a folder", "mount the drive, then name its folder")
    file = folder / ".room"
    try:
        filesystem.write(file, os.urandom(MIN_FREE_BYTES))
    except PkiError as error:
        raise PkiError(error.message, "is the drive read-only, or full? use another one, or free space") from None
    file.unlink()


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of public files completely or not at all. Raises PkiError when it exists, or cannot be written."""
    if target.exists():
        raise PkiError(f"{target}: exists already", "nothing is overwritten; name another folder")
    unfinished = target.with_name(f".{target.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        filesystem.write_all({unfinished / name: (content, filesystem.PUBLIC) for name, content in files.items()})
        unfinished.rename(target)
    except OSError as error:
        raise from_os_error(error, target, "cannot be written") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
