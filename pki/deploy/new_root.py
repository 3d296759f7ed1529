"""Decide whether a host may get a new root: its present root cross-signed it, or an operator accepted it for the host."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pki.deploy import preflight
from pki.deploy.payload import Payload
from pki.deploy.preflight import Trust
from pki.deploy.receipt import Receipt

ACCEPT_ROOT = "deploy.accept-root"
COMMAND = f"./run invoke {ACCEPT_ROOT}"


@dataclass(frozen=True, slots=True)
class NewRoot:
    """The root that issues now; `name` and `fingerprint` (SHA-256) are "" while there is none, and in a sandbox.

    `connected` are the SHA-256 of the roots from which cross-certificates lead to it, itself included. `accepted`
    returns the roots that were accepted for each host; it is called only for hosts with another root.
    """

    name: str
    fingerprint: str
    connected: frozenset[str]
    accepted: Callable[[], Mapping[str, Collection[str]]]

    def is_unconnected_to(self, receipt: Receipt | None, delivered: Callable[[], Payload | None], trust: Trust) -> bool:
        """Return whether a host was deployed under a root that no cross-certificate connects with this root.

        If the receipt is lost or names no root, the delivered release decides. A host that got no release may get any
        root.
        """
        if not self.fingerprint or (receipt and receipt.transport == "folder"):
            return False
        if receipt and receipt.roots:
            return self.connected.isdisjoint(receipt.roots)
        payload = delivered()
        if payload is None:
            return False
        roots = preflight.root_subjects(payload, trust)
        return self.connected.isdisjoint(roots) if roots else preflight.has_unknown_ca(payload, trust)

    def is_accepted(self, host: str) -> bool:
        """Return whether this root was accepted for a host."""
        return self.fingerprint in self.accepted().get(host, ())

    @property
    def text(self) -> str:
        """The name and fingerprint, for messages."""
        return f"{self.name} (SHA-256 {self.fingerprint})"


NO_ROOT = NewRoot("", "", frozenset(), dict)
