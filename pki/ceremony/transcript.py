"""Write the transcript of a ceremony: each step is on disk before the next one begins, and never a secret."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cryptography
from cryptography.hazmat.backends.openssl.backend import backend

from pki.ceremony.transcript_chain import Record, load, next_record
from pki.ceremony.transcript_page import render_page
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.filesystem import give_to_folder_owner
from pki.common.hash_chain import START_HASH

__all__ = ["Record", "Transcript", "load", "render_page", "versions"]

PRIVATE_KEY_MARKS = ("PRIVATE KEY", "AGE-SECRET-KEY")
SEPARATORS = re.compile(r"[\W_]+")
MIN_SECRET_LENGTH = 12  # characters; a shorter text, such as a PIN, would be found in any digest
STEPS_BEFORE_KEYS = frozenset(  # steps that are recorded before a key is used
    {"opened", "continued", "environment", "deviation", "plan", "confirmed", "clocks", "refused"}
)
RECORD_START = b'{"at":"'


class Transcript:
    """A transcript to append to; an existing one is verified and continued.

    With `begin`, records are kept in memory until the first step that uses a key, or until `settle`: a command that is
    stopped before leaves the drive unchanged. `begin` is called before the first write. `interrupted` is a sentence if an
    interrupted write was repaired, else "". Raises PkiError if the file is not a valid transcript, or cannot be written.
    """

    def __init__(self, path: Path, now: Callable[[], datetime], begin: Callable[[], None] | None = None) -> None:
        self._path, self._now, self._begin = path, now, begin
        self._pending: list[bytes] = []
        self._forbidden: list[str] = []
        self.interrupted = ""
        data = filesystem.read(path) or b""
        complete = data[: data.rfind(b"\n") + 1]
        self._records = load(complete, str(path)) if complete else []
        self._size, self._incomplete_size = len(complete), len(data) - len(complete)
        if incomplete := data[len(complete) :]:
            self._drop_incomplete(incomplete)

    @property
    def records(self) -> tuple[Record, ...]:
        """Return the records so far."""
        return tuple(self._records)

    @property
    def is_settled(self) -> bool:
        """Return whether all records are on disk."""
        return self._begin is None

    @property
    def head(self) -> str:
        """Return the hash of the last record, which covers all records."""
        return self._records[-1].hash if self._records else START_HASH

    def forbid(self, secret: str) -> None:
        """Refuse any record that contains this text, however its words are separated."""
        if not secret.strip():
            raise ValueError("an empty secret is part of every text")
        self._forbidden.append(secret)

    def record(self, step: str, /, **facts: Any) -> None:
        """Record a step. Returns when the record is on disk, or is kept in memory (see `begin`).

        Raises ValueError for a secret, and for a fact that is not a JSON value.
        """
        record = next_record(self._records[-1] if self._records else None, self._now(), step, facts)
        self._refuse_secrets(record)
        if self._begin is None:
            self._append(record.line)
            self._records.append(record)
            return
        self._pending.append(record.line)
        self._records.append(record)
        if step not in STEPS_BEFORE_KEYS:
            self.settle()

    def settle(self) -> None:
        """Write the pending records, and from now on each record at once."""
        if self._begin is None:
            return
        self._begin()
        if self._pending:
            self._append(b"".join(self._pending))
        self._begin, self._pending = None, []

    def _refuse_secrets(self, record: Record) -> None:
        texts = [record.step, *_texts(record.facts)]
        joined = _letters_and_digits("".join(texts))
        for secret in (*PRIVATE_KEY_MARKS, *self._forbidden):
            bare_secret = _letters_and_digits(secret)
            is_joined = len(bare_secret) >= MIN_SECRET_LENGTH and bare_secret in joined
            if is_joined or any(secret in text for text in texts):
                raise ValueError(f"a fact of the step '{record.step}' contains a secret")

    def _drop_incomplete(self, lost: bytes) -> None:
        """Drop an incomplete last line, which an interrupted write left, and record that."""
        is_start_of_record = lost.startswith(RECORD_START) or RECORD_START.startswith(lost)
        if not self._records and not is_start_of_record:
            raise PkiError(f"{self._path}: is not a transcript", "name another file")
        number = len(self._records)
        goes_on = f"goes on after record {number}" if number else "begins again"
        self.interrupted = f"{self._path}: its last write was interrupted, so it {goes_on}"
        self.record("continued", after=number, lost_bytes=len(lost), lost_sha256=hashlib.sha256(lost).hexdigest())

    def _append(self, lines: bytes) -> None:
        """Append lines durably, after removing an incomplete last line. On failure only complete lines remain."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        filesystem.make_folder(self._path.parent)
        try:
            handle = os.open(self._path, flags, filesystem.PUBLIC)
        except OSError as error:
            raise _unwritable(self._path, error) from None
        try:
            if os.fstat(handle).st_size != self._size + self._incomplete_size:
                raise PkiError(f"{self._path}: was changed by another process", "run one ceremony command at a time")
            if self._incomplete_size:
                os.ftruncate(handle, self._size)
                self._incomplete_size = 0
            self._write_out(handle, lines)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(handle, self._size)
            raise _unwritable(self._path, error) from None
        finally:
            os.close(handle)
        self._size += len(lines)

    def _write_out(self, handle: int, lines: bytes) -> None:
        if self._size == 0:
            give_to_folder_owner(handle, self._path.parent)
            with suppress(PermissionError):  # FAT, which many USB drives have, has no modes
                os.fchmod(handle, filesystem.PUBLIC)
        view = memoryview(lines)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
        if self._size == 0:
            _flush_folder(self._path.parent)


def versions() -> dict[str, str]:
    """Return the versions of the software that a ceremony runs on."""
    return {
        "doit-pki": version("doit-pki"),
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "openssl": backend.openssl_version_text(),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _flush_folder(path: Path) -> None:
    """Flush a folder, so that a new file in it is durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield str(value)


def _letters_and_digits(text: str) -> str:
    return SEPARATORS.sub("", text).casefold()


def _unwritable(path: Path, error: OSError) -> PkiError:
    return PkiError(
        f"{path}: cannot be written: {error.strerror}", "free space, or name another folder; then repeat the command"
    )
