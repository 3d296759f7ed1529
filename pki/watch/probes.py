"""Every service seen from outside, all at the same time: what it serves, and whom it lets in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pki.graph import Plan
from pki.house import House


@dataclass(frozen=True, slots=True)
class Probed:
    """What was seen of one service. `wrong` is a phrase that reads well after its name; empty when all is as it should be.

    `reached` is whether anything answered; `not_after`, `fingerprint` (SHA-256, hexadecimal) and `version` (`TLSv1.3`)
    are those of the handshake, empty without one; `seconds` is what the look took.
    """

    host: str
    service: str
    name: str
    port: int
    access: str
    wrong: str = ""
    reached: bool = True
    not_after: datetime | None = None
    fingerprint: str = ""
    version: str = ""
    seconds: float = 0.0


def sweep(house: House, plan: Plan) -> Sequence[Probed]:
    """Look at every service that can be seen from here."""
    return ()
