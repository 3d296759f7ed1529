"""Errors for users: each has a message that names the fault, and a hint with the command to type."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
from collections.abc import Callable, Iterable
from enum import StrEnum

from pki.common.reasons import Reason
from pki.common.remedies import Remedy, for_this_project, in_project
from pki.common.visible import in_one_line, visible

HINTS = {  # {0} is the file, which may not exist yet, {1} its folder
    errno.ENOSPC: "make room: df -h {1}",
    errno.EDQUOT: "make room: quota -s",
    errno.EROFS: "mount it read-write: findmnt -T {1}",
    errno.ENOTDIR: "a parent of the path is a file, not a folder: namei -m {0}",
}
SET_CLOCK = "timedatectl status, and correct the clock; if it is right, it was ahead earlier: docs/how-to/clock.md"


class ErrorCode(StrEnum):
    """The kinds of errors that other code handles."""

    OTHER = "other"
    UNREACHABLE = "unreachable"  # a host does not answer
    UNDONE = "undone"  # a host restored its previous files
    NEEDS_BOOTSTRAP = "needs bootstrap"  # pki-apply is missing on a host, or does not start correctly
    EXPOSED = "exposed"  # other users can read a secret file; it is not used until this is corrected
    AWAITS_CEREMONY = "awaits ceremony"  # no authority exists yet; only the first ceremony creates them
    KEY_NOT_OPENED = "key not opened"  # the passphrase of a private key is missing or wrong


RETRIED = {ErrorCode.UNREACHABLE, ErrorCode.UNDONE}  # the next run tries again without any action


class PkiError(Exception):
    """An error that the user can correct.

    `message` names the file, line or field; `hint` is what to do. Both are lower case without a full stop. Control
    characters in them, which a host or a file may have supplied, are escaped.

    Code that handles an error reads neither: `code` is its kind, `about` is its subject, and `what` is the message
    without `lead`, the place.
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
        """Return each hint separately, the most important first."""
        return self.hint.splitlines()

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(PkiError):
    """An input was wrong and may be typed again."""


class CancelledError(PkiError):
    """The user cancelled a command at a prompt."""


class FaultsError(PkiError):
    """Several faults: `message` has a line for each, `hint` a line for each different hint."""

    @classmethod
    def of(cls, faults: Iterable[PkiError]) -> PkiError:
        """Return one error for one or more `faults`, without duplicates."""
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
    """Return the error for a secret file that other users can read."""
    return PkiError(
        f"{shown}: can be read by other users", f"chmod 600 {in_project(shown)}", ErrorCode.EXPOSED, about=shown
    )


def joined_lines(message: str) -> str:
    """Return a message of several lines as one line."""
    return "; ".join(message.splitlines())


def as_pki_error(error: BaseException) -> PkiError:
    """Return any exception as a PkiError: an error of the operating system, or a bug of this program."""
    if isinstance(error, PkiError):
        return error
    return from_os_error(error) if isinstance(error, OSError) else from_bug(error)


def from_bug(error: BaseException) -> PkiError:
    """Return the PkiError for an unexpected exception: its type, its text, and the line of this program."""
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if f"{os.sep}pki{os.sep}" in file:
            place = f" at pki/{file.rpartition(f'{os.sep}pki{os.sep}')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    words = in_one_line(str(error))
    return PkiError(
        f"unexpected {type(error).__name__}{f' ({words})' if words else ''}{place}",
        "this is a bug in doit-pki: report it with this line; everything else continues",
    )


def from_os_error(error: OSError, path: str | os.PathLike[str] = "", what: str = "cannot be used") -> PkiError:
    """Return the PkiError for an error of the operating system, with a hint for known causes.

    `what` is a clause that follows the path, such as "cannot be read".
    """
    where = os.fspath(path) or error.filename or "."
    message = f"{where}: {what}: {error.strerror}" if error.strerror else str(error)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PkiError(message, _ownership_hint(where))
    return PkiError(message, HINTS.get(error.errno or 0, "").format(where, os.path.dirname(where) or "."))


def _ownership_hint(path: str) -> str:
    """Return the hint for a file that this account must not use: chown if it owns the folder, else its owner."""
    folder, me = os.path.dirname(path) or ".", os.geteuid()
    try:
        if os.stat(folder).st_uid == me != os.lstat(path).st_uid:
            return f"return it to its owner: sudo chown -R {_account(me)} {shlex.quote(folder)}"
    except OSError:  # it does not exist, or a folder above it is not accessible
        pass
    return f"run it as the owner: ls -ld {shlex.quote(path)}"


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class InventoryError(PkiError):
    """pki.yaml is invalid: all faults, each as `pki.yaml:LINE: PATH: fault`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class LedgerError(PkiError):
    """The ledger is wrong or cannot be opened; `kind` is the kind of the LedgerFault, or "" for other causes."""

    def __init__(self, message: str, hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind


NO_PROJECT = PkiError(
    "there is no project here: neither this folder nor one above it contains pki.yaml",
    "change to the project's folder, or name it: PKI_HOME=DIR ./run invoke plan; to create one: ./run invoke init DIR",
)
