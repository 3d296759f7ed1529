"""Client identities and their devices: which certificate was exported, which is installed, and which is not yet.

An identity is in use once any of its certificates was exported or recorded as installed. From then on, a newer
certificate that is not installed yet causes a reminder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pki.common.cache import digest_of
from pki.common.durations import backdate
from pki.common.notice import Notice
from pki.config.leaf_certificates import client_artifact
from pki.config.model import Inventory
from pki.ledger.types import Decision, Issued
from pki.pipeline.plan import Plan
from pki.project.ledger_view import LedgerView


@dataclass(frozen=True, slots=True)
class IdentityState:
    """A client in pki.yaml: its newest valid certificate, and when one was last exported and installed.

    `device_serial` is the serial number of the certificate that the device has, as far as that is recorded: the last
    certificate that was installed, else the first that was exported, else 0. `device` is that certificate, if the ledger
    has it.
    """

    name: str
    newest: Issued | None
    exported: Decision | None
    installed: Decision | None
    device_serial: int
    device: Issued | None

    @property
    def has_newer(self) -> bool:
        """Return whether a newer certificate exists that is not installed yet."""
        return self.device_serial != 0 and self.newest is not None and self.device_serial != self.newest.serial


def _serial_of(decision: Decision) -> int:
    """Return the serial number (hexadecimal) at the beginning of the detail of an export or installation; 0 without one."""
    first = decision.detail.partition(" ")[0]
    return int(first, 16) if first and set(first) <= set("0123456789abcdef") else 0


def identities(
    inventory: Inventory, now: datetime, ledger_view: LedgerView, *, in_use: bool = False
) -> Iterator[IdentityState]:
    """Yield every client in pki.yaml with its certificates in the ledger, or only those in use."""
    decisions = ledger_view.ledger.decisions() if ledger_view.has_ledger else []
    in_use_artifacts = {decision.artifact for decision in decisions if decision.decision in {"exported", "installed"}}
    for name in inventory.clients:
        artifact = client_artifact(name)
        if in_use and artifact not in in_use_artifacts:
            continue
        issued = ledger_view.ledger.certificates(artifact=artifact) if ledger_view.has_ledger else []
        valid = [certificate for certificate in issued if certificate.not_after >= now and not certificate.revoked]
        exports, installs = (
            [decision for decision in decisions if (decision.artifact, decision.decision) == (artifact, kind)]
            for kind in ("exported", "installed")
        )
        handed_over = installs[-1:] or exports[:1]
        device_serial = _serial_of(handed_over[0]) if handed_over else 0
        yield IdentityState(
            name,
            valid[-1] if valid else None,
            exports[-1] if exports else None,
            installs[-1] if installs else None,
            device_serial,
            next((certificate for certificate in issued if certificate.serial == device_serial), None),
        )


def notes(inventory: Inventory, now: datetime, ledger_view: LedgerView, plan: Plan) -> Iterator[Notice]:
    """Yield a reminder for each client certificate that must be installed; cached while the ledger does not change."""
    clients = [name for name, leaf in plan.leaves.items() if leaf.client]

    def read() -> list[tuple[str, int, int, bool]]:
        return [
            (
                identity.name,
                _issued_at(identity.newest),
                int(identity.device.not_after.timestamp()),
                bool(identity.device.revoked),
            )
            for identity in (identities(inventory, now, ledger_view, in_use=True) if clients else ())
            if identity.has_newer and identity.newest and identity.device
        ]

    rows = ledger_view.cached("installed", digest_of(sorted(clients)), read, as_of=now)
    for name, issued, end, is_revoked in rows:
        yield Notice(
            client_artifact(name),
            f"a new certificate was issued on {_day(issued)} and is not installed yet; the old one {_end(now, end, is_revoked)}",
            f"install it on its device, then: ./run invoke client.installed {name}",
        )


def _end(now: datetime, end: int, is_revoked: bool) -> str:
    if is_revoked:
        return "is revoked"
    return f"{'expires' if end > now.timestamp() else 'expired'} on {_day(end)}"


def _issued_at(issued: Issued) -> int:
    """Return when a certificate was issued, in seconds since 1970: notBefore without the backdating."""
    return int((issued.not_before + backdate(issued.not_after - issued.not_before)).timestamp())


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
