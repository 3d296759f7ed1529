"""What the ledger knows, in plain values, and what it can be asked: the shape that the rest of the house sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
DECISIONS = ("withheld", "released", "exported", "installed")


@dataclass(frozen=True, slots=True)
class Entry:
    """One revoked certificate on a CRL; `reason` is one of REASONS."""

    serial: int
    revoked_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate as the ledger holds it; `revoked` is a reason or empty."""

    serial: int
    issuer: str
    artifact: str
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    reason: str
    revoked: str
    pem: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided or did about an artifact; `decision` is one of DECISIONS.

    `withheld` and `released`: whether a revoked leaf is replaced. `exported` and `installed`: how far an identity got on
    its way to a device; their `detail` begins with the serial number in hexadecimal.
    """

    artifact: str
    decision: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    at: datetime
    kind: str
    subject: str
    hash: str


class Ledger(Protocol):
    """Every certificate issued and revoked, every CRL number, every decision. See `ledger.py` for what each call promises."""

    def record_certificate(
        self, cert: x509.Certificate, *, issuer: str, artifact: str, profile: str, reason: str, at: datetime
    ) -> None: ...

    def record_revocation(self, issued: Issued, *, reason: str, at: datetime) -> None: ...

    def record_crl(self, crl: x509.CertificateRevocationList, *, issuer: str, reason: str, at: datetime) -> None: ...

    def record_decision(self, artifact: str, decision: str, detail: str, at: datetime) -> None: ...

    def decisions(self, *, artifact: str | None = None) -> list[Decision]: ...

    def certificates(
        self, *, artifact: str | None = None, serial: int | None = None, since: datetime | None = None
    ) -> list[Issued]: ...

    def revoked_serials(self, since: datetime) -> frozenset[int]: ...

    def revoked(self, issuer: str, still_valid_at: datetime) -> list[Entry]: ...

    def last_crl(self, issuer: str) -> tuple[int, datetime] | None: ...

    def has_crl(self, issuer: str, number: int) -> bool: ...

    def events(self, last: int | None = None) -> list[Event]: ...

    def newest(self) -> Event | None: ...

    def verify(self) -> list[str]: ...

    def close(self) -> None: ...
