"""The guard of the machine: with a ledger that several machines reach, only the machine of the last run may run doit.

A machine is recognised by the digest of its machine-id (https://www.freedesktop.org/software/systemd/man/machine-id.html),
which the ledger may contain, unlike the machine-id itself. Each container, and each clone of a virtual machine, may have
another one: there the variable PKI_MACHINE_ID names the machine. A ledger in SQLite is part of its project folder, so no
other machine reaches it, and the guard permits everything.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import LedgerError
from pki.common.notice import Notice
from pki.ledger.last_seen import PROJECT_ID
from pki.project.ledger_view import LedgerView

VARIABLE = "PKI_MACHINE_ID"
MACHINE_ID = Path("/etc/machine-id")
TAKE_OVER = "./run doit --take-over"


def this_machine() -> str:
    """Return this machine as the ledger names it: a digest, and its host name. Raises LedgerError without a machine-id."""
    identity = os.environ.get(VARIABLE, "").encode() or (filesystem.read(MACHINE_ID) or b"").strip()
    if not identity:
        raise LedgerError(
            f"{MACHINE_ID}: is missing, so this machine cannot be told from others that reach the ledger",
            f"systemd-machine-id-setup; or, in a container, set {VARIABLE} to a name that stays",
        )
    digest = hashlib.sha256(b"doit-pki machine " + identity).hexdigest()[:32]
    return f"{digest} {socket.gethostname()}"


def _digest(machine: str) -> str:
    return machine.partition(" ")[0]


def _name(machine: str) -> str:
    """Return a machine for messages; the digest distinguishes machines with the same host name."""
    digest, _, host = machine.partition(" ")
    return f"{host or 'unknown'} ({digest[:8]})"


@dataclass(frozen=True, slots=True)
class MachineGuard:
    """Compares this machine with that of the last run; `is_shared` says whether several machines can reach the ledger."""

    ledger_view: LedgerView
    now: datetime
    is_shared: bool

    def check(self) -> None:
        """Raise LedgerError if another machine runs doit. If none does yet, this machine does from now on.

        Raises nothing for a ledger that cannot be read: its own guard reports it.
        """
        if self._is_readable:
            self.check_writing()

    def check_writing(self) -> None:
        """Raise LedgerError if another machine runs doit; called before anything is recorded."""
        if not self.is_shared:
            return
        if fault := self._fault():
            raise fault
        if not self.ledger_view.ledger.runner().machine:
            self.ledger_view.ledger.set_runner(this_machine(), self.now)

    @property
    def _is_readable(self) -> bool:
        """Return whether there is a shared ledger. A new project has none: opening it would create `ca/` too early."""
        has_identity = (self.ledger_view.store.ca / PROJECT_ID).exists()
        return self.is_shared and has_identity and self.ledger_view.has_ledger

    def _fault(self) -> LedgerError | None:
        machine, runner = this_machine(), self.ledger_view.ledger.runner()
        if not runner.machine or _digest(runner.machine) == _digest(machine):
            return None
        text = f"machine {_name(runner.machine)} runs doit since {runner.since:%Y-%m-%d}, and this is {_name(machine)}"
        return LedgerError(text, f"run doit there; or, if this machine takes its place: {TAKE_OVER}")

    def take_over(self) -> bool:
        """Let this machine run doit from now on, and record that in the ledger. Return False if it did already."""
        if not (self._is_readable and self._fault()):
            return False
        ledger, machine, before = self.ledger_view.ledger, this_machine(), self.ledger_view.ledger.runner()
        ledger.set_runner(machine, self.now)  # first: no other machine may record anything
        try:
            ledger.record_decision("project", "taken-over", f"{machine}, before {before.machine}", self.now)
        except BaseException:
            ledger.set_runner(before.machine, before.since)
            raise
        return True

    def notices(self) -> Iterator[Notice]:
        """Yield why doit does nothing on this machine; also where it cannot be told from others, which may still read."""
        if not self._is_readable:
            return
        try:
            fault = self._fault()
        except LedgerError as error:
            fault = error
        if fault:
            yield Notice("machine", fault.message, fault.hint)


def guard_of(ledger_view: LedgerView, now: datetime) -> MachineGuard:
    """Return the guard of a project's ledger."""
    return MachineGuard(ledger_view, now, is_shared=ledger_view.inventory.ledger != "sqlite")
