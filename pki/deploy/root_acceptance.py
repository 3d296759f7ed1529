"""Decide whether a host waits until an operator accepts its new root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pki.common.errors import PkiError
from pki.deploy.host_payloads import HostPayloads
from pki.deploy.new_root import COMMAND, NewRoot
from pki.deploy.preflight import Trust


@dataclass(frozen=True, slots=True)
class RootAcceptance:
    """Compares the root of a host with the root that issues now, which `root` returns; `trust` is None for no host."""

    payloads: HostPayloads
    trust: Callable[[], Trust] | None
    root: Callable[[], NewRoot]

    @property
    def has_another_root(self) -> bool:
        """Return whether the host was deployed under a root that no cross-certificate connects with the present root."""
        root, receipt = self.root(), self.payloads.records.receipt
        if not self.payloads.records.is_contacted or not root.fingerprint or self.trust is None:
            return False
        return root.is_unconnected_to(
            receipt, lambda: self.payloads.delivered if receipt else self.payloads.records.history.newest, self.trust()
        )

    @property
    def waits_for_root(self) -> bool:
        """Return whether nothing is delivered to the host until an operator accepts its new root."""
        return self.has_another_root and not self.root().is_accepted(self.payloads.records.host)

    def require_accepted_root(self) -> None:
        """Raise PkiError until an operator accepts the new root of the host."""
        if self.waits_for_root:
            what = f"was deployed under another root, and {self.root().text} is not accepted for it"
            raise PkiError(what, f"{COMMAND} {self.payloads.records.host}")
