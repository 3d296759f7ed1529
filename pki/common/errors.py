"""What can go wrong, said plainly: what is wrong, and what to type next."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Protocol

from pki.common.reasons import Reason
from pki.common.remedies import Remedy, for_this_project, in_project
from pki.common.visible import in_one_line, visible

HINTS = {  # of a file that may not be there yet, and of its folder
    errno.ENOSPC: "make room: df -h {1}",
    errno.EDQUOT: "make room: quota -s",
    errno.EROFS: "mount it read-write: findmnt -T {1}",
    errno.ENOTDIR: "a file stands where a folder should be: namei -m {0}",
}
SET_CLOCK = (
    "timedatectl status, and set the clock right; if it is, it was ahead once: docs/watching.md#a-clock-that-was-wrong"
)


class ErrorCode(StrEnum):
    """The kinds of errors on which other code acts."""

    OTHER = "other"
    UNREACHABLE = "unreachable"  # a host does not answer
    UNDONE = "undone"  # a host put its files back for a reason of its own
    NEEDS_BOOTSTRAP = "needs bootstrap"  # pki-apply is missing on a host, or does not start as it must
    EXPOSED = "exposed"  # others can read a file that must be secret, and it is not used before it is closed
    KEY_NOT_OPENED = "key not opened"  # the passphrase of a private key is missing or wrong


RETRIED = {ErrorCode.UNREACHABLE, ErrorCode.UNDONE}  # what the next run tries again, and nobody has to do anything


class PkiError(Exception):
    """Something that a person can fix.

    `message` names the file, line or field; `hint` says what to do. Both are lower case without a full stop. Control
    characters in them, which a host or a file may have supplied, are made visible.

    Code that acts on an error reads neither of them: `code` is its kind, `about` names what it concerns, and `what` is
    the message without `lead`, a place that other code may tell better.
    """

    code = ErrorCode.OTHER

    def __init__(
        self,
        message: str | Reason,
        hint: str | Remedy = "",
        code: ErrorCode | None = None,
        *,
        lead: str = "",
        about: str = "",
    ) -> None:
        self.lead, self.what, self.hint = visible(lead), visible(str(message)), visible(for_this_project(str(hint)))
        self.message = f"{self.lead}: {self.what}" if lead else self.what
        self.code, self.about = code or type(self).code, about
        super().__init__(self.message, self.hint)

    @property
    def hints(self) -> list[str]:
        """Each thing to do on its own, the first one first."""
        return self.hint.splitlines()

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(PkiError):
    """What a person typed is wrong, and may be typed again."""


class CancelledError(PkiError):
    """A person ended a command where it asked for something."""


class FaultsError(PkiError):
    """Several things that are wrong: a line for each in `message`, and in `hint` what to do, each said once."""

    @classmethod
    def of(cls, faults: Iterable[PkiError]) -> PkiError:
        """One error for all of `faults`, of which there is at least one; itself where it is the only one."""
        different = list(dict.fromkeys(line for fault in faults for line in _lines(fault)))
        if len(different) == 1:
            return PkiError(*different[0])
        hints = dict.fromkeys(hint for _, hint in different if hint)
        error = cls("\n".join(message for message, _ in different), "\n".join(hints))
        error.lines = tuple(different)
        return error

    lines: tuple[tuple[str, str], ...] = ()

    def __reduce__(self) -> tuple[Callable[..., PkiError], tuple[list[PkiError]]]:
        return FaultsError.of, ([PkiError(*line) for line in self.lines],)


def _lines(fault: PkiError) -> Iterable[tuple[str, str]]:
    return fault.lines if isinstance(fault, FaultsError) else ((fault.message, fault.hint),)


def exposed_secret(shown: str) -> PkiError:
    """Return the error for a secret file that others can read."""
    return PkiError(f"{shown}: others can read it", f"chmod 600 {in_project(shown)}", ErrorCode.EXPOSED, about=shown)


def joined_lines(message: str) -> str:
    """Return a message that names several faults, a line for each, in one line."""
    return "; ".join(message.splitlines())


def as_pki_error(error: BaseException) -> PkiError:
    """Any error as one that can be told: what the system refused, or a fault of this program."""
    if isinstance(error, PkiError):
        return error
    return from_os_error(error) if isinstance(error, OSError) else from_bug(error)


def from_bug(error: BaseException) -> PkiError:
    """An error that nobody expected, in a sentence: its kind, its words, and the place in this program."""
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if f"{os.sep}pki{os.sep}" in file:
            place = f" at pki/{file.rpartition(f'{os.sep}pki{os.sep}')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    words = in_one_line(str(error))
    return PkiError(
        f"unexpected {type(error).__name__}{f' ({words})' if words else ''}{place}",
        "this is a fault of doit-pki: report it with this line; everything else goes on",
    )


def from_os_error(error: OSError, path: str | os.PathLike[str] = "", what: str = "cannot be used") -> PkiError:
    """What the operating system refused, with what to type where that is known; `what` reads well after the path."""
    where = os.fspath(path) or error.filename or "."
    said = f"{where}: {what}: {error.strerror}" if error.strerror else str(error)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PkiError(said, _ownership_hint(where))
    return PkiError(said, HINTS.get(error.errno or 0, "").format(where, os.path.dirname(where) or "."))


def _ownership_hint(path: str) -> str:
    """What to type where a file is closed to this account, which owns its folder; else who may."""
    folder, me = os.path.dirname(path) or ".", os.geteuid()
    try:
        if os.stat(folder).st_uid == me != os.lstat(path).st_uid:
            return f"give it back to its owner: sudo chown -R {_account(me)} {shlex.quote(folder)}"
    except OSError:  # it is not there, or a folder above it is closed too
        pass
    return f"run it as the owner: ls -ld {shlex.quote(path)}"


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class InventoryError(PkiError):
    """pki.yaml is wrong: every fault at once, each `pki.yaml:LINE: PATH: what is wrong`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Fault(Protocol):
    """Why nothing may be signed or recorded: see `LedgerFault` in `records.py`."""

    @property
    def kind(self) -> str: ...

    @property
    def evidence(self) -> str: ...

    @property
    def remedy(self) -> str: ...


class LedgerError(PkiError):
    """The ledger is not what it should be, or cannot be opened; `kind` says why where the guard of it does."""

    def __init__(self, message: str, hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind

    @classmethod
    def of(cls, fault: Fault) -> LedgerError:
        return cls(fault.evidence, fault.remedy, fault.kind)
