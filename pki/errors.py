"""What can go wrong, said plainly: what is wrong, and what to type next."""

from __future__ import annotations


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


class InventoryError(PkiError):
    """pki.yaml is wrong: every fault at once, each `pki.yaml:LINE: PATH: what is wrong`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class LedgerError(PkiError):
    """The ledger is not what it should be, or cannot be opened."""
