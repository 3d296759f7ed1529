"""What can go wrong, said plainly: what is wrong, and what to type next."""

from __future__ import annotations

import errno
import os
import pwd
import shlex

NEXT = {  # of a file that may not be there yet, and of its folder
    errno.ENOSPC: "make room: df -h {1}",
    errno.EDQUOT: "make room: quota -s",
    errno.EROFS: "mount it read-write: findmnt -T {1}",
    errno.ENOTDIR: "a file stands where a folder should be: namei -m {0}",
}
SET_CLOCK = (
    "timedatectl status, and set the clock right; if it is, it was ahead once: docs/watching.md#a-clock-that-was-wrong"
)


class PkiError(Exception):
    """Something that a person can mend.

    `message` names the file, line or field; `hint` says what to do. Both are lower case without a full stop.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def of_system(error: OSError, path: str | os.PathLike[str] = "", what: str = "cannot be used") -> PkiError:
    """What the operating system refused, with what to type where that is known; `what` reads well after the path."""
    where = os.fspath(path) or error.filename or "."
    said = f"{where}: {what}: {error.strerror}" if error.strerror else str(error)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PkiError(said, _give_back(where))
    return PkiError(said, NEXT.get(error.errno or 0, "").format(where, os.path.dirname(where) or "."))


def _give_back(path: str) -> str:
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


class LedgerError(PkiError):
    """The ledger is not what it should be, or cannot be opened."""
