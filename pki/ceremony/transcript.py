"""The transcript of a ceremony: every step is on disk before the next one begins, and no secret ever is."""

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

from pki.ceremony.transcript_chain import START, Record, following, load
from pki.ceremony.transcript_page import page
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.filesystem import give_to_folder_owner

__all__ = ["Record", "Transcript", "load", "page", "versions"]

MARKS = ("PRIVATE KEY", "AGE-SECRET-KEY")
BETWEEN = re.compile(r"[\W_]+")
LONG = 12
BEFORE = frozenset(  # a key is touched
    {"opened", "continued", "environment", "deviation", "plan", "confirmed", "clocks", "refused"}
)
OPENING = b'{"at":"'


class Transcript:
    """A transcript that grows; one that is there already is checked and continued.

    With `begin`, nothing is written before a step that touches a key, or `settle`: a command that is stopped before
    leaves the drive as it was. `begin` is called then, before the first write. `interrupted` says in one sentence that
    a killed write was found, and is empty otherwise. Raises PkiError when the file is not a sound transcript, or cannot
    be written.
    """

    def __init__(self, path: Path, now: Callable[[], datetime], begin: Callable[[], None] | None = None) -> None:
        self._path, self._now, self._begin = path, now, begin
        self._waiting: list[bytes] = []
        self._forbidden: list[str] = []
        self.interrupted = ""
        data = filesystem.read(path) or b""
        whole = data[: data.rfind(b"\n") + 1]
        self._records = load(whole, str(path)) if whole else []
        self._size, self._torn = len(whole), len(data) - len(whole)
        if lost := data[len(whole) :]:
            self._cut_off(lost)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records so far."""
        return tuple(self._records)

    @property
    def is_settled(self) -> bool:
        """Whether each record is on disk."""
        return self._begin is None

    @property
    def head(self) -> str:
        """The hash of the last record, on which all of them depend."""
        return self._records[-1].hash if self._records else START

    def forbid(self, secret: str) -> None:
        """Let no record hold this text, however its words are separated."""
        if not secret.strip():
            raise ValueError("an empty secret stands in every text")
        self._forbidden.append(secret)

    def record(self, step: str, /, **facts: Any) -> None:
        """Write down a step; returns when it is on disk, or is one that may wait.

        A secret or a value that is not JSON is a ValueError.
        """
        record = following(self._records[-1] if self._records else None, self._now(), step, facts)
        self._refuse_secrets(record)
        if self._begin is None:
            self._append(record.line)
            self._records.append(record)
            return
        self._waiting.append(record.line)
        self._records.append(record)
        if step not in BEFORE:
            self.settle()

    def settle(self) -> None:
        """Write down what waits, and from now on each step at once."""
        if self._begin is None:
            return
        self._begin()
        if self._waiting:
            self._append(b"".join(self._waiting))
        self._begin, self._waiting = None, []

    def _refuse_secrets(self, record: Record) -> None:
        texts = [record.step, *_texts(record.facts)]
        run_together = _bare("".join(texts))
        for secret in (*MARKS, *self._forbidden):
            bare = _bare(secret)
            if any(secret in text for text in texts) or (len(bare) >= LONG and bare in run_together):
                raise ValueError(f"a fact of the step '{record.step}' holds a secret")

    def _cut_off(self, lost: bytes) -> None:
        """Take a line that a killed write left unfinished away, and write down that it was there."""
        if not self._records and not (lost.startswith(OPENING) or OPENING.startswith(lost)):
            raise PkiError(f"{self._path}: is not a transcript", "name another file")
        number = len(self._records)
        goes_on = f"goes on after record {number}" if number else "begins again"
        self.interrupted = f"{self._path}: its last write was interrupted, so it {goes_on}"
        self.record("continued", after=number, lost_bytes=len(lost), lost_sha256=hashlib.sha256(lost).hexdigest())

    def _append(self, lines: bytes) -> None:
        """Put lines at the end, on disk, in place of what a killed write left; when that fails only whole lines stay."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        filesystem.make_folder(self._path.parent)
        try:
            handle = os.open(self._path, flags, filesystem.PUBLIC)
        except OSError as error:
            raise _unwritable(self._path, error) from None
        try:
            if os.fstat(handle).st_size != self._size + self._torn:
                raise PkiError(f"{self._path}: was changed by somebody else meanwhile", "hold one ceremony at a time")
            if self._torn:
                os.ftruncate(handle, self._size)
                self._torn = 0
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
            with suppress(PermissionError):  # FAT, which most sticks are, has no modes
                os.fchmod(handle, filesystem.PUBLIC)
        view = memoryview(lines)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
        if self._size == 0:
            _flush_folder(self._path.parent)


def versions() -> dict[str, str]:
    """What a ceremony runs on, each with its version."""
    return {
        "doit-pki": version("doit-pki"),
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "openssl": backend.openssl_version_text(),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _flush_folder(path: Path) -> None:
    """A new file is durable when its folder is."""
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


def _bare(text: str) -> str:
    return BETWEEN.sub("", text).casefold()


def _unwritable(path: Path, error: OSError) -> PkiError:
    return PkiError(f"{path}: cannot be written: {error.strerror}", "make room, or name another place; then go on")
