"""What can go wrong, said plainly: what is wrong, and what to type next."""

from __future__ import annotations

import errno
import os

from pki.visible import visible

NEXT = {  # of a file that may not be there yet, and of its folder
    errno.ENOSPC: "make room: df -h {1}",
    errno.EDQUOT: "make room: quota -s",
    errno.EROFS: "mount it read-write: findmnt -T {1}",
    errno.ENOTDIR: "a file stands where a folder should be: namei -m {0}",
    errno.EACCES: "run it as the owner: ls -ld {0}",
    errno.EPERM: "run it as the owner: ls -ld {0}",
}
SET_CLOCK = (
    "timedatectl status, and set the clock right; if it is, it was ahead once: docs/watching.md#a-clock-that-was-wrong"
)


class PkiError(Exception):
    """Something that a person can mend.

    `message` names the file, line or field; `hint` says what to do. Both are lower case without a full stop. Control
    characters in them, which a host or a file may have supplied, are made visible.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = visible(message), visible(hint)
        super().__init__(self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def of_system(error: OSError, path: str | os.PathLike[str] = "", what: str = "cannot be used") -> PkiError:
    """What the operating system refused, with what to type where that is known; `what` reads well after the path."""
    where = os.fspath(path) or error.filename or "."
    said = f"{where}: {what}: {error.strerror}" if error.strerror else str(error)
    return PkiError(said, NEXT.get(error.errno or 0, "").format(where, os.path.dirname(where) or "."))


class InventoryError(PkiError):
    """pki.yaml is wrong: every fault at once, each `pki.yaml:LINE: PATH: what is wrong`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class LedgerError(PkiError):
    """The ledger is not what it should be, or cannot be opened."""
