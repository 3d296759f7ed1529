"""Client identities on their way to people's devices: which one was handed out, installed, and which one waits.

One is in use once any certificate of it was handed out, or recorded as installed; from then on, a newer one that is
not installed yet is worth a reminder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pki.common.cache import digest_of
from pki.common.durations import backdate
from pki.config.leaf_certificates import client_artifact
from pki.ledger.types import Decision, Issued
from pki.pipeline.desired_state import Notice
from pki.pipeline.plan import Plan
from pki.project.project import Project


@dataclass(frozen=True, slots=True)
class Identity:
    """One client by its name in pki.yaml: its newest valid certificate, and the last time it was handed out or installed.

    `given` is the serial number of what its device has, as far as anybody said: what was installed last, else what was
    handed out first, 0 where nothing was; `device` is that certificate, where the ledger knows it.
    """

    name: str
    newest: Issued | None
    exported: Decision | None
    installed: Decision | None
    given: int
    device: Issued | None

    @property
    def waits(self) -> bool:
        """Whether a newer certificate waits to be installed."""
        return self.given != 0 and self.newest is not None and self.given != self.newest.serial


def _serial_of(decision: Decision) -> int:
    """The serial number with which the detail of an export or installation begins; 0 where it does not."""
    first = decision.detail.partition(" ")[0]
    return int(first, 16) if first and set(first) <= set("0123456789abcdef") else 0


def identities(project: Project, *, in_use: bool = False) -> Iterator[Identity]:
    """Every client of pki.yaml, as the ledger knows it, or those that are in use."""
    decided = project.ledger.decisions() if project.has_ledger else []
    used = {one.artifact for one in decided if one.decision in {"exported", "installed"}}
    for name in project.inventory.clients:
        artifact = client_artifact(name)
        if in_use and artifact not in used:
            continue
        issued = project.ledger.certificates(artifact=artifact) if project.has_ledger else []
        valid = [one for one in issued if one.not_after >= project.now and not one.revoked]
        exports, installs = (
            [one for one in decided if (one.artifact, one.decision) == (artifact, what)]
            for what in ("exported", "installed")
        )
        told = installs[-1:] or exports[:1]
        given = _serial_of(told[0]) if told else 0
        yield Identity(
            name,
            valid[-1] if valid else None,
            exports[-1] if exports else None,
            installs[-1] if installs else None,
            given,
            next((one for one in issued if one.serial == given), None),
        )


def reminders(project: Project, plan: Plan) -> Iterator[Notice]:
    """What people have to install: known without a look into a ledger that is as it was."""
    clients = [name for name, leaf in plan.leaves.items() if leaf.client]
    known = digest_of(sorted(clients))
    kept = project.recall_from_ledger("installed", known)
    if kept is None:
        kept = [
            [one.name, _issued_at(one.newest), int(one.device.not_after.timestamp()), bool(one.device.revoked)]
            for one in (identities(project, in_use=True) if clients else ())
            if one.waits and one.newest and one.device
        ]
        project.remember_from_ledger("installed", known, kept)
    for name, renewed, end, is_revoked in kept:
        yield Notice(
            client_artifact(name),
            f"was renewed on {_day(renewed)} and is not installed yet; the old one {_end(project, end, is_revoked)}",
            f"install it on its device, then: ./run invoke client.installed {name}",
        )


def _end(project: Project, end: int, is_revoked: bool) -> str:
    if is_revoked:
        return "is revoked"
    return f"{'ends' if end > project.now.timestamp() else 'ended'} on {_day(end)}"


def _issued_at(one: Issued) -> int:
    return int((one.not_before + backdate(one.not_after - one.not_before)).timestamp())


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
